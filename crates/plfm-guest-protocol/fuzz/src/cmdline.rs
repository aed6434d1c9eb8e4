//! The kernel command line: its last instance id counts, and nothing else of it does.

use plfm_guest_protocol::{Cmdline, CmdlineError};

const KEY: &str = "plfm.instance_id=";

/// Parses `bytes` as a command line and compares with a second reading of it.
pub fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let parsed = Cmdline::parse(&text);
    let last = text
        .split_ascii_whitespace()
        .rev()
        .find_map(|word| word.strip_prefix(KEY));
    match (&parsed, last) {
        (Ok(cmdline), Some(id)) => {
            assert_eq!(cmdline.instance_id, id);
            assert!((1..=64).contains(&id.len()));
            assert!(id.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)));
        }
        (Err(CmdlineError::BadInstanceId), Some(id)) => {
            let plain = id.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
            assert!(!plain || id.is_empty() || id.len() > 64, "{id:?} is a good id");
        }
        (Err(CmdlineError::NoInstanceId), None) => {}
        (_, _) => panic!("{parsed:?}, but the last id is {last:?}"),
    }
    let later = Cmdline::parse(&format!("{text} {KEY}later"));
    assert_eq!(later.map(|cmdline| cmdline.instance_id).as_deref(), Ok("later"));
    assert_eq!(
        Cmdline::parse(&format!("quiet panic=-1 {text}")).is_ok(),
        parsed.is_ok() && !text.is_empty()
    );
}
