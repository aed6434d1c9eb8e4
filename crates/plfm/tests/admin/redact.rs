//! Words in the place of what differs from run to run.

/// Characters that end a word.
const ENDS: [char; 12] = [' ', '\n', '"', '\'', ',', ')', '(', '/', '`', ';', ':', '='];

/// Ids, times, secrets, digests and addresses.
pub fn redact(text: &str) -> String {
    let text = redact_spans(&redact_times(text));
    let mut out = String::new();
    for word in text.split_inclusive(ENDS) {
        let bare = word.trim_end_matches(ENDS);
        let end = word.get(bare.len()..).unwrap_or_default();
        out += name(bare).unwrap_or(bare);
        out += end;
    }
    out.lines()
        .map(|line| line.trim_end().to_owned() + "\n")
        .collect()
}

fn name(word: &str) -> Option<&'static str> {
    let is_ulid = |word: &str| {
        word.len() == 26
            && word.starts_with("01")
            && word.bytes().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
    };
    let is_hex = |word: &str| word.len() == 64 && word.bytes().all(|b| b.is_ascii_hexdigit());
    let is_port =
        |word: &str| word.len() == 5 && word.starts_with(['3', '4', '5', '6']) && word.parse::<u16>().is_ok();
    match word {
        _ if word.starts_with("plfm_op_") && word.len() > 20 => Some("OPERATOR-TOKEN"),
        _ if word.starts_with("plfm_enroll_") && word.len() > 20 => Some("ENROLLMENT-TOKEN"),
        _ if is_ulid(word) => Some("ID"),
        _ if is_hex(word) => Some("HEX"),
        _ if is_port(word) => Some("PORT"),
        _ => None,
    }
}

/// `2026-01-02T03:04:05Z`, with a fraction or without, has colons of its own.
fn redact_times(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find("20") {
        let (before, candidate) = rest.split_at(at);
        out += before;
        match time_len(candidate) {
            Some(len) => {
                out += "TIME";
                rest = &candidate[len..];
            }
            None => {
                out += "20";
                rest = &candidate[2..];
            }
        }
    }
    out + rest
}

fn time_len(text: &str) -> Option<usize> {
    let shape = "dddd-dd-ddTdd:dd:dd";
    let fits = text.len() > shape.len()
        && shape.bytes().zip(text.bytes()).all(|(shape, byte)| match shape {
            b'd' => byte.is_ascii_digit(),
            other => other == byte,
        });
    let end = text.find('Z').filter(|_| fits)?;
    let fraction = &text[shape.len()..end];
    (fraction.len() <= 10).then_some(end + 1)
}

/// `3 s ago`: the same, however slow the machine is.
fn redact_spans(text: &str) -> String {
    let mut out = text.to_owned();
    for seconds in 0..120 {
        out = out.replace(&format!(" {seconds} s ago"), " N s ago");
    }
    out
}

#[test]
fn what_differs_is_named() {
    let text =
        "at 2026-01-02T03:04:05.123Z https://127.0.0.1:45678/ 01JZZZZZZZZZZZZZZZZZZZZZZZ, 3 s ago 20 201";
    assert_eq!(
        redact(text),
        "at TIME https://127.0.0.1:PORT/ ID, N s ago 20 201\n"
    );
}
