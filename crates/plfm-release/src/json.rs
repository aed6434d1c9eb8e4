//! JSON without its ambiguities.
//!
//! A document that is signed must mean one thing to every reader. So: no duplicate keys (readers differ in which
//! one wins), no number but an integer that a double holds exactly (RFC 8785 prints numbers as ECMAScript does),
//! no `-0`, no U+007F (`jq` escapes it where RFC 8785 does not, and an operator checks signatures with `jq`), and
//! no key with a character from U+E000 on (`jq` sorts keys by code point, RFC 8785 by UTF-16 code unit; below
//! U+D800 the two agree).

use std::collections::BTreeSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Deepest nesting taken; a manifest has three levels.
pub const JSON_DEPTH_MAX: usize = 16;
/// Largest integer magnitude that every JSON reader agrees on (2^53 - 1, RFC 8259 section 6).
const INTEGER_MAX: u64 = (1 << 53) - 1;

/// First character of the range in which key order depends on the reader.
const KEY_CHAR_END: char = '\u{e000}';

/// Why a document was refused.
#[derive(Debug, thiserror::Error)]
#[error("not acceptable JSON")]
pub struct JsonError(#[from] serde_json::Error);

/// Parses one JSON document strictly.
///
/// # Errors
/// On anything that is not JSON (RFC 8259), on bytes after the document, and on the ambiguities named above.
pub fn parse_strict_json(bytes: &[u8]) -> Result<Value, JsonError> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let value = StrictValue {
        depth: JSON_DEPTH_MAX,
    }
    .deserialize(&mut deserializer)?;
    deserializer.end()?;
    Ok(value)
}

#[derive(Clone, Copy)]
struct StrictValue {
    depth: usize,
}

impl StrictValue {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth = self
            .depth
            .checked_sub(1)
            .ok_or_else(|| E::custom("nested too deep"))?;
        Ok(Self { depth })
    }
}

impl<'de> DeserializeSeed<'de> for StrictValue {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

fn check_text<E: serde::de::Error>(text: &str) -> Result<(), E> {
    if text.contains('\u{7f}') {
        Err(E::custom("a text holds U+007F"))
    } else {
        Ok(())
    }
}

impl<'de> Visitor<'de> for StrictValue {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON with unique keys and integers only")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Value, E> {
        if value.unsigned_abs() > INTEGER_MAX {
            return Err(E::custom(format_args!("the number {value} is beyond 2^53 - 1")));
        }
        Ok(value.into())
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Value, E> {
        if value > INTEGER_MAX {
            return Err(E::custom(format_args!("the number {value} is beyond 2^53 - 1")));
        }
        Ok(value.into())
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Err(E::custom(format_args!("the number {value:?} is not an integer")))
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        check_text(value)?;
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut seen = BTreeSet::new();
        let mut members = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            check_text(&key)?;
            if key.contains(|c| c >= KEY_CHAR_END) {
                return Err(A::Error::custom(format_args!(
                    "the key {key:?} holds a character from U+E000 on"
                )));
            }
            if !seen.insert(key.clone()) {
                return Err(A::Error::custom(format_args!("the key {key:?} appears twice")));
            }
            let value = map.next_value_seed(inner)?;
            members.insert(key, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[track_caller]
    fn refused_because(text: &str, reason: &str) {
        let error = parse_strict_json(text.as_bytes()).unwrap_err();
        let source = std::error::Error::source(&error).unwrap().to_string();
        assert!(source.contains(reason), "{text}: {source}");
    }

    #[test]
    fn ambiguous_documents_are_refused_with_the_reason() {
        refused_because(r#"{"a":1,"a":1}"#, r#"the key "a" appears twice"#);
        refused_because(r#"{"x":{"\u0061":1,"a":2}}"#, r#"the key "a" appears twice"#);
        refused_because("1.0", "not an integer");
        refused_because("1e3", "not an integer");
        refused_because("-0", "not an integer");
        refused_because("9007199254740992", "beyond 2^53");
        refused_because("-9007199254740992", "beyond 2^53");
        refused_because("\"\u{7f}\"", "U+007F");
        refused_because("{\"\u{fffd}\":1}", "U+E000");
        refused_because("{\"\u{10000}\":1}", "U+E000");
        refused_because("{} x", "trailing");
        refused_because(&format!("{}{}", "[".repeat(17), "]".repeat(17)), "too deep");
    }

    #[test]
    fn deep_nesting_does_not_overflow_the_stack() {
        assert!(parse_strict_json("[".repeat(1 << 20).as_bytes()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_value_or_an_error(bytes: Vec<u8>) {
            let _ = parse_strict_json(&bytes);
        }

        #[test]
        fn what_is_taken_is_what_serde_json_reads(text in r#"\{("[a-c]":(-?[1-9][0-9]{0,3}|"[a-z]{0,3}"|null|true|\[\]),?){0,3}\}"#) {
            if let Ok(value) = parse_strict_json(text.as_bytes()) {
                prop_assert_eq!(value, serde_json::from_str::<Value>(&text).unwrap());
            }
        }
    }
}
