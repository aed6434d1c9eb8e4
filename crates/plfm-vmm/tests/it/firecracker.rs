//! Firecracker's runner against a fake that speaks the real API: what it is told, how VMs end, and that nothing is left
//! whatever fails, with a jail and without.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::time::Duration;

use libtest_mimic::Trial;
use plfm_vmm::tap::{self, TapSupport};
use plfm_vmm::{ExitCause, Jail, MacAddress, StartError, TapConfig, Vm};
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, timeout};

use crate::fake::{self, Kind, Site, USER, processes_with_id};
use crate::lab::{PATIENCE, chain, end_of, entries, eventually, runtime};

/// Every call of a VM with two disks, in order.
const STEPS: [&str; 7] = [
    "machine-config",
    "boot-source",
    "drives-disk0",
    "drives-disk1",
    "vsock",
    "entropy",
    "actions",
];

/// What may go wrong at each of them, and how the start then fails.
const FAULTS: [(&str, &str); 8] = [
    ("400", "firecracker_refused"),
    ("500", "firecracker_refused"),
    ("hang", "firecracker_timeout"),
    ("close", "firecracker_api_failed"),
    ("die", "firecracker_failed"),
    ("garbage", "firecracker_api_failed"),
    ("flood", "firecracker_refused_or_failed"),
    ("headers", "firecracker_api_failed"),
];

type JailedBody = fn(Site) -> std::pin::Pin<Box<dyn Future<Output = Site>>>;

pub fn trials() -> Vec<Trial> {
    let mut trials = Vec::new();
    trials.extend(fake::trials("a_guest_runs_and_ends_by_reset", "hello", runs));
    trials.extend(fake::trials(
        "a_panic_on_the_console_is_detected",
        "panic",
        panics,
    ));
    trials.extend(fake::trials("a_vmm_that_fails_says_why", "crash", crashes));
    trials.extend(fake::trials(
        "a_vmm_that_was_ended_by_someone_else_is_no_clean_end",
        "killed",
        was_killed,
    ));
    trials.extend(fake::trials("the_console_log_is_bounded", "loud", floods));
    trials.extend(fake::trials("vsock_works_in_both_directions", "knock", knocks));
    trials.extend(fake::trials("kill_leaves_nothing", "stay", killed));
    trials.extend(fake::trials("a_dropped_vm_leaves_nothing", "stay--drop", dropped));
    trials.extend(fake::trials(
        "a_start_that_is_given_up_leaves_nothing",
        "stay--giveup",
        start_dropped,
    ));
    trials.extend(fake::trials(
        "the_end_of_the_runtime_leaves_nothing",
        "stay--runtime",
        runtime_dropped,
    ));
    trials.extend(fake::trials(
        "a_disk_that_another_vm_writes_is_an_error",
        "hello--lock",
        locked_disk,
    ));
    trials.extend(fake::trials(
        "a_bzimage_is_refused_before_anything_is_started",
        "hello--bz",
        bzimage,
    ));
    trials.extend(fake::trials("a_missing_program_is_named", "hello--gone", missing));
    for step in STEPS {
        for (fault, code) in FAULTS {
            let body = move |site| faulty(site, code, fault);
            trials.extend(fake::trials(
                &format!("fault::{step}::{fault}"),
                &format!("{step}--{fault}"),
                body,
            ));
        }
    }
    for (act, code) in [("die", "firecracker_failed"), ("silent", "firecracker_timeout")] {
        let body = move |site| faulty(site, code, act);
        trials.extend(fake::trials(&format!("fault::before_the_api::{act}"), act, body));
    }
    for (fault, code) in [
        ("fail", "jailer_failed"),
        ("half", "jailer_failed"),
        ("nopid", "jailer_failed"),
        ("hang", "firecracker_timeout"),
        ("hangin", "firecracker_timeout"),
        ("wrongpid", "firecracker_failed"),
    ] {
        let body = move |site| faulty(site, code, fault);
        let name = format!("fault::jailer::{fault}");
        trials.push(fake::trial(
            Kind::Jailed,
            &name,
            &format!("jailer--{fault}"),
            body,
        ));
    }
    let jailed = |name, act, body: JailedBody| fake::trial(Kind::Jailed, name, act, body);
    trials.push(jailed(
        "what_a_vm_reads_can_not_be_written_in_its_jail",
        "hello--ro",
        |site| Box::pin(reads_only(site)),
    ));
    trials.push(jailed(
        "a_disk_that_the_jails_user_can_not_read_is_named",
        "hello--unreadable",
        |site| Box::pin(unreadable(site)),
    ));
    trials.push(jailed(
        "a_jail_that_is_in_use_is_left_alone",
        "stay--taken",
        |site| Box::pin(taken(site)),
    ));
    trials.push(jailed(
        "what_a_killed_agent_left_is_removed_by_another_process",
        "stay--orphan",
        |site| Box::pin(orphaned(site)),
    ));
    trials.push(jailed(
        "a_tap_device_is_given_to_the_jails_user_and_stays",
        "entropy--400--tap",
        |site| Box::pin(with_tap(site)),
    ));
    trials
}

