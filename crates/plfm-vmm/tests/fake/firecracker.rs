//! A Firecracker and a jailer that behave, or misbehave, as they are asked to. The tests compile this file by itself
//! into one static program, which is what its name says: `firecracker` or `jailer`.
//!
//! What it does is in the id that the runner gives it: `STEP--FAULT`, or the name of a life, then `--` and anything.
//! There is no guest; the API, the sockets, the files and the ends are real.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, exit};

fn main() {
    let mut args = std::env::args();
    let name = args.next().unwrap_or_default();
    let args: Vec<String> = args.collect();
    let is_jailer = Path::new(&name).file_name().is_some_and(|name| name == "jailer");
    if args.first().is_some_and(|arg| arg == "--version") {
        println!("{} v1.12.1\n", if is_jailer { "Jailer" } else { "Firecracker" });
        println!("2026-01-01T00:00:00.0 [anonymous-instance:main] Firecracker exiting successfully. exit_code=0");
        return;
    }
    if is_jailer { jailer(&args) } else { firecracker(&args) }
}

/// Options with a value, the last of each name. What repeats is told apart by a number.
fn options(args: &[String]) -> BTreeMap<String, String> {
    let mut options = BTreeMap::new();
    let mut args = args.iter().take_while(|arg| *arg != "--").peekable();
    while let Some(name) = args.next() {
        let value = args.next_if(|value| !value.starts_with("--")).cloned().unwrap_or_default();
        let count = options.len();
        let key = if name == "--cgroup" { format!("--cgroup {count}") } else { name.clone() };
        options.insert(key, value);
    }
    options
}

fn stay() -> ! {
    loop {
        std::thread::park();
    }
}

// The jailer.

fn jailer(args: &[String]) {
    let options = options(args);
    let id = options["--id"].as_str();
    let fault = id.strip_prefix("jailer--").and_then(|rest| rest.split("--").next()).unwrap_or("");
    if fault == "fail" {
        eprintln!("Jailer error: nothing goes today");
        exit(134);
    }
    let program = Path::new(&options["--exec-file"]);
    let name = program.file_name().unwrap();
    let root = Path::new(&options["--chroot-base-dir"]).join(name).join(id).join("root");
    for dir in ["", "dev", "run"] {
        std::fs::create_dir_all(root.join(dir)).unwrap();
        let (uid, gid) = (options["--uid"].parse().unwrap(), options["--gid"].parse().unwrap());
        std::os::unix::fs::chown(root.join(dir), Some(uid), Some(gid)).unwrap();
    }
    std::fs::copy(program, root.join(name)).unwrap();
    enter_cgroup(&options, id);
    match fault {
        "half" => {
            eprintln!("Jailer error: halfway through");
            exit(1);
        }
        "hang" => stay(),
        "nopid" => exit(0),
        _ => {}
    }
    std::os::unix::fs::chroot(&root).unwrap();
    std::env::set_current_dir("/").unwrap();
    if fault == "hangin" {
        stay();
    }
    let for_vmm = args.iter().skip_while(|arg| *arg != "--").skip(1);
    let child = Command::new(Path::new("/").join(name))
        .args(["--id", id, "--start-time-us", "1", "--start-time-cpu-us", "1"])
        .args(for_vmm)
        .env_clear()
        .uid(options["--uid"].parse().unwrap())
        .gid(options["--gid"].parse().unwrap())
        .spawn()
        .unwrap();
    let pid = match fault {
        "wrongpid" => 1,
        _ => child.id(),
    };
    std::fs::write(format!("/{}.pid", name.to_str().unwrap()), pid.to_string()).unwrap();
}

