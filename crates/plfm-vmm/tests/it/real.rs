//! A real Firecracker with its real jailer, where this machine has them: `PLFM_FIRECRACKER`, or on `PATH`, with the jailer
//! beside it. Without KVM that is really usable its guest does not get far; everything up to there is real all the same.

use std::path::PathBuf;

use libtest_mimic::{Failed, Trial};
use plfm_vmm::{ExitCause, FirecrackerVersion, StartError, Vm, VmConfig, VmImage};

use crate::fake::{self, Kind, Site};
use crate::lab::{chain, runtime};

pub fn trials() -> Vec<Trial> {
    vec![
        trial(
            "a_real_firecracker_takes_every_call_in_its_jail",
            Kind::Jailed,
            "real",
            takes,
        ),
        trial(
            "a_real_firecracker_takes_every_call_without_a_jail",
            Kind::Unjailed,
            "real",
            takes,
        ),
        trial(
            "a_real_firecracker_that_refuses_a_kernel_leaves_nothing",
            Kind::Jailed,
            "real--bad",
            refuses,
        ),
        trial(
            "a_real_firecracker_has_a_process_namespace_of_its_own",
            Kind::Jailed,
            "real--ns",
            is_apart,
        ),
    ]
}

fn find() -> Result<(PathBuf, PathBuf, PathBuf), String> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let firecracker = std::env::var_os("PLFM_FIRECRACKER")
        .map(PathBuf::from)
        .or_else(|| {
            std::env::split_paths(&path)
                .map(|dir| dir.join("firecracker"))
                .find(|file| file.is_file())
        })
        .ok_or("no firecracker in PLFM_FIRECRACKER or on PATH")?;
    FirecrackerVersion::of(&firecracker).map_err(|error| error.to_string())?;
    let jailer = firecracker.with_file_name("jailer");
    FirecrackerVersion::of(&jailer).map_err(|error| error.to_string())?;
    let kernel = std::env::var_os("PLFM_LAB_KERNEL").ok_or("PLFM_LAB_KERNEL names no kernel")?;
    fake::missing().map_or(Ok(()), Err)?;
    Ok((firecracker, jailer, kernel.into()))
}

fn trial<F, Fut>(name: &str, kind: Kind, id: &'static str, body: F) -> Trial
where
    F: FnOnce(Site, PathBuf) -> Fut + Send + 'static,
    Fut: Future<Output = Site>,
{
    let found = find();
    let is_missing = found.is_err();
    Trial::test(name, move || {
        let (firecracker, jailer, kernel) = found.map_err(Failed::from)?;
        let id = format!("{id}--{}", if kind == Kind::Jailed { "j" } else { "u" });
        let site = Site::with(kind, &id, &firecracker, &jailer, &[]);
        let site = runtime().block_on(async { body(site, kernel).await });
        assert_eq!(site.left(), Vec::<String>::new());
        Ok(())
    })
    .with_ignored_flag(is_missing)
}

fn config(site: &Site, kernel: PathBuf) -> VmConfig {
    VmConfig {
        kernel: VmImage::new(std::fs::File::open(kernel).unwrap()),
        ..site.config()
    }
}

async fn takes(site: Site, kernel: PathBuf) -> Site {
    let _listener = site.backend.vsock(&site.dir).unwrap().listen(5161).unwrap();
    let started = Vm::start(&site.backend, config(&site, kernel)).await;
    let vm = started.unwrap_or_else(|error| panic!("{}", chain(&error)));
    let exit = vm.kill().await;
    // A guest that died in the meantime died of its initramfs, which is none, or of this machine's KVM.
    assert!(
        [ExitCause::Killed, ExitCause::GuestReset, ExitCause::VmmFailed].contains(&exit.cause),
        "{exit:?}"
    );
    assert!(
        exit.stderr_tail.contains("Firecracker v1."),
        "{}",
        exit.stderr_tail
    );
    site
}

async fn refuses(site: Site, _: PathBuf) -> Site {
    // It begins as an ELF file does, and is none.
    let error = Vm::start(&site.backend, site.config()).await.unwrap_err();
    let StartError::FirecrackerApi { source, words } = &error else {
        panic!("{}", chain(&error));
    };
    assert_eq!(error.code(), "firecracker_refused", "{words}");
    assert!(
        source
            .to_string()
            .starts_with("firecracker refused start with status 400: "),
        "{source}"
    );
    site
}

async fn is_apart(site: Site, kernel: PathBuf) -> Site {
    let vm = Vm::start(&site.backend, config(&site, kernel)).await.unwrap();
    let status = std::fs::read_to_string(format!("/proc/{}/status", vm.pids()[0])).unwrap();
    let line = |key: &str| {
        status
            .lines()
            .find(|line| line.starts_with(key))
            .unwrap()
            .to_owned()
    };
    let numbers: Vec<String> = line("NSpid:")
        .split_ascii_whitespace()
        .skip(1)
        .map(str::to_owned)
        .collect();
    assert_eq!(numbers.last().map(String::as_str), Some("1"), "{numbers:?}");
    assert_eq!(numbers.len(), 2, "{numbers:?}");
    assert!(
        line("Uid:").contains(&fake::USER.uid.to_string()),
        "{}",
        line("Uid:")
    );
    assert_eq!(
        line("Seccomp:"),
        "Seccomp:\t2",
        "filters are on once the guest runs"
    );
    assert_eq!(line("CapEff:"), "CapEff:\t0000000000000000");
    vm.kill().await;
    site
}
