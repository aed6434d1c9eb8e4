//! Both ends of the control connection: garbage never panics and is bounded, and a scripted conversation goes
//! exactly as the two tables below say, however its bytes are cut.

use std::collections::VecDeque;

use plfm_guest_protocol::{
    Config, Exit, Failure, GuestEvent, GuestMessage, GuestSession, Hello, HostEvent, HostMessage,
    HostSession, PROTOCOL, ProtocolError, Reason, Stage, Status,
};

use super::pieces::pieces;

/// The first byte chooses: garbage for both ends, or a script.
pub fn check(input: &[u8]) {
    let Some((mode, rest)) = input.split_first() else {
        return;
    };
    if mode.is_multiple_of(2) {
        garbage(*mode, rest);
    } else {
        script(rest);
    }
}

fn garbage(seed: u8, bytes: &[u8]) {
    assert_eq!(guest_events(&pieces(seed, bytes)), guest_events(&[bytes]));
    assert_eq!(host_events(&pieces(seed, bytes)), host_events(&[bytes]));
}

fn guest_events(pieces: &[&[u8]]) -> Vec<String> {
    let (mut guest, _) = GuestSession::start(hello(PROTOCOL));
    let mut events = Vec::new();
    for piece in pieces {
        guest.push(piece);
        loop {
            match guest.next_event() {
                Ok(Some(event)) => events.push(format!("{event:?}")),
                Ok(None) => break,
                Err(error) => {
                    events.push(error.to_string());
                    return events;
                }
            }
        }
    }
    events
}

fn host_events(pieces: &[&[u8]]) -> Vec<String> {
    let mut host = HostSession::default();
    let mut events = Vec::new();
    for piece in pieces {
        host.push(piece);
        loop {
            match host.next_event() {
                Ok(Some(event)) => {
                    if matches!(event, HostEvent::Hello(_)) {
                        host.config(&config()).expect("the hello is answered");
                    }
                    events.push(format!("{event:?}"));
                }
                Ok(None) => break,
                Err(error) => {
                    events.push(error.to_string());
                    return events;
                }
            }
        }
    }
    events
}

/// A hello that speaks `protocol`.
pub fn hello(protocol: u32) -> Hello {
    Hello {
        guest_init_version: "1.0.0".to_owned(),
        guest_init_protocol: protocol,
        instance_id: "i-1".to_owned(),
        boot_id: "3f0a3c1e-7b1e-4a59-8a35-0c9f0e7a9d11".to_owned(),
    }
}

/// A small config of generation 1.
pub fn config() -> Config {
    serde_json::from_str(
        r#"{"config_version":"v1","instance_id":"i-1","generation":1,"workload":{"argv":["a"]}}"#,
    )
    .expect("a config")
}

/// Everything that the host can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Say {
    Config,
    Reject,
    Stop,
    Signal,
}

/// Everything that the guest can say. An ack of another generation is its own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tell {
    Hello,
    OtherHello,
    Ack,
    OtherAck,
    Applied,
    Ready,
    Failed,
    Exited,
}

pub const SAYS: [Say; 4] = [Say::Config, Say::Reject, Say::Stop, Say::Signal];
pub const TELLS: [Tell; 8] = [
    Tell::Hello,
    Tell::OtherHello,
    Tell::Ack,
    Tell::OtherAck,
    Tell::Applied,
    Tell::Ready,
    Tell::Failed,
    Tell::Exited,
];

/// Where the guest's end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Guest {
    HelloSent,
    Configured,
    Applied,
    Ready,
    Over,
}

/// Where the host's end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Host {
    Listening,
    Greeted,
    ConfigSent,
    Acked,
    Applied,
    Ready,
    Over,
}

impl Guest {
    /// Where the guest is after it heard `say`; `None`: it refuses it.
    pub fn hears(self, say: Say) -> Option<Self> {
        match (self, say) {
            (Self::HelloSent, Say::Config) => Some(Self::Configured),
            (Self::HelloSent, Say::Reject) => Some(Self::Over),
            (Self::Configured | Self::Applied | Self::Ready, Say::Stop | Say::Signal) => Some(self),
            _ => None,
        }
    }

