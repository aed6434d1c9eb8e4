//! The host's end of a VM's vsock: Unix sockets in the VM's directory.
//!
//! ```text
//! <dir>/v.sock          connect here and ask for a guest port      host -> guest
//! <dir>/v.sock_<port>   listened on by us, one for each port       guest -> host (CID 2)
//! ```
//!
//! One socket for each VM means that only the right guest can be at the other end; nothing here opens AF_VSOCK,
//! which on the host would reach a hypervisor above it.

use std::fs::DirBuilder;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, PermissionsExt, lchown};
use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::time::{Instant, timeout_at};

use crate::jail::{Jail, JailUser};

/// A socket's name must fit into `sockaddr_un` with its terminating zero.
const SUN_PATH_BYTES_MAX: usize = 107;
/// `OK 4294967295\n` has 14 bytes.
const REPLY_BYTES_MAX: usize = 32;
/// The guest's CID. Every VM has its own daemon and sockets, so it may be the same in all of them.
pub(crate) const GUEST_CID: u32 = 3;

/// Where a VM's vsock is.
#[derive(Debug, Clone)]
pub struct VsockPath {
    uds: PathBuf,
    jailed: Option<Jailed>,
}

/// The VMM is in a jail: the sockets are in there, and its user must reach them.
#[derive(Debug, Clone)]
struct Jailed {
    jail: Jail,
    user: JailUser,
}

/// A directory's path leaves no room for the sockets' names.
#[derive(Debug, thiserror::Error)]
#[error("socket path {} would have {bytes} bytes, the limit is {SUN_PATH_BYTES_MAX}", path.display())]
pub struct SocketPathTooLong {
    /// The longest socket name.
    pub path: PathBuf,
    /// Its length.
    pub bytes: usize,
}

/// No listener for a guest's connections.
#[derive(Debug, thiserror::Error)]
#[error("can't listen at {}", path.display())]
pub struct ListenError {
    /// The socket.
    pub path: PathBuf,
    /// Why.
    #[source]
    pub source: io::Error,
}

impl ListenError {
    /// A stable name for this kind of error.
    pub fn code(&self) -> &'static str {
        "vsock_listen_failed"
    }
}

/// No connection to a guest's port.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The socket of the VM can't be connected to: the VM is not running.
    #[error("can't connect to {}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The stream broke before the guest accepted.
    #[error("lost the stream to guest port {port} before it was accepted")]
    Broken {
        /// The guest's port.
        port: u32,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Nothing in the guest listens there, or the guest has not come so far yet: who knows that it will, asks again.
    #[error("guest port {port} refused the connection")]
    Refused {
        /// The guest's port.
        port: u32,
    },
    /// The answer was not `OK`.
    #[error("unexpected answer {reply:?} when connecting to guest port {port}")]
    Reply {
        /// The guest's port.
        port: u32,
        /// The answer, cut to its limit.
        reply: String,
    },
    /// Nobody answered in time.
    #[error("guest port {port} did not answer in time")]
    Timeout {
        /// The guest's port.
        port: u32,
    },
}

impl ConnectError {
    /// A stable name for this kind of error.
    pub fn code(&self) -> &'static str {
        match self {
            ConnectError::Socket { .. } => "vsock_unreachable",
            ConnectError::Broken { .. } => "vsock_broken",
            ConnectError::Refused { .. } => "vsock_refused",
            ConnectError::Reply { .. } => "vsock_reply_invalid",
            ConnectError::Timeout { .. } => "vsock_timeout",
        }
    }
}

impl VsockPath {
    /// The vsock of the VM whose directory this is.
    pub fn in_dir(dir: &Path) -> Result<VsockPath, SocketPathTooLong> {
        VsockPath {
            uds: dir.join("v.sock"),
            jailed: None,
        }
        .check()
    }

    /// The vsock of a VM whose VMM is in this jail, as this user.
    pub(crate) fn in_jail(jail: Jail, user: JailUser) -> Result<VsockPath, SocketPathTooLong> {
        VsockPath {
            uds: jail.root().join("v.sock"),
            jailed: Some(Jailed { jail, user }),
        }
        .check()
    }

    fn check(self) -> Result<VsockPath, SocketPathTooLong> {
        let path = self.port_path(u32::MAX);
        let bytes = path.as_os_str().len();
        if bytes > SUN_PATH_BYTES_MAX {
            return Err(SocketPathTooLong { path, bytes });
        }
        Ok(self)
    }

    /// The socket to connect to.
    pub(crate) fn uds(&self) -> &Path {
        &self.uds
    }

