//! Both ends against the tables of the contract: in every state, with every message, however the bytes are cut.

use plfm_guest_protocol::*;
use proptest::prelude::*;

use crate::corpus::fuzz::sessions::{
    Guest, Host, SAYS, Say, TELLS, Tell, World, config, hello, said, script, told,
};

const STATUSES: [Tell; 4] = [Tell::Applied, Tell::Ready, Tell::Failed, Tell::Exited];
const ALL: usize = usize::MAX;

/// How to come to every state of the guest.
const GUEST_STATES: [(Guest, &[Say], &[Tell]); 6] = [
    (Guest::HelloSent, &[], &[]),
    (Guest::Configured, &[Say::Config], &[]),
    (Guest::Applied, &[Say::Config], &[Tell::Applied]),
    (Guest::Ready, &[Say::Config], &[Tell::Applied, Tell::Ready]),
    (
        Guest::Over,
        &[Say::Config],
        &[Tell::Applied, Tell::Ready, Tell::Exited],
    ),
    (Guest::Over, &[Say::Reject], &[]),
];

/// How to come to every state of the host: what it hears, a config after the hello.
const HOST_STATES: [(Host, &[Tell]); 7] = [
    (Host::Listening, &[]),
    (Host::ConfigSent, &[Tell::Hello]),
    (Host::Acked, &[Tell::Hello, Tell::Ack]),
    (Host::Applied, &[Tell::Hello, Tell::Ack, Tell::Applied]),
    (Host::Ready, &[Tell::Hello, Tell::Ack, Tell::Applied, Tell::Ready]),
    (
        Host::Over,
        &[Tell::Hello, Tell::Ack, Tell::Applied, Tell::Ready, Tell::Exited],
    ),
    (Host::Over, &[Tell::Hello, Tell::Failed]),
];

fn world_with_guest_at(says: &[Say], tells: &[Tell]) -> World {
    let mut world = World::new();
    for say in says {
        world.forge_to_guest(*say);
        world.deliver_to_guest(ALL);
    }
    for tell in tells {
        world.guest_reports(*tell);
    }
    world
}

#[test]
fn the_guest_takes_in_each_state_what_its_table_says() {
    for (state, says, tells) in GUEST_STATES {
        assert_eq!(world_with_guest_at(says, tells).places().0, state);
        for say in SAYS {
            let mut world = world_with_guest_at(says, tells);
            world.forge_to_guest(say);
            world.deliver_to_guest(ALL);
        }
        for tell in STATUSES {
            world_with_guest_at(says, tells).guest_reports(tell);
        }
    }
}

/// A host that has heard `tells` and answered the hello with a config.
fn host_at(tells: &[Tell]) -> HostSession {
    let mut host = HostSession::default();
    for tell in tells {
        host.push(&told(*tell));
        host.next_event().unwrap().unwrap();
        if *tell == Tell::Hello {
            host.config(&config()).unwrap();
        }
    }
    host
}

#[test]
fn the_host_takes_in_each_state_what_its_table_says() {
    for (state, tells) in HOST_STATES {
        for tell in TELLS {
            let mut host = host_at(tells);
            host.push(&told(tell));
            let outcome = host.next_event();
            match (state.hears(tell), &outcome) {
                (Some(_), Ok(Some(_))) | (None, Err(ProtocolError::OutOfOrder { .. })) => {}
                (None, Err(ProtocolError::ProtocolMismatch { guest: 2 })) => {
                    assert_eq!((state, tell), (Host::Listening, Tell::OtherHello));
                }
                (expected, _) => panic!("{tell:?} at {state:?}: {outcome:?}, not {expected:?}"),
            }
        }
        for say in SAYS {
            let mut host = host_at(tells);
            let outcome = match say {
                Say::Config => host.config(&config()),
                Say::Reject => host.reject("no", ""),
                Say::Stop => host.stop(None),
                Say::Signal => host.signal("HUP"),
            };
            match (state.says(say), &outcome) {
                (Some(_), Ok(_)) | (None, Err(ProtocolError::OutOfOrder { .. })) => {}
                (expected, _) => panic!("{say:?} at {state:?}: {outcome:?}, not {expected:?}"),
            }
        }
    }
}

#[test]
fn a_greeted_host_waits_for_its_own_answer() {
    for tell in TELLS {
        let mut host = HostSession::default();
        host.push(&told(Tell::Hello));
        host.next_event().unwrap().unwrap();
        host.push(&told(tell));
        assert_eq!(host.next_event().is_ok(), tell == Tell::Failed, "{tell:?}");
    }
}

#[test]
fn nothing_is_heard_after_the_connection_broke() {
    let (mut guest, _) = GuestSession::start(hello(PROTOCOL));
    guest.push(b"\xff\n");
    guest.push(&said(Say::Config));
    for _ in 0..3 {
        assert!(matches!(
            guest.next_event(),
            Err(ProtocolError::Line(LineError::NotUtf8))
        ));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn any_sequence_of_steps_goes_as_the_tables_say(steps in proptest::collection::vec(any::<u8>(), 0..300)) {
        script(&steps);
    }

    /// The two machines, joined by two byte streams that are cut at random, come from the dial to the exit.
    #[test]
    fn both_ends_reach_ready_and_exited_however_the_bytes_are_cut(
        cuts in proptest::collection::vec(1usize..80, 1..40), stops in 0u32..3,
    ) {
        let mut world = World::new();
        let mut cuts = cuts.into_iter().cycle();
        let mut stops_left = stops;
        let mut seen = Vec::new();
        for _ in 0..10_000 {
            match world.places().0 {
                Guest::Configured => world.guest_reports(Tell::Applied),
                Guest::Applied => world.guest_reports(Tell::Ready),
                Guest::Ready if world.places().1 == Host::Ready && stops_left == 0 => world.guest_reports(Tell::Exited),
                Guest::Ready | Guest::HelloSent | Guest::Over => {}
            }
            match world.places().1 {
                Host::Greeted => world.host_says(Say::Config),
                Host::Ready if stops_left > 0 => {
                    stops_left -= 1;
                    world.host_says(Say::Stop);
                }
                Host::Listening | Host::ConfigSent | Host::Acked | Host::Applied | Host::Ready | Host::Over => {}
            }
            world.deliver_to_guest(cuts.next().unwrap());
            world.deliver_to_host(cuts.next().unwrap());
            if seen.last() != Some(&world.places().1) {
                seen.push(world.places().1);
            }
            if world.places() == (Guest::Over, Host::Over) {
                break;
            }
        }
        prop_assert_eq!(world.places(), (Guest::Over, Host::Over));
        prop_assert!(seen.contains(&Host::Ready), "{:?}", seen);
    }
}