    /// Where the guest is after it reported `tell`; `None`: it may not.
    pub fn reports(self, tell: Tell) -> Option<Self> {
        match (self, tell) {
            (Self::Configured, Tell::Applied) => Some(Self::Applied),
            (Self::Applied, Tell::Ready) => Some(Self::Ready),
            (Self::Ready, Tell::Exited) => Some(Self::Over),
            (Self::HelloSent | Self::Configured | Self::Applied, Tell::Failed) => Some(Self::Over),
            _ => None,
        }
    }
}

impl Host {
    /// Where the host is after it heard `tell`; `None`: it refuses it.
    pub fn hears(self, tell: Tell) -> Option<Self> {
        match (self, tell) {
            (Self::Listening, Tell::Hello) => Some(Self::Greeted),
            (Self::ConfigSent, Tell::Ack) => Some(Self::Acked),
            (Self::Acked, Tell::Applied) => Some(Self::Applied),
            (Self::Applied, Tell::Ready) => Some(Self::Ready),
            (Self::Ready, Tell::Exited) => Some(Self::Over),
            (Self::Greeted | Self::ConfigSent | Self::Acked | Self::Applied, Tell::Failed) => {
                Some(Self::Over)
            }
            _ => None,
        }
    }

    /// Where the host is after it said `say`; `None`: it may not.
    pub fn says(self, say: Say) -> Option<Self> {
        match (self, say) {
            (Self::Greeted, Say::Config) => Some(Self::ConfigSent),
            (Self::Greeted, Say::Reject) => Some(Self::Over),
            (Self::ConfigSent | Self::Acked | Self::Applied | Self::Ready, Say::Stop | Say::Signal) => {
                Some(self)
            }
            _ => None,
        }
    }
}

fn status(tell: Tell) -> Status {
    let timestamp = "2026-11-24T00:00:00.000Z".to_owned();
    let exit = Exit {
        exit_code: Some(0),
        signal: None,
        oom_killed: false,
        duration_ms: 1,
        reason: None,
    };
    let failure = Failure {
        stage: Stage::RootDisk,
        reason: Reason::RootFailed,
        detail: "no root".to_owned(),
        errno: None,
    };
    match tell {
        Tell::Applied => Status::ConfigApplied { timestamp },
        Tell::Ready => Status::Ready {
            timestamp,
            stages: Vec::new(),
            memory: None,
        },
        Tell::Failed => Status::Failed {
            timestamp,
            failure,
            stages: Vec::new(),
        },
        Tell::Exited => Status::Exited { timestamp, exit },
        Tell::Hello | Tell::OtherHello | Tell::Ack | Tell::OtherAck => panic!("{tell:?} is no status"),
    }
}

/// The line of a message of the guest.
pub fn told(tell: Tell) -> Vec<u8> {
    let ack = |generation| GuestMessage::Ack {
        config_version: "v1".to_owned(),
        generation,
    };
    let message = match tell {
        Tell::Hello => GuestMessage::Hello(hello(PROTOCOL)),
        Tell::OtherHello => GuestMessage::Hello(hello(PROTOCOL + 1)),
        Tell::Ack => ack(1),
        Tell::OtherAck => ack(2),
        Tell::Applied | Tell::Ready | Tell::Failed | Tell::Exited => GuestMessage::Status(status(tell)),
    };
    let mut line = serde_json::to_vec(&message).expect("JSON");
    line.push(b'\n');
    line
}

