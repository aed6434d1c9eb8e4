//! Run in a guest: dials the exec service of that guest, at the context id that it is given, and asks for a shell as root.
//!
//! It is compiled by the test, statically, and put into a root disk. Outside a guest it does nothing: the file that guest
//! init makes is not there.

use std::ffi::{c_int, c_uint, c_void};

#[repr(C)]
struct SockaddrVm {
    family: u16,
    reserved: u16,
    port: c_uint,
    cid: c_uint,
    zero: [u8; 4],
}

unsafe extern "C" {
    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int;
    fn connect(fd: c_int, address: *const SockaddrVm, length: c_uint) -> c_int;
    fn write(fd: c_int, bytes: *const c_void, length: usize) -> isize;
    fn read(fd: c_int, bytes: *mut c_void, length: usize) -> isize;
}

const AF_VSOCK: c_int = 40;
const SOCK_STREAM: c_int = 1;
const EXEC_PORT: c_uint = 5162;

fn main() {
    if !std::path::Path::new("/run/platform/guest-init.log").exists() {
        println!("this is no guest");
        return;
    }
    let cid = std::env::args().nth(1).and_then(|cid| cid.parse().ok()).unwrap_or(1);
    let start = br#"{"type":"start","argv":["/bin/sh","-c","echo I am $(id -u)"],"user":"0"}"#;
    let mut frame = u32::try_from(start.len() + 1).unwrap().to_be_bytes().to_vec();
    frame.push(0x10);
    frame.extend_from_slice(start);
    let address = SockaddrVm { family: 40, reserved: 0, port: EXEC_PORT, cid, zero: [0; 4] };
    let mut answer = Vec::new();
    // SAFETY: system calls on buffers that live here and whose lengths are given.
    unsafe {
        let fd = socket(AF_VSOCK, SOCK_STREAM, 0);
        if fd < 0 || connect(fd, &address, 16) != 0 {
            println!("no connection");
            return;
        }
        write(fd, frame.as_ptr().cast(), frame.len());
        let mut buffer = [0u8; 4096];
        loop {
            let length = read(fd, buffer.as_mut_ptr().cast(), buffer.len());
            let Ok(length) = usize::try_from(length) else { break };
            if length == 0 || answer.len() > 65_536 {
                break;
            }
            answer.extend_from_slice(&buffer[..length]);
        }
    }
    let text = String::from_utf8_lossy(&answer);
    println!("{}", if text.contains("I am") { "a session" } else { "closed" });
}
