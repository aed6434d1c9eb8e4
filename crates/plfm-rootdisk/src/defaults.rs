//! What an image says about how its program runs, and how that becomes a workload. Pure.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use plfm_guest_protocol::{Rlimit, Sensitive, Workload, signal_number};

/// The search path of a program whose image sets none, as other engines have it.
const PATH_DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// What asks a program to end whose image says nothing.
const STOP_SIGNAL_DEFAULT: &str = "SIGTERM";
/// How long it may take, in seconds, if nobody says otherwise.
const STOP_GRACE_SECONDS_DEFAULT: u32 = 10;

/// What an image's configuration says about its program. Environment values do not print.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ImageDefaults {
    /// The program and its first arguments.
    pub entrypoint: Vec<String>,
    /// The arguments after them, or the program, if there is no entrypoint.
    pub cmd: Vec<String>,
    /// The environment.
    pub env: BTreeMap<String, Sensitive>,
    /// Where it runs.
    pub working_dir: Option<String>,
    /// Who it runs as: `name`, `uid`, `name:group`, `uid:gid`.
    pub user: Option<String>,
    /// What asks it to end.
    pub stop_signal: Option<String>,
    /// Ports that it listens on, for people: nothing is opened by them.
    pub exposed_ports: Vec<ExposedPort>,
    /// Directories that hold its data: where a volume may be mounted.
    pub volumes: Vec<String>,
}

/// A port, or a range of them, that an image's program listens on.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExposedPort {
    /// The first port.
    pub first: u16,
    /// The last one; the same for a single port.
    pub last: u16,
    /// `tcp`, `udp` or `sctp`.
    pub protocol: String,
}

/// A text that is not a port.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a port as in 80, 80/tcp or 8000-8010/udp")]
pub struct ExposedPortError;

impl FromStr for ExposedPort {
    type Err = ExposedPortError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
        let protocol = protocol.to_ascii_lowercase();
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let port = |text: &str| {
            text.parse::<u16>()
                .ok()
                .filter(|port| *port > 0)
                .ok_or(ExposedPortError)
        };
        let (first, last) = (port(first)?, port(last)?);
        if first > last || !["tcp", "udp", "sctp"].contains(&protocol.as_str()) {
            return Err(ExposedPortError);
        }
        Ok(Self {
            first,
            last,
            protocol,
        })
    }
}

impl fmt::Display for ExposedPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.first == self.last {
            true => write!(f, "{}/{}", self.first, self.protocol),
            false => write!(f, "{}-{}/{}", self.first, self.last, self.protocol),
        }
    }
}

/// What whoever starts an instance asks for; what is absent is the image's.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WorkloadRequest {
    /// Another entrypoint. With it the image's arguments do not count: they were meant for its own.
    pub entrypoint: Option<Vec<String>>,
    /// Other arguments.
    pub args: Option<Vec<String>>,
    /// More environment, and other values.
    pub env: BTreeMap<String, Sensitive>,
    /// Another directory.
    pub cwd: Option<String>,
    /// Another user.
    pub user: Option<String>,
    /// Supplementary groups.
    pub groups: Vec<String>,
    /// Whether standard input comes from the host.
    pub stdin: bool,
    /// Whether the program gets a terminal.
    pub tty: bool,
    /// Another signal.
    pub stop_signal: Option<String>,
    /// How long the program may take to end.
    pub stop_grace_seconds: Option<u32>,
    /// Resource limits.
    pub rlimits: Vec<Rlimit>,
    /// How many processes and threads it may have.
    pub pids_max: Option<u32>,
}

/// Why an image and a request make no workload.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MergeError {
    /// Neither says what to run.
    #[error("the image has neither entrypoint nor command: say what to run")]
    NoCommand,
    /// The program's name is empty.
    #[error("the program's name is empty")]
    EmptyProgram,
    /// The signal is not one that Linux has.
    #[error("{0:?} is not a signal")]
    StopSignal(String),
}

impl MergeError {
    /// A stable word for what is wrong.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoCommand | Self::EmptyProgram => "image_no_command",
            Self::StopSignal(_) => "image_stop_signal",
        }
    }
}

/// The workload that a request makes of an image.
///
/// # Errors
/// [`MergeError`] where the two together do not say what to run, or name a signal that does not exist.
pub fn merge(defaults: &ImageDefaults, request: WorkloadRequest) -> Result<Workload, MergeError> {
    let stop_signal = request.stop_signal.or_else(|| defaults.stop_signal.clone());
    let stop_signal = stop_signal.unwrap_or_else(|| STOP_SIGNAL_DEFAULT.to_owned());
    if signal_number(&stop_signal).is_none() {
        return Err(MergeError::StopSignal(stop_signal.chars().take(40).collect()));
    }
    let mut env = defaults.env.clone();
    env.extend(request.env);
    env.entry("PATH".to_owned())
        .or_insert_with(|| Sensitive::new(PATH_DEFAULT));
    let cwd = request.cwd.or_else(|| defaults.working_dir.clone());
    Ok(Workload {
        argv: argv(defaults, request.entrypoint, request.args)?,
        cwd: absolute(cwd.unwrap_or_default()),
        env,
        uid: 0,
        gid: 0,
        user: request.user.or_else(|| defaults.user.clone()),
        groups: request.groups,
        stdin: request.stdin,
        tty: request.tty,
        stop_signal,
        stop_grace_seconds: request.stop_grace_seconds.unwrap_or(STOP_GRACE_SECONDS_DEFAULT),
        rlimits: request.rlimits,
        pids_max: request.pids_max,
    })
}