async fn start(site: &Site) -> Vm {
    let started = Vm::start(&site.backend, site.config()).await;
    started.unwrap_or_else(|error| panic!("{}", chain(&error)))
}

/// A start that must fail and leave nothing.
async fn fail(site: &Site) -> StartError {
    let error = Vm::start(&site.backend, site.impatient())
        .await
        .expect_err("it started");
    assert_eq!(site.left(), Vec::<String>::new(), "{}", chain(&error));
    error
}

async fn faulty(site: Site, code: &'static str, fault: &'static str) -> Site {
    let started = Instant::now();
    let error = fail(&site).await;
    let said = chain(&error);
    match code {
        // A status came, and words without an end after it.
        "firecracker_refused_or_failed" => {
            assert!(
                ["firecracker_refused", "firecracker_api_failed"].contains(&error.code()),
                "{said}"
            );
        }
        code => assert_eq!(error.code(), code, "{said}"),
    }
    assert!(
        started.elapsed() < Duration::from_secs(30),
        "{:?}",
        started.elapsed()
    );
    assert!(said.len() < 16 * 1024, "{} bytes", said.len());
    match fault {
        "400" | "500" => assert!(
            said.contains(&format!("with status {fault}: this step was refused")),
            "{said}"
        ),
        "die" => assert!(said.contains("this vmm dies"), "{said}"),
        "half" => assert!(said.contains("Jailer error: halfway through"), "{said}"),
        _ => {}
    }
    site
}

async fn runs(site: Site) -> Site {
    let vm = start(&site).await;
    let exit = end_of(&vm).await;
    assert_eq!(exit.cause, ExitCause::GuestReset, "{exit:?}");
    assert_eq!(exit.kernel_panic, None);
    assert_eq!(exit.status.is_some(), site.kind == Kind::Unjailed);
    let uid = match site.kind {
        Kind::Jailed => USER.uid,
        Kind::Unjailed => 0,
    };
    assert_eq!(
        exit.console_tail,
        format!(
            "uid={uid}\ncmdline=console=ttyS0 quiet panic=-1 reboot=k pci=off i8042.noaux i8042.nomux i8042.dumbkbd \
             plfm.instance_id=i1\ndrives-disk0 {}\nhello\n",
            if site.kind == Kind::Jailed {
                "read-only"
            } else {
                "WRITABLE"
            },
        )
    );
    assert_eq!(
        std::fs::read_to_string(vm.console_log()).unwrap(),
        exit.console_tail
    );
    let (first, second) = tokio::join!(vm.wait(), vm.kill());
    assert_eq!(format!("{first:?}"), format!("{second:?}"));
    let scratch = std::fs::read(site.disk("scratch")).unwrap();
    assert!(scratch.starts_with(b"written!"), "a written disk is the very one");
    site
}