/// As the real one: a directory for the id below the parent, the limits where the kernel has them, and in.
fn enter_cgroup(options: &BTreeMap<String, String>, id: &str) {
    let limits: Vec<&String> =
        options.iter().filter(|(key, _)| key.starts_with("--cgroup ")).map(|(_, value)| value).collect();
    let Some(parent) = options.get("--parent-cgroup").filter(|_| !limits.is_empty()) else {
        return;
    };
    assert_eq!(options["--cgroup-version"], "2");
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let mount = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| fields[2] == "cgroup2")
        .map(|fields| fields[1].to_owned())
        .unwrap();
    let dir = Path::new(&mount).join(parent).join(id);
    std::fs::create_dir_all(&dir).unwrap();
    for limit in limits {
        let (file, value) = limit.split_once('=').unwrap();
        if dir.join(file).exists() {
            std::fs::write(dir.join(file), value).unwrap();
        }
    }
    std::fs::write(dir.join("cgroup.procs"), std::process::id().to_string()).unwrap();
}

// Firecracker.

struct Vmm {
    id: String,
    log: File,
    uds: Option<PathBuf>,
}

fn firecracker(args: &[String]) {
    let options = options(args);
    let id = options["--id"].clone();
    let log = OpenOptions::new().write(true).open(&options["--log-path"]).unwrap();
    let mut vmm = Vmm { id, log, uds: None };
    vmm.log("Running Firecracker v1.12.1");
    match vmm.act() {
        "die" => vmm.die(),
        "silent" => stay(),
        _ => {}
    }
    let socket = Path::new(&options["--api-sock"]);
    let api = UnixListener::bind(socket).unwrap();
    println!("uid={}", socket.metadata().unwrap().uid());
    let (stream, _) = api.accept().unwrap();
    let mut requests = BufReader::new(stream.try_clone().unwrap());
    let mut replies = stream;
    loop {
        let Some((path, body)) = read_request(&mut requests) else {
            stay();
        };
        vmm.answer(&path, &body, &mut replies);
    }
}

