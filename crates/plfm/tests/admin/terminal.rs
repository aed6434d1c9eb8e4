//! What happens on a terminal only: questions, and a token that is not shown while it is typed.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::process::{Child, Stdio};

use crate::operator::Operator;
use crate::scripted::{Answer, Scripted};

/// A command on a terminal of its own.
struct Session {
    terminal: File,
    child: Child,
    seen: String,
}

impl Session {
    fn start(operator: &Operator, args: &[&str]) -> Self {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap().into_string().unwrap();
        let end = || {
            let end = File::options().read(true).write(true).open(&name).unwrap();
            Stdio::from(end)
        };
        let mut command = operator.command(&[&["admin"], args].concat());
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        // The ends in `command` would keep the terminal open.
        drop(command);
        Self {
            terminal: File::from(terminal),
            child,
            seen: String::new(),
        }
    }

    /// Waits until `text` was written.
    fn expect(&mut self, text: &str) {
        while !self.seen.contains(text) {
            assert!(self.read(), "{:?}", self.seen);
        }
    }

    fn answer(&mut self, line: &str) {
        writeln!(self.terminal, "{line}").unwrap();
    }

    /// All that was written, and the exit code.
    fn end(mut self) -> (String, i32) {
        while self.read() {}
        (self.seen, self.child.wait().unwrap().code().unwrap())
    }

    /// False at the end: an error of its own of a terminal's.
    fn read(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let count = self.terminal.read(&mut bytes).unwrap_or(0);
        self.seen += &String::from_utf8_lossy(&bytes[..count]);
        count > 0
    }
}

fn server() -> Scripted {
    Scripted::start(|_, _| Answer::problem(404, "token_unknown"))
}

#[test]
fn on_a_terminal_a_yes_is_asked_for() {
    let server = server();
    let operator = server.operator();
    let revoke = ["tokens", "revoke", "01J"];
    for (answer, code, requests) in [
        ("n", 1, 0),
        ("", 1, 0),
        ("yes!", 1, 0),
        ("y", 4, 1),
        ("yes", 4, 2),
    ] {
        let mut session = Session::start(&operator, &revoke);
        session.expect("take back the token 01J? [y/N] ");
        session.answer(answer);
        let (seen, found) = session.end();
        assert_eq!((found, server.requests().len()), (code, requests), "{seen}");
    }
    let (seen, code) = Session::start(&operator, &[&revoke[..], &["--no-input"]].concat()).end();
    assert_eq!(code, 2, "{seen}");
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_typed_token_is_not_shown() {
    let operator = Operator::new();
    operator.write("ca.pem", &server().ca);
    let add = ["context", "add", "it", "--url", "https://c", "--ca", "ca.pem"];
    let mut session = Session::start(&operator, &add);
    session.expect("token: ");
    session.answer("plfm_op_secret");
    let (seen, code) = session.end();
    assert_eq!(code, 0, "{seen}");
    assert!(!seen.contains("secret"), "{seen}");
    assert!(
        std::fs::read_to_string(operator.config())
            .unwrap()
            .contains("plfm_op_secret")
    );
}

#[test]
fn a_watched_rollout_is_drawn_in_its_own_place_and_left_whole() {
    use crate::rollouts::rollout;
    use serde_json::json;

    let complete = json!({"stage": "complete", "why": "complete: the hosts go by the new target"});
    let server = Scripted::start(move |_, number| {
        let state = match number {
            0 | 1 => rollout(&json!({})),
            _ => rollout(&complete),
        };
        Answer::json(200, state.to_string())
    });
    let (seen, code) = Session::start(&server.operator(), &["rollout", "show", "--watch"]).end();
    assert_eq!(code, 0, "{seen}");
    // A page, another one in its place (so many rows up, and all below is gone), and that one whole.
    let pages: Vec<&str> = seen.split("\u{1b}[23A\u{1b}[J").collect();
    let [first, second, last] = pages[..] else {
        panic!("{seen}")
    };
    for page in [first, second] {
        assert!(page.ends_with("…\r"), "{page}");
        let fits = |line: &str| line.trim_end().chars().count() <= 80;
        assert!(page.lines().all(fits), "{page}");
    }
    assert!(first.contains("canary, wave 2 of 3 at 5%"), "{first}");
    assert!(second.contains("state      complete"), "{second}");
    let moment = "wave 2 begins: 0 of 60 boots failed in the one before";
    assert!(last.contains(moment) && !second.contains(moment), "{last}");
    assert!(!last.contains('\u{1b}'), "{last}");
}

#[test]
fn on_a_terminal_a_promotion_says_how_far_the_rollout_is() {
    use crate::rollouts::rollout;
    use serde_json::json;

    let server = Scripted::start(|_, _| Answer::json(200, rollout(&json!({})).to_string()));
    let operator = server.operator();
    let mut session = Session::start(&operator, &["rollout", "promote"]);
    session.expect("though its rollout is only at: canary, wave 2 of 3 at 5%? [y/N] ");
    session.answer("n");
    let (seen, code) = session.end();
    assert_eq!((code, server.requests().len()), (1, 1), "{seen}");
}