/// The line of a message of the host.
pub fn said(say: Say) -> Vec<u8> {
    let message = match say {
        Say::Config => HostMessage::Config(Box::new(config())),
        Say::Reject => HostMessage::Reject {
            code: "no".to_owned(),
            detail: String::new(),
        },
        Say::Stop => HostMessage::Stop {
            grace_seconds: Some(1),
        },
        Say::Signal => HostMessage::Signal {
            signal: "HUP".to_owned(),
        },
    };
    let mut line = serde_json::to_vec(&message).expect("JSON");
    line.push(b'\n');
    line
}

fn heard_by_guest(event: &GuestEvent) -> Say {
    match event {
        GuestEvent::Configure { .. } => Say::Config,
        GuestEvent::Rejected { .. } => Say::Reject,
        GuestEvent::Stop { .. } => Say::Stop,
        GuestEvent::Signal { .. } => Say::Signal,
    }
}

fn heard_by_host(event: &HostEvent) -> Tell {
    match event {
        HostEvent::Hello(_) => Tell::Hello,
        HostEvent::Acked { .. } => Tell::Ack,
        HostEvent::ConfigApplied => Tell::Applied,
        HostEvent::Ready { .. } => Tell::Ready,
        HostEvent::Failed { .. } => Tell::Failed,
        HostEvent::Exited(_) => Tell::Exited,
    }
}

/// Lines under way in one direction, and where each ends.
struct Link<T> {
    bytes: VecDeque<u8>,
    messages: VecDeque<(usize, T)>,
}

impl<T> Link<T> {
    fn new() -> Self {
        Self {
            bytes: VecDeque::new(),
            messages: VecDeque::new(),
        }
    }

    fn send(&mut self, bytes: &[u8], message: T) {
        self.bytes.extend(bytes);
        self.messages.push_back((self.bytes.len(), message));
    }

    /// Up to `count` bytes, and the messages that end in them.
    fn deliver(&mut self, count: usize) -> (Vec<u8>, Vec<T>) {
        let count = count.min(self.bytes.len());
        let bytes = self.bytes.drain(..count).collect();
        let mut whole = Vec::new();
        while let Some((end, message)) = self.messages.pop_front() {
            if end > count {
                self.messages.push_front((end, message));
                break;
            }
            whole.push(message);
        }
        for (end, _) in &mut self.messages {
            *end -= count;
        }
        (bytes, whole)
    }
}

/// Both ends, what is under way between them, and where each ought to be.
pub struct World {
    guest: GuestSession,
    host: HostSession,
    to_guest: Link<Say>,
    to_host: Link<Tell>,
    guest_at: Guest,
    host_at: Host,
    /// An end that has seen an error gives up the connection.
    guest_gone: bool,
    host_gone: bool,
}

impl World {
    /// The guest has dialled and its hello is under way.
    pub fn new() -> Self {
        let (guest, bytes) = GuestSession::start(hello(PROTOCOL));
        let mut to_host = Link::new();
        to_host.send(&bytes, Tell::Hello);
        Self {
            guest,
            host: HostSession::default(),
            to_guest: Link::new(),
            to_host,
            guest_at: Guest::HelloSent,
            host_at: Host::Listening,
            guest_gone: false,
            host_gone: false,
        }
    }

    /// Where both ends are.
    pub fn places(&self) -> (Guest, Host) {
        (self.guest_at, self.host_at)
    }

    /// The guest reports a status, which it may or may not do now.
    pub fn guest_reports(&mut self, tell: Tell) {
        match (self.guest.report(status(tell)), self.guest_at.reports(tell)) {
            (Ok(bytes), Some(next)) => {
                self.guest_at = next;
                self.to_host.send(&bytes, tell);
            }
            (Err(ProtocolError::OutOfOrder { .. }), None) => {}
            (got, expected) => panic!("{tell:?} at {:?}: {got:?}, not {expected:?}", self.guest_at),
        }
    }