    fn port_path(&self, port: u32) -> PathBuf {
        let mut path = self.uds.clone().into_os_string();
        path.push(format!("_{port}"));
        path.into()
    }

    /// Listens for the guest's connections to CID 2 at `port`. Do it before the VM starts: a guest that connects
    /// to a port without a listener waits for its own timeout.
    pub fn listen(&self, port: u32) -> Result<VsockListener, ListenError> {
        let path = self.port_path(port);
        self.bind(path.clone())
            .map_err(|source| ListenError { path, source })
    }

    fn bind(&self, path: PathBuf) -> io::Result<VsockListener> {
        if let Some(Jailed { jail, .. }) = &self.jailed {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(jail.root())?;
        }
        remove_socket(&path)?;
        let listener = VsockListener {
            inner: UnixListener::bind(&path)?,
            path,
        };
        std::fs::set_permissions(&listener.path, std::fs::Permissions::from_mode(0o600))?;
        if let Some(Jailed { user, .. }) = &self.jailed {
            // Connecting takes the right to write.
            lchown(&listener.path, Some(user.uid), Some(user.gid))?;
        }
        Ok(listener)
    }

    /// Connects to `port` in the guest, at the latest at `deadline`.
    pub async fn connect(&self, port: u32, deadline: Instant) -> Result<UnixStream, ConnectError> {
        timeout_at(deadline, self.connect_unbounded(port))
            .await
            .map_err(|_| ConnectError::Timeout { port })?
    }

    async fn connect_unbounded(&self, port: u32) -> Result<UnixStream, ConnectError> {
        let mut stream = connect_no_follow(&self.uds)
            .await
            .map_err(|source| ConnectError::Socket {
                path: self.uds.clone(),
                source,
            })?;
        let broken = |source| ConnectError::Broken { port, source };
        // One write: the daemon reads the request with one read.
        stream
            .write_all(format!("CONNECT {port}\n").as_bytes())
            .await
            .map_err(broken)?;
        let mut reply = Vec::with_capacity(REPLY_BYTES_MAX);
        // Byte by byte, because what follows the newline is already the guest's.
        while reply.last() != Some(&b'\n') {
            if reply.len() == REPLY_BYTES_MAX {
                return Err(ConnectError::Reply {
                    port,
                    reply: String::from_utf8_lossy(&reply).into_owned(),
                });
            }
            match stream.read_u8().await {
                Ok(byte) => reply.push(byte),
                Err(error) if is_closed(&error) && reply.is_empty() => {
                    return Err(ConnectError::Refused { port });
                }
                Err(error) => return Err(broken(error)),
            }
        }
        if is_accepted(&reply) {
            Ok(stream)
        } else {
            Err(ConnectError::Reply {
                port,
                reply: String::from_utf8_lossy(&reply).trim_end().to_owned(),
            })
        }
    }
}

/// Connects to a socket, and only to a socket of this very name: whoever is in the jail could put a link there that
/// leads to somebody else's.
async fn connect_no_follow(path: &Path) -> io::Result<UnixStream> {
    use rustix::fs::{Mode, OFlags, open};
    let socket = open(
        path,
        OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let socket = std::fs::File::from(socket);
    if !socket.metadata()?.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a socket"));
    }
    UnixStream::connect(format!("/proc/self/fd/{}", socket.as_raw_fd())).await
}

fn is_closed(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset
    )
}

fn is_accepted(reply: &[u8]) -> bool {
    reply
        .strip_prefix(b"OK ")
        .and_then(|rest| rest.strip_suffix(b"\n"))
        .is_some_and(|number| !number.is_empty() && number.iter().all(u8::is_ascii_digit))
}

