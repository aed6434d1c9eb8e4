//! Both directions of vsock, and nothing between two VMs.

use std::path::{Path, PathBuf};

use libtest_mimic::Trial;
use plfm_vmm::{ConnectError, ExitCause, Vm, VsockListener, VsockPath};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout};

use crate::lab::{Lab, PATIENCE, end_of, entries, trial};

pub fn trials(lab: &Result<Lab, String>) -> Vec<Trial> {
    vec![
        trial(lab, "two_vms_at_once_speak_over_their_own_sockets", two_at_once),
        trial(lab, "a_port_without_a_listener_in_the_guest_is_refused", refused),
    ]
}

async fn start(lab: &Lab, dir: &Path, name: &str) -> (Vm, VsockListener) {
    let listener = VsockPath::in_dir(dir).unwrap().listen(5161).unwrap();
    let mut config = lab.config(dir, "vsock");
    config.cmdline_extra.push(format!("name={name}"));
    (lab.start(config).await, listener)
}

async fn greeting(vm: &Vm, listener: &VsockListener) -> (String, UnixStream) {
    let mut stream = timeout(PATIENCE, listener.accept())
        .await
        .unwrap_or_else(|_| panic!("no connection; console:\n{}", vm.console_tail()))
        .unwrap();
    let mut line = String::new();
    BufReader::new(&mut stream).read_line(&mut line).await.unwrap();
    (line, stream)
}

async fn echo(stream: &mut UnixStream, text: &[u8]) -> Vec<u8> {
    stream.write_all(text).await.unwrap();
    let mut echoed = vec![0; text.len()];
    timeout(PATIENCE, stream.read_exact(&mut echoed))
        .await
        .unwrap()
        .unwrap();
    echoed
}

async fn two_at_once(lab: Lab, dir: PathBuf) {
    let (one_dir, two_dir) = (dir.join("1"), dir.join("2"));
    std::fs::create_dir(&one_dir).unwrap();
    std::fs::create_dir(&two_dir).unwrap();
    let ((one, one_listener), (two, two_listener)) =
        tokio::join!(start(&lab, &one_dir, "one"), start(&lab, &two_dir, "two"));
    let ((hello_one, _one), (hello_two, _two)) =
        tokio::join!(greeting(&one, &one_listener), greeting(&two, &two_listener));
    assert_eq!(
        (hello_one.as_str(), hello_two.as_str()),
        ("hello from one\n", "hello from two\n")
    );

    let deadline = Instant::now() + PATIENCE;
    for round in 0..3 {
        for vm in [&one, &two] {
            let mut stream = vm.vsock().connect(5162, deadline).await.unwrap();
            let text = format!("round {round} {:?}\n", vm.pids());
            assert_eq!(echo(&mut stream, text.as_bytes()).await, text.as_bytes());
        }
    }

    let mut bye = one.vsock().connect(5162, deadline).await.unwrap();
    bye.write_all(b"bye\n").await.unwrap();
    assert_eq!(end_of(&one).await.cause, ExitCause::GuestReset);
    let mut stream = two.vsock().connect(5162, deadline).await.unwrap();
    assert_eq!(echo(&mut stream, b"still here").await, b"still here");
    assert_eq!(two.kill().await.cause, ExitCause::Killed);

    let gone = one.vsock().connect(5162, deadline).await.unwrap_err();
    assert_eq!(gone.code(), "vsock_unreachable");
    drop((one_listener, two_listener));
    assert_eq!(entries(&one_dir), ["console.log"]);
    assert_eq!(entries(&two_dir), ["console.log"]);
}

async fn refused(lab: Lab, dir: PathBuf) {
    let (vm, listener) = start(&lab, &dir, "x").await;
    let _greeted = greeting(&vm, &listener).await;
    let error = vm
        .vsock()
        .connect(5999, Instant::now() + PATIENCE)
        .await
        .unwrap_err();
    assert!(matches!(error, ConnectError::Refused { port: 5999 }), "{error:?}");
    // The refusal cost the VM nothing.
    let mut stream = vm.vsock().connect(5162, Instant::now() + PATIENCE).await.unwrap();
    assert_eq!(echo(&mut stream, b"ping").await, b"ping");
    vm.kill().await;
}
