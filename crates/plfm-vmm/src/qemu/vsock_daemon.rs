//! `vhost-device-vsock`, one for each VM.
//!
//! The daemon binds `v.sock` and then `vhost.sock`, and takes one front end: connecting to find out whether it
//! is there would use that up. So the wait is for the kernel to list the socket as listening.

use std::ffi::OsString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use crate::process::Process;
use crate::vsock::GUEST_CID;

/// The daemon needs a few milliseconds. On a host that is starting many VMs at once it needs more, and is asked less.
const POLL: Duration = Duration::from_millis(1);
const POLL_MAX: Duration = Duration::from_millis(20);

/// Starts the daemon. There is never a `--forward-cid`: that would let the guest out to a real AF_VSOCK.
pub(crate) fn spawn(program: &Path, uds: &Path, vhost_socket: &Path) -> io::Result<Process> {
    let args: [OsString; 6] = [
        "--guest-cid".into(),
        GUEST_CID.to_string().into(),
        "--uds-path".into(),
        uds.into(),
        "--socket".into(),
        vhost_socket.into(),
    ];
    Process::spawn(program, &args, Stdio::null())
}

/// Why a daemon is not ready.
#[derive(Debug)]
pub(crate) enum NotReady {
    Exited(io::Result<std::process::ExitStatus>),
    Timeout,
}

/// Waits until the daemon listens for QEMU.
pub(crate) async fn ready(
    daemon: &mut Process,
    vhost_socket: &Path,
    deadline: Instant,
) -> Result<(), NotReady> {
    tokio::select! {
        status = daemon.wait() => Err(NotReady::Exited(status)),
        waited = timeout_at(deadline, listening(vhost_socket)) => waited.map_err(|_| NotReady::Timeout),
    }
}

async fn listening(socket: &Path) {
    let mut pause = POLL;
    loop {
        // The file is there a moment before the socket listens, so it is only the reason to look closer.
        if socket.exists()
            && let Ok(sockets) = tokio::fs::read("/proc/net/unix").await
            && is_listening(&sockets, socket)
        {
            return;
        }
        sleep(pause).await;
        pause = (pause * 2).min(POLL_MAX);
    }
}

/// Whether the text of `/proc/net/unix` has a listening socket of this name.
/// `Num RefCount Protocol Flags Type St Inode Path`, and a listening socket has the flag `SO_ACCEPTON`.
fn is_listening(sockets: &[u8], path: &Path) -> bool {
    const SO_ACCEPTON: u32 = 1 << 16;
    sockets.split(|&byte| byte == b'\n').any(|line| {
        let Some(fields) = line.strip_suffix(path.as_os_str().as_bytes()) else {
            return false;
        };
        let Some(fields) = fields.strip_suffix(b" ") else {
            return false;
        };
        let flags = std::str::from_utf8(fields)
            .ok()
            .and_then(|text| text.split_ascii_whitespace().nth(3));
        flags
            .and_then(|hex| u32::from_str_radix(hex, 16).ok())
            .is_some_and(|flags| flags & SO_ACCEPTON != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOCKETS: &[u8] = b"Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 4242 /run/vm/1/vhost.sock
0000000000000000: 00000002 00000000 00000000 0001 01 4243 /run/vm/2/vhost.sock
0000000000000000: 00000003 00000000 00000000 0001 03 4244
0000000000000000: 00000002 00000000 00010000 0001 01 4245 /run/a vm/3/vhost.sock
";

    #[test]
    fn a_socket_listens_once_the_kernel_says_so() {
        let listens = |path: &str| is_listening(SOCKETS, Path::new(path));
        assert!(listens("/run/vm/1/vhost.sock"));
        assert!(listens("/run/a vm/3/vhost.sock"));
        assert!(!listens("/run/vm/2/vhost.sock"), "bound, not yet listening");
        assert!(!listens("/run/vm/4/vhost.sock"));
        assert!(!listens("/vhost.sock"), "the end of another name");
        assert!(!is_listening(b"", Path::new("/x")));
    }

    #[test]
    fn the_kernel_really_lists_sockets_like_this() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a socket");
        let listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(is_listening(&std::fs::read("/proc/net/unix").unwrap(), &path));
        drop(listener);
        assert!(!is_listening(&std::fs::read("/proc/net/unix").unwrap(), &path));
    }
}