async fn panics(site: Site) -> Site {
    let exit = end_of(&start(&site).await).await;
    assert_eq!(
        exit.kernel_panic.as_deref(),
        Some("Kernel panic - not syncing: no init")
    );
    site
}

async fn crashes(site: Site) -> Site {
    let exit = end_of(&start(&site).await).await;
    assert_eq!(exit.cause, ExitCause::VmmFailed);
    assert!(exit.stderr_tail.contains("this vmm dies"), "{}", exit.stderr_tail);
    assert!(exit.stderr_tail.contains("exit_code=101"), "{}", exit.stderr_tail);
    site
}

async fn was_killed(site: Site) -> Site {
    let exit = end_of(&start(&site).await).await;
    assert_eq!(exit.cause, ExitCause::VmmFailed, "{exit:?}");
    site
}

async fn floods(site: Site) -> Site {
    let mut config = site.config();
    config.console_bytes_max = 1000;
    let exit = end_of(&Vm::start(&site.backend, config).await.unwrap()).await;
    assert!(exit.console_truncated);
    let log = std::fs::metadata(site.dir.join("console.log")).unwrap();
    assert!(log.len() < 1200, "{}", log.len());
    site
}

async fn knocks(site: Site) -> Site {
    let vsock = site.backend.vsock(&site.dir).unwrap();
    let listener = vsock.listen(5161).unwrap();
    let vm = start(&site).await;
    let mut stream = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
    let mut said = String::new();
    stream.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "knock");
    let mut guest = vm.vsock().connect(5162, Instant::now() + PATIENCE).await.unwrap();
    let mut said = String::new();
    guest.read_to_string(&mut said).await.unwrap();
    assert_eq!(said, "from the guest");
    let exit = vm.kill().await;
    assert_eq!(exit.cause, ExitCause::Killed);
    drop(listener);
    site
}

async fn killed(site: Site) -> Site {
    let vm = start(&site).await;
    let id = site.dir.file_name().unwrap().to_str().unwrap();
    assert_eq!(processes_with_id(id), vm.pids());
    if let Some(jail) = site.jail() {
        let mode = |path| std::fs::metadata(path).unwrap();
        assert_eq!(mode(jail.dir.clone()).uid(), 0);
        assert_eq!(mode(jail.dir.clone()).permissions().mode() & 0o777, 0o700);
        assert_eq!(mode(jail.root()).uid(), USER.uid);
        if let Some(cgroup) = &jail.cgroup {
            let procs = std::fs::read_to_string(cgroup.join("cgroup.procs")).unwrap();
            assert!(
                procs.lines().any(|pid| pid == vm.pids()[0].to_string()),
                "{procs}"
            );
        }
    }
    let exit = vm.kill().await;
    assert_eq!(exit.cause, ExitCause::Killed);
    assert_eq!(site.left(), Vec::<String>::new());
    site
}

async fn dropped(site: Site) -> Site {
    drop(start(&site).await);
    eventually("the end of all of it", || site.left().is_empty()).await;
    site
}

async fn start_dropped(site: Site) -> Site {
    // At every few milliseconds of a start; the last of them come after it.
    for after in (0..120).step_by(4).map(Duration::from_millis) {
        let start = Vm::start(&site.backend, site.config());
        drop(timeout(after, start).await);
        eventually("the end of all of it", || site.left().is_empty()).await;
    }
    site
}

async fn runtime_dropped(site: Site) -> Site {
    let inner = runtime();
    let (backend, config) = (site.backend.clone(), site.config());
    let vm = inner
        .spawn(async move { Vm::start(&backend, config).await.unwrap() })
        .await
        .unwrap();
    inner.shutdown_background();
    eventually("the end of all of it", || site.left().is_empty()).await;
    assert_eq!(vm.wait().await.cause, ExitCause::Killed);
    site
}

