//! Signals as OCI images and people write them.

/// The number of a signal by name (`SIGTERM`, `TERM`, `SIGRTMIN+3`) or number, as OCI images write them.
pub fn signal_number(text: &str) -> Option<i32> {
    const NAMES: [&str; 31] = [
        "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
        "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
        "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
    ];
    // The C library keeps 32 and 33 for itself (signal(7)): nobody can be sent one.
    const RTMIN: i32 = 34;
    const RTMAX: i32 = 64;
    let text = text.to_ascii_uppercase();
    if let Ok(number) = text.parse::<i32>() {
        return ((1..=31).contains(&number) || (RTMIN..=RTMAX).contains(&number)).then_some(number);
    }
    let name = text.strip_prefix("SIG").unwrap_or(&text);
    let offset = |rest: &str, sign: char| {
        if rest.is_empty() {
            Some(0)
        } else {
            rest.strip_prefix(sign)?.parse::<i32>().ok()
        }
    };
    let realtime = match (name.strip_prefix("RTMIN"), name.strip_prefix("RTMAX")) {
        (Some(rest), _) => offset(rest, '+').map(|n| RTMIN.saturating_add(n)),
        (_, Some(rest)) => offset(rest, '-').map(|n| RTMAX.saturating_sub(n)),
        (None, None) => {
            let index = NAMES.iter().position(|known| *known == name)?;
            return i32::try_from(index + 1).ok();
        }
    };
    realtime.filter(|number| (RTMIN..=RTMAX).contains(number))
}
