//! A QEMU that misbehaves: this test program itself, run as `it fake-qemu ACT <QEMU's arguments>`.
//!
//! It is the other end of the control channel only; there is no guest.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;

const GREETING: &str =
    r#"{"QMP": {"version": {"qemu": {"micro": 0, "minor": 0, "major": 7}}, "capabilities": []}}"#;

pub fn is_asked_for() -> bool {
    std::env::args().nth(1).as_deref() == Some("fake-qemu")
}

pub fn main() {
    let args: Vec<String> = std::env::args().skip(2).collect();
    let control = args
        .iter()
        .find_map(|arg| arg.strip_prefix("socket,id=qmp,path="))
        .unwrap();
    let connect = || UnixStream::connect(control).unwrap();
    match args[0].as_str() {
        "never-connect" => stay(),
        "leave" => drop(connect()),
        "babble" => {
            writeln!(connect(), "this is not json").unwrap();
            stay();
        }
        "flood" => {
            let mut stream = connect();
            while stream.write_all(&[b'x'; 4096]).is_ok() {}
            stay();
        }
        "refuse" => {
            let mut stream = connect();
            writeln!(stream, "{GREETING}").unwrap();
            let mut commands = BufReader::new(stream.try_clone().unwrap()).lines();
            commands.next();
            writeln!(stream, "{{\"return\": {{}}}}").unwrap();
            commands.next();
            writeln!(
                stream,
                r#"{{"error": {{"class": "GenericError", "desc": "no"}}}}"#
            )
            .unwrap();
            stay();
        }
        "stop" => {
            eprintln!("internal error of the accelerator");
            let mut stream = connect();
            writeln!(stream, "{GREETING}").unwrap();
            let mut commands = BufReader::new(stream.try_clone().unwrap()).lines();
            for _ in 0..2 {
                commands.next();
                writeln!(stream, r#"{{"event": "RESUME", "timestamp": {{"seconds": 1}}}}"#).unwrap();
                writeln!(stream, r#"{{"return": {{}}}}"#).unwrap();
            }
            writeln!(stream, r#"{{"event": "STOP", "timestamp": {{"seconds": 1}}}}"#).unwrap();
            stay();
        }
        other => panic!("no act {other:?}"),
    }
}

/// Until it is killed.
fn stay() {
    loop {
        std::thread::park();
    }
}
