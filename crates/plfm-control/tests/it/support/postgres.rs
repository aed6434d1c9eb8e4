//! A PostgreSQL server of the tests' own: a temporary directory, a Unix socket, no network.
//!
//! One cluster serves a test process, with a database for each test. Making a cluster takes seconds, so that it is made
//! once, kept in the target directory, and copied. A shell that waits for the test process to end removes all of it,
//! however that process ends.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use sqlx::{ConnectOptions as _, Connection as _};

const BIN: &str = "/usr/lib/postgresql/15/bin";
/// The server refuses to be run by root.
const NOBODY: u32 = 65534;
/// After a kill the server's children hold its memory for a moment, and another one does not start before they end.
const STARTS_MAX: u32 = 200;

const JANITOR: &str = r#"
    cat >/dev/null
    pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
    if [ -n "$pid" ] && [ "$(readlink "/proc/$pid/cwd")" = "$1/data" ]; then
        kill -QUIT "$pid"
        for i in $(seq 100); do kill -0 "$pid" 2>/dev/null || break; sleep 0.1; done
    fi
    rm -rf "$1"
"#;

/// A server.
pub struct Postgres {
    directory: PathBuf,
    postmaster: Mutex<Option<Child>>,
    databases: AtomicU32,
    settings: &'static [&'static str],
    // Its standard input ends with this process, or when this is dropped.
    _janitor: Child,
}

impl Postgres {
    /// The server that this test process shares.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        // Never killed and soon gone: what it says is on disk need not be.
        SHARED.get_or_init(|| Self::start_with(&["fsync=off", "full_page_writes=off"]))
    }

    /// A server that nobody shares, and that a test may kill.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// The same, with settings of its own.
    pub fn start_with(settings: &'static [&'static str]) -> Self {
        let template = template();
        let directory = tempfile::Builder::new()
            .prefix("plfm-pg-")
            .tempdir()
            .unwrap()
            .keep();
        own(&directory);
        run(Command::new("cp")
            .arg("-a")
            .arg(&template)
            .arg(directory.join("data")));
        let janitor = as_nobody("/bin/sh")
            .args(["-c", JANITOR, "janitor"])
            .arg(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Self {
            directory,
            postmaster: Mutex::new(None),
            databases: AtomicU32::new(0),
            settings,
            _janitor: janitor,
        };
        server.start_again();
        server
    }

    /// Makes a database. Its address.
    pub async fn database(&self) -> String {
        let name = format!("test_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.database_named(&name).await
    }

    /// Makes a database of that name. Its address.
    pub async fn database_named(&self, name: &str) -> String {
        let options: sqlx::postgres::PgConnectOptions = self.url("postgres").parse().unwrap();
        let mut connection = options.connect().await.unwrap();
        sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
            .execute(&mut connection)
            .await
            .unwrap();
        connection.close().await.unwrap();
        self.url(name)
    }

    /// A database's address, as sqlx and PostgreSQL's own programs read it.
    pub fn url(&self, database: &str) -> String {
        let socket = self.directory.to_str().unwrap();
        format!("postgres://nobody@localhost/{database}?host={socket}&sslmode=disable")
    }

    /// One of PostgreSQL's own programs, to be run as the server's owner.
    pub fn program(name: &str) -> Command {
        as_nobody(&format!("{BIN}/{name}"))
    }

    /// The server's first process.
    #[allow(dead_code, reason = "the bench counts what it uses")]
    pub fn pid(&self) -> u32 {
        self.postmaster
            .lock()
            .unwrap()
            .as_ref()
            .expect("the server runs")
            .id()
    }

    /// Kills the server's first process, as a crash would. Its children notice, and nothing is written any more.
    pub fn kill(&self) {
        let mut postmaster = self.postmaster.lock().unwrap();
        let mut child = postmaster.take().expect("the server runs");
        let pid = Pid::from_child(&child);
        kill_process(pid, Signal::KILL).unwrap();
        child.wait().unwrap();
    }

    /// Starts the server after it was killed, and waits until it accepts connections.
    pub fn start_again(&self) {
        let mut postmaster = self.postmaster.lock().unwrap();
        assert!(postmaster.is_none(), "the server runs already");
        let mut said = String::new();
        for _ in 0..STARTS_MAX {
            match self.try_to_start(&mut said) {
                Some(child) => {
                    *postmaster = Some(child);
                    return;
                }
                None => std::thread::sleep(Duration::from_millis(50)),
            }
        }
        panic!("PostgreSQL does not start: {said}");
    }

    fn try_to_start(&self, said: &mut String) -> Option<Child> {
        let mut child = Self::program("postgres")
            .arg("-D")
            .arg(self.directory.join("data"))
            .arg("-k")
            .arg(&self.directory)
            .args(["-c", "listen_addresses="])
            .args(["-c", "max_connections=60"])
            .args(["-c", "shared_buffers=64MB"])
            .args(["-c", "log_min_messages=log"])
            .args(self.settings.iter().flat_map(|setting| ["-c", setting]))
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        said.clear();
        while let Some(Ok(line)) = lines.next() {
            if line.contains("ready to accept connections") {
                std::thread::spawn(move || lines.for_each(drop));
                return Some(child);
            }
            said.push_str(&line);
            said.push('\n');
        }
        child.wait().unwrap();
        None
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if let Some(child) = self.postmaster.lock().unwrap().as_mut() {
            let pid = Pid::from_child(child);
            let _ = kill_process(pid, Signal::QUIT);
            let _ = child.wait();
        }
        // The janitor sees to the rest.
    }
}

/// A cluster that was never started, made once.
fn template() -> PathBuf {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    fs::create_dir_all(cache).unwrap();
    let lock = File::create(cache.join("postgres-15.lock")).unwrap();
    lock.lock().unwrap();
    let template = cache.join("postgres-15");
    if !template.exists() {
        let made = tempfile::tempdir().unwrap();
        own(made.path());
        let data = made.path().join("data");
        run(Postgres::program("initdb")
            .args([
                "--auth=trust",
                "--username=nobody",
                "--encoding=UTF8",
                "--no-locale",
                "--wal-segsize=1",
                "-D",
            ])
            .arg(&data));
        let copying = cache.join("postgres-15.copying");
        let _ = fs::remove_dir_all(&copying);
        run(Command::new("cp").arg("-a").arg(&data).arg(&copying));
        fs::rename(&copying, &template).unwrap();
    }
    template
}

/// A program that runs as a user who is not root.
fn as_nobody(program: &str) -> Command {
    let mut command = Command::new(program);
    if is_root() {
        command.uid(NOBODY).gid(NOBODY);
    }
    command.current_dir("/").stdin(Stdio::null());
    command
}

fn own(directory: &Path) {
    if is_root() {
        std::os::unix::fs::chown(directory, Some(NOBODY), Some(NOBODY)).unwrap();
    }
}

fn is_root() -> bool {
    fs::metadata("/proc/self").unwrap().uid() == 0
}

fn run(command: &mut Command) {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
}
