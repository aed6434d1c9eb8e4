//! What either end holds the other's reports to. A guest is under its customer's control, so nothing that it says is
//! taken to be short, printable or in range; and what the guest prints goes over a slow serial line.

use super::{Exit, Hello, StageTiming};
use crate::cmdline::is_instance_id;
use crate::{ProtocolError, Reason};

/// Longest `detail` of a failure or a reject, in bytes: it is for people, who read it in a terminal.
pub const DETAIL_BYTES_MAX: usize = 4 * 1024;
/// Longest `code` of a reject and `signal` of a request, in bytes: all that are known are far shorter.
pub(crate) const CODE_BYTES_MAX: usize = 64;
/// Longest `guest_init_version`, in bytes.
const VERSION_BYTES_MAX: usize = 64;

/// `text` with control characters as spaces, cut to at most `bytes_max` bytes.
pub(crate) fn plain_text(text: &str, bytes_max: usize) -> String {
    let kept = text
        .get(..text.floor_char_boundary(bytes_max))
        .unwrap_or_default();
    kept.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn bad<T>(member: &'static str, problem: &'static str) -> Result<T, ProtocolError> {
    Err(ProtocolError::Report { member, problem })
}

impl Hello {
    /// Whether it comes from a guest that failed before it could read who it is: both ids are empty. All that it has
    /// to say is how it failed.
    pub fn is_nameless(&self) -> bool {
        self.instance_id.is_empty() && self.boot_id.is_empty()
    }

    pub(crate) fn check(&self) -> Result<(), ProtocolError> {
        let version = &self.guest_init_version;
        if !(1..=VERSION_BYTES_MAX).contains(&version.len()) || !version.bytes().all(|b| b.is_ascii_graphic())
        {
            return bad("guest_init_version", "is not 1 to 64 printable ASCII characters");
        }
        if self.is_nameless() {
            return Ok(());
        }
        if !is_instance_id(&self.instance_id) {
            return bad(
                "instance_id",
                "is not 1 to 64 letters, digits, dashes or underscores",
            );
        }
        if !is_uuid(&self.boot_id) {
            return bad("boot_id", "is not a UUID");
        }
        Ok(())
    }
}

/// 8-4-4-4-12 hexadecimal digits (RFC 9562, section 4).
fn is_uuid(text: &str) -> bool {
    let lengths = [8, 4, 4, 4, 12];
    text.split('-').map(str::len).eq(lengths) && text.bytes().all(|b| b == b'-' || b.is_ascii_hexdigit())
}

impl Exit {
    pub(crate) fn check(&self) -> Result<(), ProtocolError> {
        if self.exit_code.is_some() && self.signal.is_some() {
            return bad("exit", "has both an exit_code and a signal");
        }
        if self.exit_code.is_some_and(|code| !(0..=255).contains(&code)) {
            return bad("exit_code", "is not 0 to 255");
        }
        if self.signal.is_some_and(|signal| !(1..=64).contains(&signal)) {
            return bad("signal", "is not 1 to 64");
        }
        if self
            .reason
            .is_some_and(|reason| reason != Reason::WorkloadCrashed)
        {
            return bad("reason", "is not one of an exit");
        }
        Ok(())
    }
}

/// In the order of the boot, so each at most once.
pub(crate) fn check_stages(stages: &[StageTiming]) -> Result<(), ProtocolError> {
    if !stages.is_sorted_by(|earlier, later| earlier.stage < later.stage) {
        return bad("stages", "are not in the order of the boot");
    }
    if stages.iter().any(|timing| timing.started_us > timing.finished_us) {
        return bad("stages", "have one that ends before it begins");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_cut_between_characters_and_loses_its_control_characters() {
        assert_eq!(plain_text("a\x1b[31m\nb", 64), "a [31m b");
        assert_eq!(plain_text("aää", 4), "aä");
        assert_eq!(plain_text("aää", 5), "aää");
    }

    #[test]
    fn only_the_form_of_a_uuid_is_taken() {
        assert!(is_uuid("3f0a3c1e-7b1e-4a59-8a35-0c9f0e7a9d11"));
        for bad in [
            "",
            "3f0a3c1e7b1e4a598a350c9f0e7a9d11",
            "3f0a3c1e-7b1e-4a59-8a35-0c9f0e7a9d1g",
            "-----",
        ] {
            assert!(!is_uuid(bad), "{bad}");
        }
    }
}