/// Removes a socket, which an earlier run may have left behind, and nothing else.
pub(crate) fn remove_socket(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(meta) if meta.file_type().is_socket() => std::fs::remove_file(path),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            "it exists and is not a socket",
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Receives the guest's connections to one port. Its socket is removed with it.
#[derive(Debug)]
pub struct VsockListener {
    inner: UnixListener,
    path: PathBuf,
}

impl VsockListener {
    /// The next connection.
    pub async fn accept(&self) -> io::Result<UnixStream> {
        self.inner.accept().await.map(|(stream, _)| stream)
    }
}

impl Drop for VsockListener {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = std::fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const PATIENCE: Duration = Duration::from_secs(30);

    /// Connects to port 7 of a daemon that answers with these bytes and then closes, or stays.
    async fn connect(answer: &'static [u8], then: Then) -> Result<UnixStream, ConnectError> {
        let dir = tempfile::tempdir().unwrap();
        let vsock = VsockPath::in_dir(dir.path()).unwrap();
        let listener = UnixListener::bind(vsock.uds()).unwrap();
        let daemon = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = [0; 10];
            stream.read_exact(&mut request).await.unwrap();
            assert_eq!(&request, b"CONNECT 7\n");
            stream.write_all(answer).await.unwrap();
            if let Then::Stay = then {
                std::future::pending::<()>().await;
            }
        });
        let patience = if let Then::Stay = then {
            Duration::from_millis(50)
        } else {
            PATIENCE
        };
        let outcome = vsock.connect(7, Instant::now() + patience).await;
        daemon.abort();
        outcome
    }

    #[derive(Clone, Copy)]
    enum Then {
        Close,
        Stay,
    }

    #[tokio::test]
    async fn what_follows_the_answer_is_the_guests() {
        let mut stream = connect(b"OK 1073741824\nfrom the guest", Then::Close)
            .await
            .unwrap();
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert_eq!(rest, "from the guest");
    }

    #[tokio::test]
    async fn every_other_answer_is_an_error() {
        let code = async |answer, then| connect(answer, then).await.unwrap_err().code();
        assert_eq!(code(b"", Then::Close).await, "vsock_refused");
        assert_eq!(code(b"OK 12", Then::Close).await, "vsock_broken");
        for answer in [
            b"NO\n".as_slice(),
            b"OK\n",
            b"OK \n",
            b"OK x\n",
            b"\n",
            &[b'1'; REPLY_BYTES_MAX],
            b"\xff\n",
        ] {
            assert_eq!(
                code(answer, Then::Close).await,
                "vsock_reply_invalid",
                "{answer:?}"
            );
        }
        assert_eq!(code(b"", Then::Stay).await, "vsock_timeout");
        assert_eq!(code(b"OK 1", Then::Stay).await, "vsock_timeout");
    }

    #[tokio::test]
    async fn without_a_vm_nothing_is_connected_to() {
        let dir = tempfile::tempdir().unwrap();
        let error = VsockPath::in_dir(dir.path())
            .unwrap()
            .connect(7, Instant::now() + PATIENCE)
            .await
            .unwrap_err();
        assert_eq!(error.code(), "vsock_unreachable");
    }

    #[tokio::test]
    async fn a_link_in_the_place_of_the_socket_leads_nowhere() {
        let dir = tempfile::tempdir().unwrap();
        let vsock = VsockPath::in_dir(dir.path()).unwrap();
        let elsewhere = dir.path().join("elsewhere");
        let _elsewhere = UnixListener::bind(&elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, vsock.uds()).unwrap();
        let error = vsock.connect(7, Instant::now() + PATIENCE).await.unwrap_err();
        assert_eq!(error.code(), "vsock_unreachable");
    }

    #[tokio::test]
    async fn a_listener_is_private_and_removes_its_socket() {
        let dir = tempfile::tempdir().unwrap();
        let vsock = VsockPath::in_dir(dir.path()).unwrap();
        let path = dir.path().join("v.sock_5161");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let listener = vsock.listen(5161).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let (_client, _server) = tokio::join!(UnixStream::connect(&path), listener.accept());
        drop(listener);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn only_a_socket_makes_room_for_a_listener() {
        let dir = tempfile::tempdir().unwrap();
        let vsock = VsockPath::in_dir(dir.path()).unwrap();
        std::fs::write(dir.path().join("v.sock_1"), "precious").unwrap();
        let error = vsock.listen(1).unwrap_err();
        assert_eq!(error.source.to_string(), "it exists and is not a socket");
        assert_eq!(std::fs::read(dir.path().join("v.sock_1")).unwrap(), b"precious");
        let gone = VsockPath::in_dir(Path::new("/nowhere")).unwrap();
        assert_eq!(gone.listen(1).unwrap_err().code(), "vsock_listen_failed");
    }

    #[test]
    fn the_longest_socket_name_must_fit() {
        let longest = SUN_PATH_BYTES_MAX - "/v.sock_4294967295".len();
        assert!(VsockPath::in_dir(Path::new(&format!("/{}", "d".repeat(longest - 1)))).is_ok());
        let error = VsockPath::in_dir(Path::new(&format!("/{}", "d".repeat(longest)))).unwrap_err();
        assert_eq!(error.bytes, SUN_PATH_BYTES_MAX + 1);
    }
}
