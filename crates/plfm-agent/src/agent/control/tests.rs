//! Enrolment, renewal and what comes after, against a server that speaks HTTPS and asks for certificates.

mod server;

use std::path::Path;
use std::sync::Arc;

use clap::Parser as _;
use plfm_api::control::{HostStatus, Target};
use tokio::sync::Notify;

use self::server::{Asked, TestServer};
use super::link::{Side, Told};
use super::transport::TransportError;
use super::*;

fn settings(dir: &Path, server: &TestServer, token: &str) -> Settings {
    let path = |name: &str| dir.join(name).to_str().unwrap().to_owned();
    std::fs::create_dir_all(path("state/instances")).unwrap();
    std::fs::write(path("ca.pem"), server.ca()).unwrap();
    std::fs::write(path("token"), format!("{token}\n")).unwrap();
    let state = path("state");
    let args = [
        "plfm-agent",
        "--state-dir",
        &state,
        "--control",
        &server.url(),
        "--control-ca",
        &path("ca.pem"),
        "--enroll-token-file",
        &path("token"),
        "--host-name",
        "rack-1",
    ];
    Settings::parse_from(args)
}

/// A host that has nothing, goes by whatever it is told, and remembers whom it reached.
struct Bare {
    control: Arc<Control>,
    contact: Notify,
}

impl Side for Bare {
    async fn status(&self) -> Option<HostStatus> {
        None
    }

    fn wants(&self) -> Vec<ReleaseId> {
        Vec::new()
    }

    fn generation(&self) -> Generation {
        self.control.glance().0
    }

    fn is_watched(&self) -> bool {
        self.control.is_watched()
    }

    async fn apply(&self, target: Target) -> bool {
        let control = self.control.clone();
        tokio::task::spawn_blocking(move || control.take_target(target))
            .await
            .unwrap()
    }

    async fn told(&self, _: Told) {}

    fn contact(&self, result: Result<(), &TransportError>) {
        if let Err(error) = result {
            self.control.note_problem(error.code(), error.to_string(), None);
        }
        self.contact.notify_one();
    }

    fn random(&self) -> u64 {
        0
    }
}

/// Keeps a host linked until `enough`.
async fn linked_until(control: &Arc<Control>, server: &TestServer, enough: impl Fn(&[Asked]) -> bool) {
    let side = Bare {
        control: control.clone(),
        contact: Notify::new(),
    };
    tokio::select! {
        () = control.keep_linked(&side) => panic!("it ended"),
        () = server.wait_for(enough) => {}
    }
}

fn is_heartbeat(asked: &Asked) -> bool {
    matches!(asked, Asked::Heartbeat { .. })
}

fn heartbeats(asked: &[Asked]) -> usize {
    asked.iter().filter(|asked| is_heartbeat(asked)).count()
}

fn enrolments(asked: &[Asked]) -> Vec<String> {
    let tokens = asked.iter().filter_map(|asked| match asked {
        Asked::Enroll { token, .. } => Some(token.clone()),
        _ => None,
    });
    tokens.collect()
}

#[tokio::test]
async fn a_host_enrols_with_one_key_whatever_is_lost_and_speaks_with_its_certificate() {
    let server = TestServer::start().await;
    server.lose_answers(1);
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), &server, "token-1");
    let control = Control::open(&settings).unwrap().unwrap();
    linked_until(&control, &server, |asked| heartbeats(asked) >= 1).await;
    let asked = server.asked();
    let keys: Vec<&Vec<u8>> = asked
        .iter()
        .filter_map(|asked| match asked {
            Asked::Enroll { key, .. } => Some(key),
            _ => None,
        })
        .collect();
    assert!(
        keys.len() >= 2 && keys.windows(2).all(|pair| pair[0] == pair[1]),
        "the same key each time"
    );
    // The first answer was lost, and its certificate with it.
    assert!(
        asked.contains(&Asked::Heartbeat { certificate: 1 }),
        "{}",
        asked.len()
    );
    let view = control.view(Timestamp::now());
    assert_eq!(view.host.unwrap().as_str(), server::HOST);
    // And again after a restart, without a token.
    let before = enrolments(&server.asked()).len();
    drop(control);
    let control = Control::open(&settings).unwrap().unwrap();
    linked_until(&control, &server, |asked| heartbeats(asked) >= 2).await;
    assert_eq!(enrolments(&server.asked()).len(), before);
}

