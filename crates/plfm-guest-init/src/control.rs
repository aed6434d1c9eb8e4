//! The control connection: the handshake, and what the host asks for afterwards.

use std::time::{Duration, Instant};

use plfm_guest_protocol::{
    CONTROL_PORT, Config, GuestEvent, GuestSession, HANDSHAKE_MS_MAX, Hello, PROTOCOL, ProtocolError, Reason,
    Status,
};
use rustix::event::{PollFd, Timespec, poll};

use crate::VERSION;
use crate::boot::Boot;
use crate::connection::Connection;
use crate::failure::StageError;

/// How much is read at once, in bytes.
const READ_BYTES: usize = 16 * 1024;

pub struct Control {
    pub connection: Connection,
    session: GuestSession,
}

impl Control {
    /// Connects to the host and says hello. A guest that failed before it could read its instance id has an empty one.
    pub fn greet(instance_id: &str, boot_id: &str, patience: Duration) -> std::io::Result<Self> {
        let mut connection = Connection::dial_host(CONTROL_PORT, patience)?;
        let (session, hello) = GuestSession::start(Hello {
            guest_init_version: VERSION.to_owned(),
            guest_init_protocol: PROTOCOL,
            instance_id: instance_id.to_owned(),
            boot_id: boot_id.to_owned(),
        });
        connection.send(&hello);
        Ok(Self { connection, session })
    }

    /// Sends a status. The error is for the log.
    pub fn report(&mut self, status: Status) -> Result<(), String> {
        let bytes = self.session.report(status).map_err(|error| error.to_string())?;
        self.connection.send(&bytes);
        if self.connection.is_open() {
            Ok(())
        } else {
            Err("the control connection is closed".to_owned())
        }
    }

    /// Reads what has come, a bounded piece at a time: the poll loop comes back for the rest, and in between the
    /// line's limit is looked at.
    pub fn read(&mut self) {
        let mut buffer = [0; READ_BYTES];
        if let Some(bytes) = self.connection.read(&mut buffer) {
            self.session.push(bytes);
        }
    }

    /// The next thing that the host asks for.
    pub fn next_event(&mut self) -> Result<Option<GuestEvent>, ProtocolError> {
        self.session.next_event()
    }
}

/// hello, config, ack: all of it within 5 s.
pub fn handshake(boot: &mut Boot, instance_id: &str) -> Result<Config, StageError> {
    let deadline = Instant::now() + Duration::from_millis(HANDSHAKE_MS_MAX);
    let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_err(|error| StageError::os(Reason::MountFailed, "cannot read the boot id", error))?;
    let left = deadline.saturating_duration_since(Instant::now());
    let control = Control::greet(instance_id, boot_id.trim(), left).map_err(|error| {
        StageError::os(
            Reason::HandshakeFailed,
            "cannot connect to the agent (vsock port 5161)",
            error,
        )
    })?;
    if let Ok(copy) = control.connection.stream().try_clone() {
        boot.watchdog.report_to(copy);
    }
    let control = boot.control.insert(control);
    boot.log.add("hello_sent", "");
    let event = wait_for_event(control, deadline)?;
    match event {
        GuestEvent::Configure { config, ack } => {
            control.connection.send(&ack);
            let detail = format!("{} generation {}", config.config_version, config.generation);
            boot.log.add("config_acked", &detail);
            Ok(*config)
        }
        GuestEvent::Rejected { code, detail } => Err(StageError::new(
            Reason::HandshakeFailed,
            format!("the agent rejected this guest: {code}: {detail}"),
        )),
        GuestEvent::Stop { .. } | GuestEvent::Signal { .. } => Err(StageError::new(
            Reason::HandshakeFailed,
            "the agent asked for something before it sent a config",
        )),
    }
}

fn wait_for_event(control: &mut Control, deadline: Instant) -> Result<GuestEvent, StageError> {
    loop {
        match control.next_event() {
            Ok(Some(event)) => return Ok(event),
            Ok(None) => {}
            Err(error) => return Err(StageError::new(Reason::ConfigParseFailed, error.to_string())),
        }
        if !control.connection.is_open() {
            return Err(StageError::new(
                Reason::HandshakeFailed,
                "the agent closed the connection in the handshake",
            ));
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(StageError::new(
                Reason::HandshakeFailed,
                "the agent did not answer the hello within 5 s",
            ));
        }
        let timeout = Timespec::try_from(left).ok();
        let interest = control.connection.interest(true);
        let ready = poll(
            &mut [PollFd::from_borrowed_fd(control.connection.fd(), interest)],
            timeout.as_ref(),
        );
        if ready.is_ok_and(|count| count > 0) {
            control.connection.flush();
            control.read();
        }
    }
}
