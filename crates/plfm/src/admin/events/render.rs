//! An event in words.

use plfm_api::control::Event;
use serde_json::Value;

use crate::times::render_time;

/// On one line, in the order of the table's columns.
pub fn render_line(event: &Event) -> String {
    format!(
        "{:>6}  {}  {:<20}  {}  {}  {}",
        event.position,
        render_time(event.at),
        event.kind,
        event.aggregate,
        render_actor(event),
        render_detail(event)
    )
    .trim_end()
    .to_owned()
}

/// Who did it.
pub fn render_actor(event: &Event) -> String {
    match event.actor.name.is_empty() {
        true => event.actor.kind.clone(),
        false => format!("{}:{}", event.actor.kind, event.actor.name),
    }
}

/// `name=value` of what is there; a value that is no plain word is JSON. What the event is about is not said again, and
/// digests are for programs.
pub fn render_detail(event: &Event) -> String {
    let Some(members) = event.detail.as_object() else {
        return match &event.detail {
            Value::Null => String::new(),
            other => other.to_string(),
        };
    };
    let about = event.aggregate.split_once('/').map(|(_, id)| id);
    let is_news = |name: &str, value: &Value| {
        let is_digest = name.ends_with("_sha256") || name == "key_id";
        !value.is_null() && !is_digest && (about.is_none() || value.as_str() != about)
    };
    let parts = members
        .iter()
        .filter(|(name, value)| is_news(name, value))
        .map(|(name, value)| match value.as_str() {
            Some(text) if is_word(text) => format!("{name}={text}"),
            _ => format!("{name}={value}"),
        });
    parts.collect::<Vec<_>>().join(" ")
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == '"' || c == '=')
}

#[cfg(test)]
mod tests {
    use plfm_api::control::Actor;
    use serde_json::json;

    use super::*;

    fn event(aggregate: &str, detail: Value) -> Event {
        Event {
            position: 12,
            aggregate: aggregate.to_owned(),
            sequence: 3,
            at: "2026-01-02T03:04:05.678Z".parse().unwrap(),
            actor: Actor {
                kind: "operator".to_owned(),
                id: "01J".to_owned(),
                name: "ci".to_owned(),
                address: None,
                request_id: None,
            },
            kind: "default_set".to_owned(),
            detail,
        }
    }

    #[test]
    fn an_event_is_a_line() {
        let detail = json!({"generation": 4, "reason": "it is \"time\"", "release": "a+b", "was": null});
        insta::assert_snapshot!(
            render_line(&event("fleet", detail)),
            @r#"    12  2026-01-02T03:04:05Z  default_set           fleet  operator:ci  generation=4 reason="it is \"time\"" release=a+b"#
        );
    }

    #[test]
    fn what_it_is_about_is_said_once() {
        let detail = json!({"release": "a+b", "manifest_sha256": "00", "key_id": "00", "protocol": 2});
        assert_eq!(render_detail(&event("release/a+b", detail)), "protocol=2");
    }

    #[test]
    fn no_detail_is_nothing() {
        let rendered =
            [Value::Null, json!({}), json!([1])].map(|detail| render_detail(&event("fleet", detail)));
        assert_eq!(rendered, ["", "", "[1]"]);
    }
}
