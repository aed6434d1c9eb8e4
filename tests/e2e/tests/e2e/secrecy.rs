//! Planted secrets and environment values are nowhere but where the program itself put them.

use std::path::Path;

use crate::facts;
use crate::host::{Host, Ran, tool};
use crate::lab;

facts![
    nothing_leaks_when_all_goes_well,
    nothing_leaks_in_a_boot_that_fails,
    nothing_leaks_when_a_request_is_refused,
    nothing_leaks_when_the_end_is_violent,
];

const PLANTED: [&str; 3] = ["planted-secret-5e1f", "planted-value-77aa", "cGxhbnRlZC1iYXNlNjQ"];

/// What was printed so far, beside what is on disk.
struct Search<'a> {
    host: &'a Host,
    printed: Vec<String>,
}

impl<'a> Search<'a> {
    fn on(host: &'a Host) -> Self {
        Self {
            host,
            printed: Vec::new(),
        }
    }

    fn note(&mut self, ran: Ran) -> i32 {
        self.printed.extend([ran.stdout, ran.stderr]);
        ran.code
    }

    /// `plfm run` with secrets and environment planted.
    fn run(&mut self, disk: &Path, options: &[&str], argv: &[&str]) -> i32 {
        let secrets = self.host.path("secrets.env");
        let text = format!(
            "# TRC_SECRETS_V1\nTOKEN={}\nKEY=base64:{}=\n",
            PLANTED[0], PLANTED[2]
        );
        std::fs::write(&secrets, text).unwrap();
        let env = format!("PASSWORD={}", PLANTED[1]);
        let mut args = vec!["--output", "json", "run", "--no-network"];
        args.extend(["--rootdisk", disk.to_str().unwrap()]);
        args.extend(["--secrets", secrets.to_str().unwrap(), "--env", &env]);
        args.extend(options);
        args.push("--");
        args.extend(argv);
        let ran = self.host.plfm(args);
        self.note(ran)
    }

    /// Looks everywhere: files of the agent, its log, its API, and what was printed.
    #[track_caller]
    fn assert_nothing_found(mut self) {
        let host = self.host;
        let instances = host.plfm(["--output", "json", "ps", "--all"]);
        let ids: Vec<String> = instances.json()["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|item| item["id"].as_str().unwrap().to_owned())
            .collect();
        self.note(instances);
        for id in &ids {
            self.note(host.plfm(["instances", "diagnose", id]));
            self.note(host.plfm(["--output", "json", "instances", "diagnose", id]));
            self.note(host.plfm(["logs", id]));
        }
        self.note(host.plfm(["ps", "--all"]));
        self.note(host.plfm(["host"]));
        self.printed.push(host.log());
        for planted in PLANTED {
            for text in &self.printed {
                assert!(!text.contains(planted), "{planted} was printed: {text}");
            }
            let dirs = [host.path("state"), host.path("run")];
            let mut args = vec!["-rlaF", "-D", "skip", planted];
            args.extend(dirs.iter().map(|dir| dir.to_str().unwrap()));
            let found = tool("grep", &args).stdout;
            assert!(found.is_empty(), "{planted} is in {found}");
        }
    }
}

fn nothing_leaks_when_all_goes_well() {
    let host = Host::ready();
    let mut search = Search::on(&host);
    let used = "[ ${#PASSWORD} -eq 18 ] && [ $(wc -l < /run/secrets/platform.env) -eq 3 ]";
    assert_eq!(search.run(&lab::root_disk(), &[], &["/bin/sh", "-c", used]), 0);
    let env = format!("PASSWORD={}", PLANTED[1]);
    let instance = host.start_script(&["--no-network", "--env", &env], "sleep 600");
    let id = instance["id"].as_str().unwrap();
    let with_more = format!("MORE={}", PLANTED[0]);
    let ran = host.plfm([
        "exec",
        "--env",
        &with_more,
        id,
        "--",
        "/bin/sh",
        "-c",
        "[ -n \"$MORE\" ]",
    ]);
    assert_eq!(search.note(ran), 0);
    let ran = host.plfm(["exec", "--env", &with_more, id, "--", "no-such-program"]);
    assert_eq!(search.note(ran), 125);
    // While it runs, its sockets' directory and the guest's log are searched too.
    search.assert_nothing_found();
}

fn nothing_leaks_in_a_boot_that_fails() {
    let host = Host::ready();
    let mut search = Search::on(&host);
    let (noise, disk) = (host.path("noise.img"), lab::root_disk());
    std::fs::write(&noise, vec![0x5a; 1 << 20]).unwrap();
    let volume = format!("data={}:/data", noise.display());
    let cases: [(&Path, &[&str], &[&str]); 6] = [
        (&noise, &[], &["/bin/true"]),
        (&disk, &["--scratch", noise.to_str().unwrap()], &["/bin/true"]),
        (&disk, &["--volume", &volume], &["/bin/true"]),
        (&disk, &["--user", "nobody-here"], &["/bin/true"]),
        (&disk, &[], &["/no/such/program"]),
        (&disk, &["--cwd", "/etc/passwd/x"], &["/bin/true"]),
    ];
    for (disk, options, argv) in cases {
        assert_eq!(search.run(disk, options, argv), 125, "{options:?} {argv:?}");
    }
    search.assert_nothing_found();
}

fn nothing_leaks_when_a_request_is_refused() {
    let host = Host::ready();
    let mut search = Search::on(&host);
    let disk = lab::root_disk();
    assert_eq!(search.run(&disk, &["--memory", "1"], &["/bin/true"]), 125);
    assert_eq!(
        search.run(&disk, &["--stop-signal", "SIGNOPE"], &["/bin/true"]),
        125
    );
    let bad_env = ["--env", "planted-value-77aa"];
    assert_eq!(search.run(&disk, &bad_env, &["/bin/true"]), 125);
    for bad in [
        "lower=planted-secret-5e1f\n".to_owned(),
        "# TRC_SECRETS_V1\nplanted-secret-5e1f\n".to_owned(),
        "# TRC_SECRETS_V1\nA=base64:planted-secret-5e1f!\n".to_owned(),
        "# TRC_SECRETS_V1\nA=planted-secret-5e1f\nA=planted-secret-5e1f\n".to_owned(),
        format!("# TRC_SECRETS_V1\nA={}\n", "planted-secret-5e1f".repeat(1000)),
    ] {
        let file = host.path("bad.env");
        std::fs::write(&file, bad).unwrap();
        let args = ["run", "--rootdisk", disk.to_str().unwrap(), "--secrets"];
        let ran = host.plfm(
            args.into_iter()
                .chain([file.to_str().unwrap(), "--", "/bin/true"]),
        );
        assert_eq!(search.note(ran), 125);
    }
    search.assert_nothing_found();
}

fn nothing_leaks_when_the_end_is_violent() {
    let mut host = Host::ready();
    let disk = lab::root_disk();
    let mut search = Search::on(&host);
    assert_eq!(search.run(&disk, &[], &["/bin/sh", "-c", "kill -SEGV $$"]), 139);
    assert_eq!(
        search.run(&disk, &["--memory", "96"], &["tail", "/dev/zero"]),
        137
    );
    let printed = std::mem::take(&mut search.printed);
    let env = format!("PASSWORD={}", PLANTED[1]);
    host.start_script(&["--no-network", "--env", &env], "sleep 600");
    host.kill_agent();
    host.start_agent();
    let search = Search { host: &host, printed };
    search.assert_nothing_found();
}