#[tokio::test]
async fn a_certificate_is_renewed_with_another_key_when_it_is_due() {
    let server = TestServer::start().await;
    server.renew_at_once();
    let dir = tempfile::tempdir().unwrap();
    let control = Control::open(&settings(dir.path(), &server, "token-1"))
        .unwrap()
        .unwrap();
    let spoke_anew = |asked: &[Asked]| {
        asked
            .iter()
            .any(|asked| matches!(asked, Asked::Heartbeat { certificate: 1.., .. }))
    };
    linked_until(&control, &server, spoke_anew).await;
    let asked = server.asked();
    let keys: Vec<&Vec<u8>> = asked
        .iter()
        .filter_map(|asked| match asked {
            Asked::Enroll { key, .. } | Asked::Renew { key } => Some(key),
            _ => None,
        })
        .collect();
    assert_eq!(keys.len(), 2);
    assert_ne!(keys[0], keys[1]);
}

#[tokio::test]
async fn a_host_whose_certificate_is_over_says_so_and_enrols_again_with_a_new_token() {
    let server = TestServer::start().await;
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), &server, "token-1");
    let control = Control::open(&settings).unwrap().unwrap();
    linked_until(&control, &server, |asked| heartbeats(asked) >= 1).await;
    server.expire_certificates();
    let new_token = settings.enroll_token_file.clone().unwrap();
    let waiting = async {
        loop {
            let problem = control.view(Timestamp::now()).problem;
            if problem.is_some_and(|problem| problem.code == "certificate_expired" && problem.hint.is_some())
            {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    let side = Bare {
        control: control.clone(),
        contact: Notify::new(),
    };
    tokio::select! {
        () = control.keep_linked(&side) => panic!("it ended"),
        () = waiting => {}
    }
    // The used token was shown once more, and not again.
    assert_eq!(enrolments(&server.asked()), ["token-1", "token-1"]);
    std::fs::write(new_token, "token-2").unwrap();
    linked_until(&control, &server, |asked| {
        enrolments(asked).last().is_some_and(|token| token == "token-2")
            && is_heartbeat(asked.last().unwrap())
    })
    .await;
}

#[tokio::test]
async fn a_server_that_another_authority_certified_is_told_nothing() {
    let (server, other) = (TestServer::start().await, TestServer::start().await);
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), &server, "token-1");
    std::fs::write(settings.control_ca.as_ref().unwrap(), other.ca()).unwrap();
    let control = Control::open(&settings).unwrap().unwrap();
    let side = Bare {
        control: control.clone(),
        contact: Notify::new(),
    };
    let refused = async {
        loop {
            if let Some(problem) = control.view(Timestamp::now()).problem {
                return problem;
            }
            tokio::task::yield_now().await;
        }
    };
    let problem = tokio::select! {
        () = control.keep_linked(&side) => panic!("it ended"),
        problem = refused => problem,
    };
    assert_eq!(problem.code, "control_unreachable");
    assert!(!problem.detail.contains("token-1"), "{}", problem.detail);
    assert_eq!(server.asked(), []);
}

#[test]
fn a_target_is_on_disk_before_it_counts_and_an_older_one_never_does() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(TestServer::start());
    let dir = tempfile::tempdir().unwrap();
    let settings = settings(dir.path(), &server, "token-1");
    let open = || Control::open(&settings).unwrap().unwrap();
    let target = |generation, default: &str| Target {
        generation: Generation(generation),
        default: Some(default.parse().unwrap()),
        ..Target::default()
    };
    let (one, two) = ("6.1.1-a+guestinit-1.0.0-a", "6.1.2-a+guestinit-1.0.0-a");
    let control = open();
    assert!(control.take_target(target(5, one)));
    assert!(!control.take_target(target(5, one)), "once");
    control.set_draining(true);
    drop(control);
    let control = open();
    assert_eq!((control.glance().0, control.is_draining()), (Generation(5), true));
    assert!(!control.take_target(target(4, two)));
    assert!(!control.take_target(target(5, two)));
    let view = control.view(Timestamp::now());
    assert_eq!(view.problem.unwrap().code, "generation_contradiction");
    assert_eq!(view.default.unwrap().to_string(), one);
    assert!(control.take_target(target(6, two)));
    assert!(control.is_draining(), "a new target is no word on that");
    // A disk that cannot be written to.
    std::fs::remove_dir_all(control.dir.path()).unwrap();
    assert!(!control.take_target(target(7, one)));
    assert_eq!(control.glance().0, Generation(6));
}