fn argv(
    defaults: &ImageDefaults,
    entrypoint: Option<Vec<String>>,
    args: Option<Vec<String>>,
) -> Result<Vec<String>, MergeError> {
    let args = args.unwrap_or_else(|| {
        if entrypoint.is_some() {
            Vec::new()
        } else {
            defaults.cmd.clone()
        }
    });
    let mut argv = entrypoint.unwrap_or_else(|| defaults.entrypoint.clone());
    argv.extend(args);
    match argv.first().map(String::is_empty) {
        None => Err(MergeError::NoCommand),
        Some(true) => Err(MergeError::EmptyProgram),
        Some(false) => Ok(argv),
    }
}

/// A directory of the image that is written without its slash is meant from the root.
fn absolute(cwd: String) -> String {
    if cwd.starts_with('/') {
        cwd
    } else {
        format!("/{cwd}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    fn image() -> ImageDefaults {
        ImageDefaults {
            entrypoint: texts(&["/entry"]),
            cmd: texts(&["serve"]),
            env: BTreeMap::from([("MODE".to_owned(), Sensitive::new("fast"))]),
            working_dir: Some("srv".to_owned()),
            user: Some("app".to_owned()),
            stop_signal: Some("SIGQUIT".to_owned()),
            ..ImageDefaults::default()
        }
    }

    fn argv_of(request: WorkloadRequest) -> Vec<String> {
        merge(&image(), request).unwrap().argv
    }

    #[test]
    fn an_image_alone_makes_its_own_workload() {
        let workload = merge(&image(), WorkloadRequest::default()).unwrap();
        assert_eq!(workload.argv, ["/entry", "serve"]);
        assert_eq!(
            (workload.cwd.as_str(), workload.user.as_deref()),
            ("/srv", Some("app"))
        );
        assert_eq!(workload.stop_signal, "SIGQUIT");
        assert_eq!(workload.env.get("PATH").unwrap().reveal(), PATH_DEFAULT);
    }

    #[test]
    fn arguments_replace_the_command_and_an_entrypoint_replaces_both() {
        let args = Some(texts(&["check"]));
        let entrypoint = Some(texts(&["/sh"]));
        assert_eq!(
            argv_of(WorkloadRequest {
                args: args.clone(),
                ..Default::default()
            }),
            ["/entry", "check"]
        );
        assert_eq!(
            argv_of(WorkloadRequest {
                entrypoint: entrypoint.clone(),
                ..Default::default()
            }),
            ["/sh"]
        );
        assert_eq!(
            argv_of(WorkloadRequest {
                entrypoint,
                args,
                ..Default::default()
            }),
            ["/sh", "check"]
        );
        assert_eq!(
            argv_of(WorkloadRequest {
                args: Some(vec![]),
                ..Default::default()
            }),
            ["/entry"]
        );
    }

    #[test]
    fn a_request_wins_over_the_image_name_by_name() {
        let env = BTreeMap::from([
            ("MODE".to_owned(), Sensitive::new("slow")),
            ("A".to_owned(), Sensitive::new("b")),
        ]);
        let workload = merge(
            &image(),
            WorkloadRequest {
                env,
                ..Default::default()
            },
        )
        .unwrap();
        let value = |name: &str| workload.env.get(name).map(|value| value.reveal().to_owned());
        assert_eq!(
            (value("MODE").as_deref(), value("A").as_deref()),
            (Some("slow"), Some("b"))
        );
    }

    #[test]
    fn nothing_to_run_and_unknown_signals_are_refused() {
        let nothing = merge(&ImageDefaults::default(), WorkloadRequest::default());
        assert_eq!(nothing, Err(MergeError::NoCommand));
        let request = WorkloadRequest {
            stop_signal: Some("SIGWHAT".to_owned()),
            ..Default::default()
        };
        assert_eq!(
            merge(&image(), request),
            Err(MergeError::StopSignal("SIGWHAT".to_owned()))
        );
    }

    #[test]
    fn ports_round_trip_and_bad_ones_are_refused() {
        for text in ["80/tcp", "53/udp", "8000-8010/sctp"] {
            assert_eq!(text.parse::<ExposedPort>().unwrap().to_string(), text);
        }
        assert_eq!("443".parse::<ExposedPort>().unwrap().to_string(), "443/tcp");
        for bad in ["", "0", "x/tcp", "80/icmp", "90-80", "70000"] {
            assert!(bad.parse::<ExposedPort>().is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn environment_values_do_not_print() {
        assert!(!format!("{:?}", image()).contains("fast"));
    }
}