async fn locked_disk(site: Site) -> Site {
    let other = std::fs::File::open(site.disk("scratch")).unwrap();
    rustix::fs::flock(&other, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let error = Vm::start(&site.backend, site.config()).await.unwrap_err();
    assert_eq!(error.code(), "disk_in_use");
    assert!(
        chain(&error).contains("scratch is in use by another vm"),
        "{}",
        chain(&error)
    );
    drop(other);
    site
}

async fn bzimage(site: Site) -> Site {
    let mut bytes = vec![0; 0x202];
    bytes.extend(b"HdrS");
    std::fs::write(site.disk("kernel"), bytes).unwrap();
    let error = fail(&site).await;
    assert_eq!(error.code(), "kernel_format_unsupported");
    assert_eq!(entries(&site.dir), Vec::<String>::new());
    site
}

async fn missing(site: Site) -> Site {
    let program = match site.kind {
        Kind::Jailed => "jailer",
        Kind::Unjailed => "firecracker",
    };
    let error = fail(site.without(program)).await;
    assert_eq!(error.code(), "firecracker_missing");
    assert!(
        error
            .to_string()
            .contains(&format!("{program} is missing: install")),
        "{error}"
    );
    site
}

async fn reads_only(site: Site) -> Site {
    // Whoever owns the disk could write it, but for the mount.
    std::os::unix::fs::chown(site.disk("root"), Some(USER.uid), None).unwrap();
    std::fs::set_permissions(site.disk("root"), std::fs::Permissions::from_mode(0o666)).unwrap();
    let exit = end_of(&start(&site).await).await;
    assert!(
        exit.console_tail.contains("drives-disk0 read-only"),
        "{}",
        exit.console_tail
    );
    site
}

async fn unreadable(site: Site) -> Site {
    std::fs::set_permissions(site.disk("root"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let error = fail(&site).await;
    assert_eq!(error.code(), "disk_unreadable");
    assert!(chain(&error).contains("chmod o+r"), "{}", chain(&error));
    site
}

async fn taken(site: Site) -> Site {
    let vm = start(&site).await;
    let mut config = site.config();
    config.disks.clear();
    let error = Vm::start(&site.backend, config).await.unwrap_err();
    assert_eq!(error.code(), "jail_taken", "{}", chain(&error));
    assert!(vm.exit().is_none(), "the other goes on");
    vm.kill().await;
    site
}

/// The agent dies; what it had written down is enough for the next to remove everything.
async fn orphaned(site: Site) -> Site {
    let vm = start(&site).await;
    let Jail { dir, cgroup } = site.jail().unwrap();
    let pid = vm.pids()[0];
    let listener = site.backend.vsock(&site.dir).unwrap().listen(5163).unwrap();
    // As if it had been killed: no destructor runs.
    std::mem::forget(listener);
    assert!(dir.exists() && site.left().len() > 3, "{:?}", site.left());
    let written_down = Jail { dir, cgroup };
    tokio::task::spawn_blocking(move || written_down.remove())
        .await
        .unwrap()
        .unwrap();
    assert!(!processes_with_id("stay--orphan--j").contains(&pid));
    eventually("the end of all of it", || site.left().is_empty()).await;
    assert_ne!(end_of(&vm).await.cause, ExitCause::GuestReset);
    site
}

async fn with_tap(site: Site) -> Site {
    if TapSupport::detect() != TapSupport::Available {
        return site;
    }
    let name = "plfmfctest0";
    tap::create(name).unwrap();
    let mut config = site.impatient();
    config.tap = Some(TapConfig {
        name: name.into(),
        mac: MacAddress::local([1, 2, 3, 4, 5]),
        mtu: 1420,
    });
    let error = Vm::start(&site.backend, config).await.unwrap_err();
    assert_eq!(error.code(), "firecracker_refused", "{}", chain(&error));
    let owner = std::fs::read_to_string(format!("/sys/class/net/{name}/owner")).unwrap();
    assert_eq!(owner.trim(), USER.uid.to_string());
    tap::delete(name).unwrap();
    assert!(!tap::exists(name), "it was free, and is its maker's to delete");
    site
}
