//! The customer's image: three file systems, never written, and nothing expected of it.

use std::path::Path;

use plfm_release::Sha256Digest;

use crate::host::{Host, tool};
use crate::{facts, lab};

facts![
    ext4_and_squashfs_images_boot_as_erofs_does,
    the_root_disk_is_bit_identical_after_a_workload_wrote_everywhere,
    an_image_without_any_directory_boots,
    links_in_the_way_of_kernel_file_systems_are_not_followed,
];

fn run(host: &Host, disk: &Path, argv: &[&str]) -> crate::host::Ran {
    let args = [
        "run",
        "--quiet",
        "--no-network",
        "--rootdisk",
        disk.to_str().unwrap(),
        "--",
    ];
    host.plfm(args.into_iter().chain(argv.iter().copied()))
}

fn ext4_and_squashfs_images_boot_as_erofs_does() {
    let host = Host::ready();
    let userland = lab::dir().join("rootfs");
    let (ext4, squashfs) = (host.path("root.ext4"), host.path("root.squashfs"));
    tool(
        "mke2fs",
        &[
            "-q",
            "-t",
            "ext4",
            "-d",
            userland.to_str().unwrap(),
            ext4.to_str().unwrap(),
            "16M",
        ],
    )
    .ok();
    tool(
        "mksquashfs",
        &[
            userland.to_str().unwrap(),
            squashfs.to_str().unwrap(),
            "-quiet",
            "-no-progress",
            "-comp",
            "zstd",
        ],
    )
    .ok();
    for disk in [ext4, squashfs] {
        assert_eq!(
            run(&host, &disk, &["/bin/sh", "-c", "echo hello > /new; cat /new"])
                .ok()
                .stdout,
            "hello\n"
        );
    }
}

fn the_root_disk_is_bit_identical_after_a_workload_wrote_everywhere() {
    let host = Host::ready();
    let disk = host.path("root.ext4");
    let userland = lab::dir().join("rootfs");
    tool(
        "mke2fs",
        &[
            "-q",
            "-t",
            "ext4",
            "-d",
            userland.to_str().unwrap(),
            disk.to_str().unwrap(),
            "16M",
        ],
    )
    .ok();
    let before = Sha256Digest::of(&std::fs::read(&disk).unwrap());
    let script = "for d in $(find / -xdev -type d | grep -vE '^/(proc|sys|dev)$'); do echo x > $d/written || exit 1; done; rm -rf /srv; chmod 700 /bin; \
                  echo x >> /etc/passwd; for d in /dev/vda; do echo x > $d && exit 2; done; sync; exit 0";
    assert_eq!(run(&host, &disk, &["/bin/sh", "-c", script]).code, 0);
    assert_eq!(Sha256Digest::of(&std::fs::read(&disk).unwrap()), before);
}

fn an_image_without_any_directory_boots() {
    let host = Host::ready();
    let (dir, disk) = (host.path("bare"), host.path("bare.erofs"));
    std::fs::create_dir(&dir).unwrap();
    std::fs::copy(lab::dir().join("rootfs/bin/busybox"), dir.join("busybox")).unwrap();
    tool(
        "mkfs.erofs",
        &["--quiet", disk.to_str().unwrap(), dir.to_str().unwrap()],
    )
    .ok();
    assert_eq!(
        run(&host, &disk, &["/busybox", "ls", "/"]).ok().stdout,
        "busybox\ndev\netc\nproc\nrun\nsys\ntmp\n"
    );
}

fn links_in_the_way_of_kernel_file_systems_are_not_followed() {
    let host = Host::ready();
    let (dir, disk) = (host.path("linked"), host.path("linked.erofs"));
    std::fs::create_dir_all(dir.join("trap")).unwrap();
    std::fs::copy(lab::dir().join("rootfs/bin/busybox"), dir.join("busybox")).unwrap();
    for name in ["proc", "sys", "dev", "run", "tmp", "etc"] {
        std::os::unix::fs::symlink("/trap", dir.join(name)).unwrap();
    }
    tool(
        "mkfs.erofs",
        &["--quiet", disk.to_str().unwrap(), dir.to_str().unwrap()],
    )
    .ok();
    let script = "/busybox ls /trap | /busybox wc -l; /busybox test -d /proc/1 && ! /busybox test -L /etc && echo fine";
    let ran = run(&host, &disk, &["/busybox", "sh", "-c", script]).ok();
    assert_eq!(ran.stdout, "0\nfine\n");
}
