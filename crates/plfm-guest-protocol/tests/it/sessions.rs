use plfm_guest_protocol::*;
use proptest::prelude::*;

use crate::config::config;

fn hello() -> Hello {
    Hello {
        guest_init_version: "1.0.0".into(),
        guest_init_protocol: PROTOCOL,
        instance_id: "i-1".into(),
        boot_id: "3f0a3c1e-7b1e-4a59-8a35-0c9f0e7a9d11".into(),
    }
}

fn now() -> String {
    "2026-11-24T00:00:00Z".into()
}

fn deliver(host: &mut HostSession, bytes: &[u8]) -> Result<HostEvent, ProtocolError> {
    host.push(bytes);
    Ok(host.next_event()?.expect("a whole message"))
}

#[test]
fn a_whole_boot_passes_between_both_ends() {
    let (mut guest, bytes) = GuestSession::start(hello());
    let mut host = HostSession::default();
    assert_eq!(deliver(&mut host, &bytes).unwrap(), HostEvent::Hello(hello()));

    guest.push(&host.config(&config()).unwrap());
    let Some(GuestEvent::Configure { config: got, ack }) = guest.next_event().unwrap() else {
        panic!("no config")
    };
    assert_eq!(*got, config());
    assert_eq!(
        deliver(&mut host, &ack).unwrap(),
        HostEvent::Acked { generation: 3 }
    );

    let applied = guest.report(Status::ConfigApplied { timestamp: now() }).unwrap();
    assert_eq!(deliver(&mut host, &applied).unwrap(), HostEvent::ConfigApplied);

    let stages = vec![StageTiming {
        stage: Stage::Handshake,
        started_us: 5,
        finished_us: 9,
        cpu_us: 4,
    }];
    let memory = Some(MemoryUse { rss_bytes: 1 });
    let ready = Status::Ready {
        timestamp: now(),
        stages: stages.clone(),
        memory,
    };
    let bytes = guest.report(ready).unwrap();
    assert_eq!(
        deliver(&mut host, &bytes).unwrap(),
        HostEvent::Ready { stages, memory }
    );

    guest.push(&host.stop(Some(3)).unwrap());
    assert_eq!(
        guest.next_event().unwrap(),
        Some(GuestEvent::Stop {
            grace_seconds: Some(3)
        })
    );

    let exit = Exit {
        exit_code: None,
        signal: Some(15),
        oom_killed: false,
        duration_ms: 7,
        reason: None,
    };
    let bytes = guest
        .report(Status::Exited {
            timestamp: now(),
            exit,
        })
        .unwrap();
    assert_eq!(deliver(&mut host, &bytes).unwrap(), HostEvent::Exited(exit));
    assert_eq!(exit.shell_code(), 143);
}

#[test]
fn another_protocol_is_told_and_can_be_rejected() {
    let (mut guest, bytes) = GuestSession::start(Hello {
        guest_init_protocol: 2,
        ..hello()
    });
    let mut host = HostSession::default();
    assert!(matches!(
        deliver(&mut host, &bytes),
        Err(ProtocolError::ProtocolMismatch { guest: 2 })
    ));
    guest.push(&host.reject("guest_init_protocol_mismatch", "x").unwrap());
    assert!(
        matches!(guest.next_event(), Ok(Some(GuestEvent::Rejected { code, .. })) if code == "guest_init_protocol_mismatch")
    );
}

#[test]
fn a_message_out_of_order_is_refused_by_either_end() {
    let (mut guest, bytes) = GuestSession::start(hello());
    assert!(
        guest.report(Status::ConfigApplied { timestamp: now() }).is_err(),
        "applied before configured"
    );
    guest.push(b"{\"type\":\"stop\"}\n");
    assert!(matches!(
        guest.next_event(),
        Err(ProtocolError::OutOfOrder { .. })
    ));

    let mut host = HostSession::default();
    assert!(host.config(&config()).is_err(), "config before hello");
    host.push(&bytes);
    host.push(&bytes);
    host.next_event().unwrap();
    assert!(
        matches!(host.next_event(), Err(ProtocolError::OutOfOrder { .. })),
        "a second hello"
    );
}

#[test]
fn an_ack_of_another_generation_is_refused() {
    let mut host = HostSession::default();
    host.push(&GuestSession::start(hello()).1);
    host.next_event().unwrap();
    host.config(&config()).unwrap();
    host.push(b"{\"type\":\"ack\",\"config_version\":\"v1\",\"generation\":2}\n");
    assert!(host.next_event().is_err());
}

#[test]
fn unknown_optional_members_are_ignored() {
    let mut value = serde_json::to_value(HostMessage::Config(Box::new(config()))).unwrap();
    value["new_thing"] = 1.into();
    value["workload"]["newer_thing"] = "x".into();
    let (mut guest, _) = GuestSession::start(hello());
    guest.push(format!("{value}\n").as_bytes());
    assert!(matches!(
        guest.next_event(),
        Ok(Some(GuestEvent::Configure { .. }))
    ));
}

#[test]
fn a_malformed_message_is_described_without_its_content() {
    let (mut guest, _) = GuestSession::start(hello());
    guest.push(b"{\"type\":\"config\",\"generation\":\"planted-secret\"}\n");
    let error = guest.next_event().unwrap_err().to_string();
    assert!(!error.contains("planted-secret"), "{error}");
}

proptest! {
    #[test]
    fn any_bytes_give_events_or_a_typed_error(bytes: Vec<u8>, pieces in 1usize..5) {
        let (mut guest, _) = GuestSession::start(hello());
        let mut host = HostSession::default();
        for piece in bytes.chunks(bytes.len() / pieces + 1) {
            guest.push(piece);
            host.push(piece);
        }
        while let Ok(Some(_)) = guest.next_event() {}
        while let Ok(Some(_)) = host.next_event() {}
    }
}
