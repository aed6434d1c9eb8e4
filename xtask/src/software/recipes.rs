//! Which packages, and how their programs run.

use super::Recipe;

/// All images.
pub const ALL: &[Recipe] = &[NGINX, REDIS, POSTGRESQL];

const LEFT_OUT: &[&str] = &[
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/lib/x86_64-linux-gnu/gconv",
];

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh
www-data:x:33:33:www-data:/srv/www:/usr/sbin/nologin
redis:x:101:101:redis:/data:/usr/sbin/nologin
postgres:x:102:102:postgres:/var/lib/postgresql:/bin/sh
";
const GROUP: &str = "root:x:0:
www-data:x:33:
redis:x:101:
postgres:x:102:
";

const NGINX: Recipe = Recipe {
    name: "nginx",
    libraries: &["libc6", "libcrypt1", "libpcre2-8-0", "libssl3", "zlib1g"],
    packages: &["nginx", "nginx-common"],
    directories: &[
        ("var/log/nginx", 0),
        ("var/lib/nginx", 33),
        ("run", 0),
        ("tmp", 0),
    ],
    files: &[
        ("etc/passwd", 0o644, PASSWD),
        ("etc/group", 0o644, GROUP),
        ("srv/www/index.html", 0o644, "a page of a real nginx\n"),
        (
            "etc/nginx/nginx.conf",
            0o644,
            "user www-data;
worker_processes 1;
error_log stderr;
pid /run/nginx.pid;
events {}
http {
    access_log off;
    server {
        listen [::]:80;
        root /srv/www;
    }
}
",
        ),
    ],
    left_out: LEFT_OUT,
    config: &[
        "--config.entrypoint=/usr/sbin/nginx",
        "--config.cmd=-g",
        "--config.cmd=daemon off;",
        "--config.stopsignal=SIGQUIT",
        "--config.exposedports=80/tcp",
    ],
};

const REDIS: Recipe = Recipe {
    name: "redis",
    libraries: &[
        "libc6",
        "libatomic1",
        "libcap2",
        "libgcc-s1",
        "libgcrypt20",
        "libgpg-error0",
        "libjemalloc2",
        "liblz4-1",
        "liblzf1",
        "liblzma5",
        "libssl3",
        "libstdc++6",
        "libsystemd0",
        "libzstd1",
    ],
    packages: &["redis-tools", "redis-server"],
    directories: &[("data", 101), ("tmp", 0)],
    files: &[("etc/passwd", 0o644, PASSWD), ("etc/group", 0o644, GROUP)],
    left_out: LEFT_OUT,
    config: &[
        "--config.entrypoint=/usr/bin/redis-server",
        "--config.cmd=--bind",
        "--config.cmd=::",
        "--config.cmd=--protected-mode",
        "--config.cmd=no",
        "--config.cmd=--appendonly",
        "--config.cmd=yes",
        "--config.workingdir=/data",
        "--config.user=redis",
        "--config.volume=/data",
        "--config.exposedports=6379/tcp",
    ],
};

const POSTGRESQL: Recipe = Recipe {
    name: "postgresql",
    libraries: &[
        "libc6",
        "libaudit1",
        "libcap-ng0",
        "libcap2",
        "libcom-err2",
        "libcrypt1",
        "libffi8",
        "libgcc-s1",
        "libgcrypt20",
        "libgmp10",
        "libgnutls30",
        "libgpg-error0",
        "libgssapi-krb5-2",
        "libhogweed6",
        "libicu72",
        "libidn2-0",
        "libk5crypto3",
        "libkeyutils1",
        "libkrb5-3",
        "libkrb5support0",
        "libldap-2.5-0",
        "liblz4-1",
        "liblzma5",
        "libnettle8",
        "libp11-kit0",
        "libpam0g",
        "libpq5",
        "libsasl2-2",
        "libselinux1",
        "libpcre2-8-0",
        "libssl3",
        "libstdc++6",
        "libsystemd0",
        "libtasn1-6",
        "libunistring2",
        "libuuid1",
        "libxml2",
        "libzstd1",
        "zlib1g",
        "tzdata",
    ],
    packages: &["postgresql-15"],
    directories: &[
        ("var/lib/postgresql", 102),
        ("var/lib/postgresql/data", 102),
        ("run/postgresql", 102),
        ("tmp", 0),
    ],
    files: &[
        ("etc/passwd", 0o644, PASSWD),
        ("etc/group", 0o644, GROUP),
        (
            "usr/local/bin/start",
            0o755,
            r#"#!/usr/bin/busybox sh
set -e
bin=/usr/lib/postgresql/15/bin
if [ ! -e "$PGDATA/PG_VERSION" ]; then
    $bin/initdb --auth=trust --no-sync --locale=C --encoding=UTF8 >&2
    echo "host all all ::/0 trust" >> "$PGDATA/pg_hba.conf"
fi
exec $bin/postgres -c listen_addresses=:: -c unix_socket_directories= "$@"
"#,
        ),
    ],
    left_out: &[
        "usr/share/doc",
        "usr/share/man",
        "usr/share/locale",
        "usr/share/lintian",
        "usr/lib/x86_64-linux-gnu/gconv",
        "usr/lib/postgresql/15/lib/bitcode",
    ],
    config: &[
        "--config.entrypoint=/usr/local/bin/start",
        "--config.env=PGDATA=/var/lib/postgresql/data/main",
        "--config.env=PATH=/usr/local/bin:/usr/bin:/usr/sbin",
        "--config.user=postgres",
        "--config.workingdir=/var/lib/postgresql",
        "--config.volume=/var/lib/postgresql/data",
        "--config.stopsignal=SIGINT",
        "--config.exposedports=5432/tcp",
    ],
};