fn read_request(from: &mut impl BufRead) -> Option<(String, String)> {
    let mut line = String::new();
    from.read_line(&mut line).ok().filter(|count| *count > 0)?;
    let mut words = line.split_ascii_whitespace();
    assert_eq!(words.next(), Some("PUT"));
    let path = words.next().unwrap().to_owned();
    let mut length = 0;
    loop {
        let mut header = String::new();
        from.read_line(&mut header).unwrap();
        let header = header.trim_end().to_ascii_lowercase();
        if header.is_empty() {
            break;
        }
        if let Some(value) = header.strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    from.read_exact(&mut body).unwrap();
    Some((path, String::from_utf8(body).unwrap()))
}

impl Vmm {
    fn act(&self) -> &str {
        self.id.split("--").next().unwrap()
    }

    /// The fault that this step has, if it has one.
    fn fault_at(&self, step: &str) -> &str {
        let mut parts = self.id.split("--");
        match parts.next() {
            Some(act) if act == step => parts.next().unwrap_or(""),
            _ => "",
        }
    }

    fn log(&mut self, line: &str) {
        writeln!(self.log, "2026-01-01T00:00:00.0 [{}:main:INFO] {line}", self.id).unwrap();
    }

    fn end(&mut self, code: i32) -> ! {
        let how = if code == 0 { "successfully." } else { "with error." };
        self.log(&format!("Firecracker exiting {how} exit_code={code}"));
        exit(code)
    }

    fn die(&mut self) -> ! {
        eprintln!("thread 'main' panicked: this vmm dies");
        self.end(101)
    }

    fn answer(&mut self, path: &str, body: &str, to: &mut UnixStream) {
        let step = path.trim_start_matches('/').replace('/', "-");
        match self.fault_at(&step).to_owned().as_str() {
            "400" | "500" => {
                let status = self.fault_at(&step).to_owned();
                let body = "{\"fault_message\":\"this step was refused\"}";
                return reply(to, &format!("{status} "), body);
            }
            "hang" => stay(),
            "close" => {
                to.shutdown(std::net::Shutdown::Both).unwrap();
                stay();
            }
            "die" => self.die(),
            "garbage" => {
                to.write_all(b"220 this is another protocol\r\n\r\n").unwrap();
                stay();
            }
            "flood" => {
                to.write_all(b"HTTP/1.1 400 \r\nContent-Length: 99999999\r\n\r\n").unwrap();
                while to.write_all(&[b'x'; 4096]).is_ok() {}
                stay();
            }
            "headers" => {
                to.write_all(b"HTTP/1.1 204 \r\n").unwrap();
                while to.write_all(b"X-More: and more\r\n").is_ok() {}
                stay();
            }
            _ => {}
        }
        match self.check(&step, body) {
            Ok(()) => reply(to, "204 ", ""),
            Err(fault) => return reply(to, "400 ", &format!("{{\"fault_message\":\"{fault}\"}}")),
        }
        if step == "actions" {
            self.live();
        }
    }

    fn check(&mut self, step: &str, body: &str) -> Result<(), String> {
        let opens = |path: &str, write: bool| {
            let file = OpenOptions::new().read(true).write(write).open(path);
            file.map_err(|error| format!("{path}: {error}"))
        };
        match step {
            "boot-source" => {
                let mut magic = [0; 4];
                opens(&text(body, "kernel_image_path"), false)?.read_exact(&mut magic).unwrap();
                if &magic != b"\x7fELF" {
                    return Err("the kernel is none".to_owned());
                }
                println!("cmdline={}", text(body, "boot_args"));
                opens(&text(body, "initrd_path"), false).map(drop)
            }
            "vsock" => {
                let uds = PathBuf::from(text(body, "uds_path"));
                let listener = UnixListener::bind(&uds).map_err(|error| error.to_string())?;
                self.uds = Some(uds);
                std::thread::spawn(move || listener.incoming().flatten().for_each(echo));
                Ok(())
            }
            _ if step.starts_with("drives-") => {
                let path = text(body, "path_on_host");
                let is_read_only = body.contains("\"is_read_only\":true");
                let mut file = opens(&path, !is_read_only)?;
                if is_read_only {
                    let writable = OpenOptions::new().write(true).open(&path).is_ok();
                    println!("{step} {}", if writable { "WRITABLE" } else { "read-only" });
                } else {
                    file.write_all(b"written!").map_err(|error| error.to_string())?;
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// What a guest would do.
    fn live(&mut self) {
        match self.act().to_owned().as_str() {
            "hello" => {
                println!("hello");
                self.end(0)
            }
            "panic" => {
                println!("Kernel panic - not syncing: no init");
                self.end(0)
            }
            "crash" => self.die(),
            "killed" => {
                // What a kernel out of memory does: no last word.
                exit(137)
            }
            "knock" => {
                let mut path = self.uds.clone().unwrap().into_os_string();
                path.push("_5161");
                UnixStream::connect(path).unwrap().write_all(b"knock").unwrap();
            }
            "loud" => {
                for _ in 0..20_000 {
                    println!("a line that nobody asked for");
                }
                self.end(0)
            }
            _ => {}
        }
    }
}

fn echo(mut stream: UnixStream) {
    std::thread::spawn(move || {
        let mut line = String::new();
        BufReader::new(stream.try_clone().unwrap()).read_line(&mut line).unwrap();
        if line == "CONNECT 5162\n" {
            stream.write_all(b"OK 1073741824\nfrom the guest").unwrap();
        }
    });
}

fn reply(to: &mut UnixStream, status: &str, body: &str) {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    let text = format!("HTTP/1.1 {status}\r\nServer: Firecracker API\r\nConnection: keep-alive\r\n{length}\r\n{body}");
    // The runner may have given this VMM up.
    let _ = to.write_all(text.as_bytes());
}

/// A text of a flat JSON object without escapes.
fn text(body: &str, key: &str) -> String {
    let (_, rest) = body.split_once(&format!("\"{key}\":\"")).unwrap();
    rest.split('"').next().unwrap().to_owned()
}
