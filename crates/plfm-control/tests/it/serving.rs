//! The program: what it makes, says and leaves.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use plfm_api::control::EnrolledHost;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

use crate::plane::{beat, ca, client, csr, identity};
use crate::program::{Program, init, output};

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_logged() {
    let dir = tempfile::tempdir().unwrap();
    let admin = init(dir.path());
    let program = Program::start_with(dir.path(), |serve| {
        serve.env("PLFM_LOG", "trace");
    });
    let client: Client = client(ca(dir.path()), None);
    let mut secrets = vec![admin.clone()];
    for (path, body) in [
        ("/v1/tokens", json!({"name": "x", "role": "admin"})),
        ("/v1/enrollment-tokens", json!({})),
    ] {
        let request = client
            .post(program.url(path))
            .bearer_auth(&admin)
            .header("idempotency-key", path);
        let made: Value = request.json(&body).send().await.unwrap().json().await.unwrap();
        secrets.push(made["token"].as_str().unwrap().to_owned());
    }
    let key = rcgen::KeyPair::generate().unwrap();
    let enroll = |token: &str| {
        let body = json!({"token": token, "name": "host-a", "csr": csr(&key), "agent_version": "1.0.0", "arch": "x86_64"});
        client.post(program.url("/v1/hosts/enroll")).json(&body).send()
    };
    let enrolled: EnrolledHost = enroll(&secrets[2]).await.unwrap().json().await.unwrap();
    let host = crate::plane::client(ca(dir.path()), Some(identity(&enrolled.certificate, &key)));
    let url = program.url(&format!("/v1/hosts/{}/heartbeat", enrolled.host));
    assert_eq!(
        host.post(url).json(&beat(0)).send().await.unwrap().status(),
        StatusCode::OK
    );
    // What is wrong is said without what it was.
    let wrong = format!("{}A", &admin[..admin.len() - 1]);
    secrets.push(wrong.clone());
    client
        .get(program.url("/v1/whoami"))
        .bearer_auth(&wrong)
        .send()
        .await
        .unwrap();
    enroll(&format!("{}x", secrets[2])).await.unwrap();
    client
        .get(program.url(&format!("/v1/kernels?cursor={admin}")))
        .bearer_auth(&admin)
        .send()
        .await
        .unwrap();
    program.terminate();
    let mut program = program;
    program.process.wait().unwrap();
    let log = program.log.lock().unwrap().clone();
    assert!(
        log.contains("/v1/hosts/enroll") && log.contains("token_invalid") && log.contains("host/"),
        "{log}"
    );
    for secret in &secrets {
        let secret = &secret[secret.len() - 43..];
        assert!(!log.contains(&secret[..40]), "a token is in the log");
    }
    assert!(!log.contains("PRIVATE KEY") && !log.contains("panicked"));
    let database = std::fs::read(dir.path().join("control.db")).unwrap();
    for secret in &secrets {
        let secret = &secret.as_bytes()[secret.len() - 43..];
        assert!(
            !database.windows(secret.len()).any(|window| window == secret),
            "a token is in the database"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_ends_when_told_and_lets_polls_go() {
    let dir = tempfile::tempdir().unwrap();
    let admin = init(dir.path());
    let mut program = Program::start(dir.path());
    let client = client(ca(dir.path()), None);
    let poll = client
        .get(program.url("/v1/events?after=100&wait_seconds=60"))
        .bearer_auth(&admin)
        .send();
    let poll = tokio::spawn(poll);
    while !program.log.lock().unwrap().contains("whoami") {
        client
            .get(program.url("/v1/whoami"))
            .bearer_auth(&admin)
            .send()
            .await
            .unwrap();
    }
    let told = Instant::now();
    program.terminate();
    let ended = tokio::task::spawn_blocking(move || program.process.wait().map(|status| (status, program)));
    let (status, program) = ended.await.unwrap().unwrap();
    assert!(status.success());
    assert!(told.elapsed() < Duration::from_secs(5), "{:?}", told.elapsed());
    assert_eq!(
        poll.await.unwrap().unwrap().status(),
        StatusCode::OK,
        "the poll is answered, with nothing"
    );
    drop(program);
}

#[tokio::test(flavor = "multi_thread")]
async fn systemd_is_told_when_it_is_ready_alive_and_ending() {
    let dir = tempfile::tempdir().unwrap();
    init(dir.path());
    let path = dir.path().join("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    let mut program = Program::start_with(dir.path(), |serve| {
        serve.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "200000");
    });
    let said = || {
        let mut bytes = [0; 64];
        let length = socket.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    };
    assert_eq!([said(), said(), said()], ["READY=1", "WATCHDOG=1", "WATCHDOG=1"]);
    program.terminate();
    assert!((0..20).any(|_| said() == "STOPPING=1"));
    assert!(program.process.wait().unwrap().success());
}

#[test]
fn init_makes_one_control_plane_and_not_a_second_over_it() {
    let dir = tempfile::tempdir().unwrap();
    let token = init(dir.path());
    assert!(token.starts_with("plfm_op_") && !token.contains(char::is_whitespace));
    let path = dir.path().to_str().unwrap();
    let again = output(&["init", "--data-dir", path, "--name", "localhost"]);
    assert!(!again.status.success() && again.stdout.is_empty());
    assert!(String::from_utf8_lossy(&again.stderr).contains("there is a control plane"));
    assert!(output(&["check-config", "--data-dir", path]).status.success());
    let wrong = output(&["check-config", "--data-dir", path, "--ca-cert", "x"]);
    assert!(!wrong.status.success());
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("--ca-cert and --ca-key go together"));
}

#[test]
fn serve_says_what_is_missing() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none");
    let ended = output(&[
        "serve",
        "--data-dir",
        path.to_str().unwrap(),
        "--name",
        "localhost",
    ]);
    assert!(!ended.status.success());
    assert!(String::from_utf8_lossy(&ended.stderr).contains("plfm-control init"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_made_while_it_runs_has_the_same_fleet() {
    let dir = tempfile::tempdir().unwrap();
    let admin = init(dir.path());
    let program = Program::start(dir.path());
    let client = client(ca(dir.path()), None);
    for number in 0..5 {
        let request = client
            .post(program.url("/v1/enrollment-tokens"))
            .bearer_auth(&admin);
        let made = request
            .header("idempotency-key", number.to_string())
            .json(&json!({}))
            .send()
            .await
            .unwrap();
        assert_eq!(made.status(), StatusCode::OK);
    }
    let path = dir.path().to_str().unwrap().to_owned();
    let copy = format!("{path}/copy.db");
    let copied = output(&["backup", "--data-dir", &path, "--to", &copy]);
    assert!(
        copied.status.success(),
        "{}",
        String::from_utf8_lossy(&copied.stderr)
    );
    let rebuild = |database: &str| {
        let made = output(&["rebuild", "--data-dir", &path, "--database", database]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        serde_json::from_slice::<Value>(&made.stdout).unwrap()
    };
    let (one, other) = (
        rebuild(&format!("sqlite:{path}/control.db")),
        rebuild(&format!("sqlite:{copy}")),
    );
    assert_eq!(one, other);
    assert_eq!(one["position"], 6);
    drop(program);
}
