//! JSON files whose bytes depend on their content alone.

use std::collections::BTreeMap;

use serde::ser::{Serialize, Serializer};
use serde_json::Value;

/// `value`, indented, with sorted keys and a line break at the end.
///
/// Sorted here, because whether `serde_json` sorts is a feature that any crate of a build can switch.
pub(crate) fn render_json(value: &Value) -> Vec<u8> {
    // A value has only texts as keys, so there is nothing that the serializer could fail on.
    let mut bytes = serde_json::to_vec_pretty(&Sorted(value)).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

struct Sorted<'a>(&'a Value);

impl Serialize for Sorted<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(members) => {
                let sorted: BTreeMap<_, _> =
                    members.iter().map(|(key, value)| (key, Sorted(value))).collect();
                serializer.collect_map(sorted)
            }
            Value::Array(items) => serializer.collect_seq(items.iter().map(Sorted)),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {
                self.0.serialize(serializer)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_sorted_at_every_depth() {
        let value = serde_json::json!({"b": [{"d": 1, "c": null}], "a": "x"});
        let expected =
            "{\n  \"a\": \"x\",\n  \"b\": [\n    {\n      \"c\": null,\n      \"d\": 1\n    }\n  ]\n}\n";
        assert_eq!(String::from_utf8(render_json(&value)).unwrap(), expected);
    }
}
