//! PID 1 of every customer's microVM.
//!
//! ```text
//! boot:  kernel_filesystems > handshake > root_disk > scratch_disk > overlay > switch_root
//!        > network > secrets > volumes > config_applied > workload > ready          (boot.rs)
//! then:  one poll loop: signals, control, output, exec sessions                     (supervise.rs)
//! end:   kill all, report, unmount, reboot                                          (shutdown.rs)
//! ```
//!
//! Invariants: it never panics, never exits, never waits without a bound, and never prints a secret or an
//! environment value. It is one synchronous thread; a second one only watches that no stage hangs. It speaks
//! vsock only as PID 1: outside a guest, CID 2 is somebody else's hypervisor.

mod boot;
mod cgroup;
mod clock;
mod connection;
mod control;
mod exec;
mod failure;
#[cfg(feature = "faulty")]
mod fault;
mod fs;
mod log;
mod mount;
mod network;
mod process;
mod root;
mod secrets;
mod session;
mod shutdown;
mod supervise;
mod sys;
mod user;
mod volumes;
mod watchdog;

/// The version that the hello names.
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn main() {
    if !rustix::process::getpid().is_init() {
        if std::env::args().nth(1).as_deref() == Some("--version") {
            println!("guest-init {VERSION} protocol {}", plfm_guest_protocol::PROTOCOL);
            #[cfg(feature = "faulty")]
            println!("{}", fault::MARK);
            return;
        }
        eprintln!("guest-init: this is not PID 1; it runs only as the first process of a microVM");
        std::process::exit(2);
    }
    log::open_console();
    #[cfg(feature = "faulty")]
    fault::at_start();
    let signals = sys::block_signals();
    let mut boot = boot::Boot::new();
    match boot::run(&mut boot) {
        Ok(running) => supervise::run(boot, running, signals),
        Err(failure) => boot.fail(&failure),
    }
    // Both arms end in a reboot; if even that call fails, wait for the host to end the VM rather than exit.
    loop {
        std::thread::park();
    }
}