    /// The host says something, which it may or may not do now.
    pub fn host_says(&mut self, say: Say) {
        let result = match say {
            Say::Config => self.host.config(&config()),
            Say::Reject => self.host.reject("no", ""),
            Say::Stop => self.host.stop(Some(1)),
            Say::Signal => self.host.signal("HUP"),
        };
        match (result, self.host_at.says(say)) {
            (Ok(bytes), Some(next)) => {
                self.host_at = next;
                self.to_guest.send(&bytes, say);
            }
            (Err(ProtocolError::OutOfOrder { .. }), None) => {}
            (got, expected) => panic!("{say:?} at {:?}: {got:?}, not {expected:?}", self.host_at),
        }
    }

    /// A message that the host never said, on its connection.
    pub fn forge_to_guest(&mut self, say: Say) {
        self.to_guest.send(&said(say), say);
    }

    /// A message that the guest never sent, on its connection.
    pub fn forge_to_host(&mut self, tell: Tell) {
        self.to_host.send(&told(tell), tell);
    }

    /// `count` bytes reach the guest.
    pub fn deliver_to_guest(&mut self, count: usize) {
        let (bytes, messages) = self.to_guest.deliver(count);
        if self.guest_gone {
            return;
        }
        self.guest.push(&bytes);
        for say in messages {
            match (self.guest.next_event(), self.guest_at.hears(say)) {
                (Ok(Some(event)), Some(next)) => {
                    assert_eq!(heard_by_guest(&event), say);
                    self.guest_at = next;
                    if let GuestEvent::Configure { ack, .. } = event {
                        self.to_host.send(&ack, Tell::Ack);
                    }
                }
                (Err(ProtocolError::OutOfOrder { .. }), None) => {
                    self.guest_gone = true;
                    return;
                }
                (got, expected) => panic!("{say:?} at {:?}: {got:?}, not {expected:?}", self.guest_at),
            }
        }
        assert!(matches!(self.guest.next_event(), Ok(None)));
    }

    /// `count` bytes reach the host.
    pub fn deliver_to_host(&mut self, count: usize) {
        let (bytes, messages) = self.to_host.deliver(count);
        if self.host_gone {
            return;
        }
        self.host.push(&bytes);
        for tell in messages {
            match (self.host.next_event(), self.host_at.hears(tell)) {
                (Ok(Some(event)), Some(next)) => {
                    assert_eq!(heard_by_host(&event), tell);
                    self.host_at = next;
                }
                (Err(ProtocolError::ProtocolMismatch { guest }), None) if tell == Tell::OtherHello => {
                    assert_eq!((guest, self.host_at), (PROTOCOL + 1, Host::Listening));
                    // It may still be rejected.
                    self.host_at = Host::Greeted;
                    self.host_gone = true;
                    return;
                }
                (Err(ProtocolError::OutOfOrder { .. }), None) => {
                    self.host_gone = true;
                    return;
                }
                (got, expected) => panic!("{tell:?} at {:?}: {got:?}, not {expected:?}", self.host_at),
            }
        }
        assert!(matches!(self.host.next_event(), Ok(None)));
    }
}

/// Longest script that is played, in steps.
const STEPS_MAX: usize = 2_000;

/// Plays `bytes` as steps. The upper half of each chooses what happens, the lower half with what.
pub fn script(bytes: &[u8]) {
    let mut world = World::new();
    for byte in bytes.iter().take(STEPS_MAX) {
        let with = usize::from(byte & 0x0f);
        match byte >> 4 {
            0..=2 => world.deliver_to_guest(with * with + 1),
            3..=5 => world.deliver_to_host(with * with + 1),
            6 => world.deliver_to_guest(usize::MAX),
            7 => world.deliver_to_host(usize::MAX),
            8..=10 => {
                let statuses = [Tell::Applied, Tell::Ready, Tell::Failed, Tell::Exited];
                world.guest_reports(statuses[with % statuses.len()]);
            }
            11..=13 => world.host_says(SAYS[with % SAYS.len()]),
            14 => world.forge_to_guest(SAYS[with % SAYS.len()]),
            _ => world.forge_to_host(TELLS[with % TELLS.len()]),
        }
    }
}
