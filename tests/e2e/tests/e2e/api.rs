//! The agent's socket, spoken to by hand: every refusal is a problem with a code, and changes nothing.

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;

use serde_json::Value;

use crate::facts;
use crate::host::Host;

facts![
    requests_that_make_no_sense_are_answered_with_a_problem,
    a_second_agent_on_the_same_directory_is_refused,
    only_the_owner_reaches_the_socket
];

/// Sends a request as it is and gives status, content type and body.
fn send(host: &Host, request: &[u8]) -> (u16, String, String) {
    let mut stream = UnixStream::connect(host.path("run/agent.sock")).unwrap();
    // A refused body may be answered, and the connection closed, before it was written or read.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    let kind = head
        .lines()
        .find_map(|line| line.strip_prefix("content-type: "))
        .unwrap_or_default();
    (status, kind.to_owned(), body.to_owned())
}

fn render_post(path: &str, body: &str) -> String {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n{body}"
    )
}

fn render_get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
}

/// Gets JSON.
pub fn get(host: &Host, path: &str) -> Value {
    let (_, _, body) = send(host, render_get(path).as_bytes());
    serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

/// Posts JSON and gives status, content type and body.
pub fn post(host: &Host, path: &str, body: &str) -> (u16, String, String) {
    send(host, render_post(path, body).as_bytes())
}

fn requests_that_make_no_sense_are_answered_with_a_problem() {
    let host = Host::ready();
    let planted = "planted-secret-9d";
    let with_secret = format!(r#"{{"secrets":"{planted}","root_disk":7}}"#);
    for (request, status, code) in [
        (render_get("/v1/nothing"), 404, "endpoint_unknown"),
        (render_get("/v1/instances/NO-SUCH"), 404, "instance_unknown"),
        (
            render_get("/v1/instances/NO-SUCH?wait=tomorrow"),
            422,
            "query_invalid",
        ),
        (render_get("/v1/releases/current"), 405, "method_not_allowed"),
        (render_post("/v1/instances", "{"), 400, "request_not_json"),
        (render_post("/v1/instances", "{}"), 422, "request_malformed"),
        (
            render_post("/v1/instances", &with_secret),
            422,
            "request_malformed",
        ),
        (
            render_post("/v1/releases", r#"{"directory":"relative"}"#),
            422,
            "directory_invalid",
        ),
        (
            render_post("/v1/releases", r#"{"directory":"/nowhere","extra":1}"#),
            422,
            "request_malformed",
        ),
        (
            render_post("/v1/releases/current", r#"{"release":"nope"}"#),
            404,
            "release_unknown",
        ),
        (
            render_post("/v1/instances/NO-SUCH/stop", "{}"),
            404,
            "instance_unknown",
        ),
    ] {
        let (got, kind, body) = send(&host, request.as_bytes());
        let problem: Value =
            serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {request}\n{body}"));
        assert_eq!(
            (got, kind.as_str()),
            (status, "application/problem+json"),
            "{request}\n{body}"
        );
        assert_eq!(
            (&problem["code"], &problem["status"]),
            (&code.into(), &status.into()),
            "{request}"
        );
        assert!(!body.contains(planted), "{body}");
    }
    let huge = format!(r#"{{"secrets":"{}"}}"#, "x".repeat(4 << 20));
    let (status, ..) = post(&host, "/v1/instances", &huge);
    assert!(status == 413 || status == 0, "{status}");
    assert_eq!(send(&host, b"\x00\xff nonsense\r\n\r\n").0, 400);
    assert_eq!(host.json(["ps", "--all"])["items"], Value::Array(vec![]));
    host.run_script("true").ok();
}

fn a_second_agent_on_the_same_directory_is_refused() {
    let host = Host::ready();
    let mut second = std::process::Command::new(crate::lab::program("plfm-agent"));
    second
        .arg("--state-dir")
        .arg(host.path("state"))
        .arg("--run-dir")
        .arg(host.path("run-2"));
    let output = second
        .arg("--keyring")
        .arg(host.path("keyring.json"))
        .output()
        .unwrap();
    assert!(!output.status.success());
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(log.contains("state/kernels"), "{log}");
    host.run_script("true").ok();
}

fn only_the_owner_reaches_the_socket() {
    let host = Host::empty();
    let mode = |name: &str| std::fs::metadata(host.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode("run"), mode("run/agent.sock"), mode("state")),
        (0o700, 0o600, 0o700)
    );
}
