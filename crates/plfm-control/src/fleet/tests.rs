use jiff::Timestamp;
use plfm_api::control::{
    Actor, BlockRelease, Canary, Event, Generation, HostId, Policy, Role, Rollback, SetDefault, SetPolicy,
    UnblockRelease,
};
use plfm_release::{Architecture, Compatibility, Protocol, ReleaseId, Sha256Digest};
use proptest::prelude::*;

use super::*;

mod rollouts;

/// A log in memory, and the state that follows it.
#[derive(Default)]
struct Fleet {
    log: Vec<Event>,
    state: FleetState,
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn release(n: u8) -> ReleaseId {
    format!("6.1.{n}-2026010{n}a+guestinit-1.0.{n}-2026010{n}a")
        .parse()
        .unwrap()
}

fn found(n: u8) -> FoundRelease {
    FoundRelease {
        release: release(n),
        arch: Architecture::X86_64,
        protocol: Protocol(1),
        compatibility: Compatibility {
            min_agent_version: semver::Version::new(1, 0, 0),
            supported_protocols: [Protocol(1)].into(),
        },
        manifest_sha256: Sha256Digest::of(&[n]),
        key_id: serde_json::from_value(serde_json::json!("0".repeat(KEY_ID_CHARS))).unwrap(),
    }
}

const KEY_ID_CHARS: usize = 64;

fn host(n: u8) -> HostId {
    format!("01K{n:023}").parse().unwrap()
}

fn lacking(release: ReleaseId, hosts: u64) -> Lacking {
    Lacking {
        release,
        hosts,
        active: 10,
        examples: vec!["host-7".to_owned()],
    }
}

impl Fleet {
    fn with_releases(count: u8) -> Self {
        let mut fleet = Self::default();
        for n in 1..=count {
            fleet.run(Command::FindRelease(found(n))).unwrap();
        }
        fleet
    }

    fn run(&mut self, command: Command) -> Result<Decision, Refusal> {
        self.run_with(command, |_| {})
    }

    fn run_with(&mut self, command: Command, change: impl FnOnce(&mut Context)) -> Result<Decision, Refusal> {
        let mut context = Context::at(at(i64::try_from(self.log.len()).unwrap()));
        context.lacking = self
            .state
            .release_in_question(&command)
            .map(|release| lacking(release, 0));
        change(&mut context);
        let decision = self.state.decide(&command, &context)?;
        for fact in &decision.facts {
            let position = self.log.len() as u64 + 1;
            let (kind, detail) = fact.to_log();
            let event = Event {
                position,
                aggregate: fact.aggregate(),
                sequence: position,
                at: context.now,
                actor: Actor {
                    kind: "operator".to_owned(),
                    id: "t".to_owned(),
                    name: "test".to_owned(),
                    address: None,
                    request_id: None,
                },
                kind,
                detail,
            };
            self.state.apply(&event).unwrap();
            self.log.push(event);
        }
        Ok(decision)
    }

    fn set_default(&mut self, n: u8) -> Result<Decision, Refusal> {
        self.run(set_default(n))
    }

    fn roll_back(&mut self) -> Result<Decision, Refusal> {
        self.run(Command::Rollback(Rollback::default()))
    }

    fn replayed(&self) -> FleetState {
        let mut state = FleetState::default();
        self.log.iter().for_each(|event| state.apply(event).unwrap());
        state
    }
}

fn set_default(n: u8) -> Command {
    Command::SetDefault(SetDefault {
        release: release(n).to_string(),
        expected_generation: None,
        despite_unable_hosts: false,
        reason: None,
    })
}

fn block(n: u8) -> Command {
    Command::Block(BlockRelease {
        release: release(n).to_string(),
        reason: "it is broken".to_owned(),
        expected_generation: None,
    })
}

fn unblock(n: u8) -> Command {
    Command::Unblock(UnblockRelease {
        release: release(n).to_string(),
        expected_generation: None,
        reason: None,
    })
}

fn code<T: std::fmt::Debug>(result: Result<T, Refusal>) -> &'static str {
    result.unwrap_err().code()
}

#[test]
fn a_default_replaces_the_one_before_and_raises_the_generation() {
    let mut fleet = Fleet::with_releases(2);
    fleet.set_default(1).unwrap();
    let decision = fleet.set_default(2).unwrap();
    assert_eq!(decision.previous_release, Some(release(1)));
    let target = fleet.state.target();
    assert_eq!(
        (target.generation, target.default, target.previous),
        (Generation(2), Some(release(2)), Some(release(1)))
    );
    let receipt = decision.receipt(Generation(1), Some(4), "r".to_owned());
    assert_eq!(
        (receipt.generation, receipt.changed, receipt.event),
        (Generation(2), true, Some(4))
    );
    assert_eq!(
        receipt.undo,
        Some(format!("plfm admin kernels rollback {}", release(1)))
    );
}

#[test]
fn what_is_so_already_changes_nothing() {
    let mut fleet = Fleet::with_releases(1);
    fleet.set_default(1).unwrap();
    let again = fleet.set_default(1).unwrap();
    assert!(again.facts.is_empty());
    assert!(!again.receipt(Generation(1), None, "r".to_owned()).changed);
    assert_eq!(fleet.state.generation(), Generation(1));
}

#[test]
fn a_default_must_be_known_bootable_and_meant() {
    let mut fleet = Fleet::with_releases(3);
    assert_eq!(code(fleet.set_default(9)), "release_unknown");
    fleet.run(block(2)).unwrap();
    assert_eq!(code(fleet.set_default(2)), "release_blocked");
    let withdraw = Command::WithdrawRelease {
        release: release(3),
        reason: "yanked".to_owned(),
    };
    fleet.run(withdraw).unwrap();
    assert_eq!(code(fleet.set_default(3)), "release_withdrawn");
    let stale = Command::SetDefault(SetDefault {
        release: release(1).to_string(),
        expected_generation: Some(Generation(0)),
        despite_unable_hosts: false,
        reason: None,
    });
    assert_eq!(code(fleet.run(stale)), "generation_moved");
}

#[test]
fn a_text_that_means_two_releases_is_refused() {
    let mut fleet = Fleet::with_releases(1);
    let mut twin = found(1);
    twin.release.initramfs = release(2).initramfs;
    fleet.run(Command::FindRelease(twin)).unwrap();
    let ambiguous = Command::SetDefault(SetDefault {
        release: release(1).kernel.to_string(),
        expected_generation: None,
        despite_unable_hosts: false,
        reason: None,
    });
    assert_eq!(code(fleet.run(ambiguous)), "release_ambiguous");
}

#[test]
fn a_default_that_active_hosts_cannot_run_is_refused_and_says_which() {
    let mut fleet = Fleet::with_releases(1);
    let old = VersionGroup {
        agent_version: semver::Version::new(0, 9, 0),
        protocols: vec![Protocol(1)],
        arch: Architecture::X86_64,
        hosts: 3,
        examples: vec![(host(1), "rack-4".to_owned())],
    };
    let refusal = fleet
        .run_with(set_default(1), |context| context.versions = vec![old.clone()])
        .unwrap_err();
    assert_eq!(refusal.code(), "hosts_unable");
    assert!(refusal.to_string().contains("rack-4"), "{refusal}");
    let loud = Command::SetDefault(SetDefault {
        release: release(1).to_string(),
        expected_generation: None,
        despite_unable_hosts: true,
        reason: None,
    });
    let decision = fleet
        .run_with(loud, |context| context.versions = vec![old])
        .unwrap();
    assert!(
        decision.warnings.iter().any(|warning| warning.contains("rack-4")),
        "{decision:?}"
    );
}

#[test]
fn a_rollback_goes_to_the_last_known_good_and_says_why() {
    let mut fleet = Fleet::with_releases(3);
    (1..=3).for_each(|n| drop(fleet.set_default(n).unwrap()));
    let decision = fleet.roll_back().unwrap();
    assert_eq!(
        (decision.release, decision.previous_release),
        (Some(release(2)), Some(release(3)))
    );
    assert!(decision.why.unwrap().contains("last known good"));
    // The bad one is remembered: the next rollback does not bounce back to it.
    assert_eq!(fleet.roll_back().unwrap().release, Some(release(1)));
    assert_eq!(code(fleet.roll_back()), "no_known_good");
    assert_eq!(code(fleet.set_default(3)), "release_rolled_back");
    fleet.run(unblock(3)).unwrap();
    fleet.set_default(3).unwrap();
}

#[test]
fn a_rollback_passes_over_what_is_blocked_or_withdrawn() {
    let mut fleet = Fleet::with_releases(4);
    (1..=4).for_each(|n| drop(fleet.set_default(n).unwrap()));
    fleet.run(block(3)).unwrap();
    let withdraw = Command::WithdrawRelease {
        release: release(2),
        reason: "yanked".to_owned(),
    };
    fleet.run(withdraw).unwrap();
    assert_eq!(fleet.state.target().previous, Some(release(1)));
    let named = Command::Rollback(Rollback {
        to: Some(release(3).to_string()),
        ..Rollback::default()
    });
    assert_eq!(code(fleet.run(named)), "release_blocked");
    assert_eq!(fleet.roll_back().unwrap().release, Some(release(1)));
}

#[test]
fn a_rollback_to_what_hosts_lack_is_refused_unless_told_loudly() {
    let mut fleet = Fleet::with_releases(2);
    (1..=2).for_each(|n| drop(fleet.set_default(n).unwrap()));
    let without = |context: &mut Context| context.lacking = Some(lacking(release(1), 4));
    let refusal = fleet
        .run_with(Command::Rollback(Rollback::default()), without)
        .unwrap_err();
    assert_eq!(refusal.code(), "hosts_lack_release");
    assert!(
        refusal.to_string().contains("4 of 10") && refusal.to_string().contains("host-7"),
        "{refusal}"
    );
    let loud = Command::Rollback(Rollback {
        despite_missing_hosts: true,
        ..Rollback::default()
    });
    assert_eq!(fleet.run_with(loud, without).unwrap().release, Some(release(1)));
}

#[test]
fn nothing_is_decided_without_knowing_who_lacks_the_release() {
    let mut fleet = Fleet::with_releases(1);
    let blind = fleet.run_with(set_default(1), |context| context.lacking = None);
    assert_eq!(blind, Err(Refusal::NeedsLacking(Box::new(release(1)))));
}

#[test]
fn the_default_cannot_be_blocked() {
    let mut fleet = Fleet::with_releases(1);
    fleet.set_default(1).unwrap();
    assert_eq!(code(fleet.run(block(1))), "release_is_default");
}

#[test]
fn a_blocked_canary_is_not_in_the_target() {
    let mut fleet = Fleet::with_releases(2);
    fleet.set_default(1).unwrap();
    let policy = Policy {
        canary: Some(Canary {
            release: release(2),
            weight: 500,
            cohort: None,
        }),
        pins: [("web-1".to_owned(), release(2))].into(),
        ..Policy::default()
    };
    let set = |policy| {
        Command::SetPolicy(SetPolicy {
            policy,
            expected_generation: None,
            reason: None,
        })
    };
    fleet.run(set(policy.clone())).unwrap();
    assert!(fleet.state.target().canary.is_some());
    fleet.run(block(2)).unwrap();
    let target = fleet.state.target();
    assert_eq!((target.canary, target.pins.len()), (None, 0));
    assert!(target.blocked.contains(&release(2)));
    let heavy = Policy {
        canary: Some(Canary {
            release: release(1),
            weight: 10_001,
            cohort: None,
        }),
        ..Policy::default()
    };
    assert_eq!(code(fleet.run(set(heavy))), "policy_invalid");
}

fn create_token(id: &str, role: Role) -> Command {
    Command::CreateToken {
        id: id.to_owned(),
        name: "ops".to_owned(),
        role,
        secret_sha256: Sha256Digest::of(id.as_bytes()),
        created_by: "init".to_owned(),
        valid_seconds: None,
    }
}

#[test]
fn the_last_admin_token_cannot_be_revoked() {
    let mut fleet = Fleet::default();
    let revoke = |id: &str| Command::RevokeToken {
        id: id.to_owned(),
        reason: None,
    };
    fleet.run(create_token("a", Role::Admin)).unwrap();
    fleet.run(create_token("v", Role::Viewer)).unwrap();
    assert_eq!(code(fleet.run(revoke("a"))), "last_admin_token");
    fleet.run(create_token("b", Role::Admin)).unwrap();
    fleet.run(revoke("a")).unwrap();
    assert_eq!(code(fleet.run(revoke("b"))), "last_admin_token");
    fleet.run(revoke("v")).unwrap();
    assert_eq!(code(fleet.run(revoke("x"))), "token_unknown");
}

fn enrolment(token: &str, key: &str, new: u8) -> Enrolment {
    Enrolment {
        token_id: token.to_owned(),
        secret_sha256: Sha256Digest::of(b"secret"),
        host: host(new),
        name: "rack-4".to_owned(),
        agent_version: semver::Version::new(1, 0, 0),
        arch: Architecture::X86_64,
        public_key_sha256: Sha256Digest::of(key.as_bytes()),
        not_after: at(1_000_000),
    }
}

fn fleet_with_enrollment_token(host_name: Option<&str>) -> Fleet {
    let mut fleet = Fleet::default();
    let create = Command::CreateEnrollmentToken {
        id: "e".to_owned(),
        host_name: host_name.map(str::to_owned),
        secret_sha256: Sha256Digest::of(b"secret"),
        created_by: "ops".to_owned(),
        valid_seconds: Some(3_600),
    };
    fleet.run(create).unwrap();
    fleet
}

#[test]
fn an_enrollment_token_works_once_and_again_for_the_same_key() {
    let mut fleet = fleet_with_enrollment_token(None);
    fleet.run(Command::Enroll(enrolment("e", "key", 1))).unwrap();
    let again = enrolment("e", "key", 2);
    assert_eq!(fleet.state.enrolling_host(&again), host(1));
    fleet.run(Command::Enroll(again)).unwrap();
    assert_eq!(fleet.state.hosts().len(), 1);
    assert_eq!(
        code(fleet.run(Command::Enroll(enrolment("e", "another", 3)))),
        "enrollment_token_invalid"
    );
    assert_eq!(
        code(fleet.run(Command::Enroll(enrolment("x", "key", 3)))),
        "enrollment_token_invalid"
    );
}

#[test]
fn an_enrollment_token_is_for_its_host_and_its_time() {
    let mut fleet = fleet_with_enrollment_token(Some("rack-5"));
    assert_eq!(
        code(fleet.run(Command::Enroll(enrolment("e", "key", 1)))),
        "enrollment_token_invalid"
    );
    let mut fleet = fleet_with_enrollment_token(None);
    let late = |context: &mut Context| context.now = at(4_000);
    let refused = fleet.run_with(Command::Enroll(enrolment("e", "key", 1)), late);
    assert_eq!(code(refused), "enrollment_token_invalid");
    let mut wrong = enrolment("e", "key", 1);
    wrong.secret_sha256 = Sha256Digest::of(b"guess");
    assert_eq!(
        code(fleet.run(Command::Enroll(wrong))),
        "enrollment_token_invalid"
    );
}

#[test]
fn a_revoked_host_gets_nothing_any_more() {
    let mut fleet = fleet_with_enrollment_token(None);
    fleet.run(Command::Enroll(enrolment("e", "key", 1))).unwrap();
    fleet
        .run(Command::RevokeHost {
            host: host(1),
            reason: None,
        })
        .unwrap();
    assert_eq!(code(fleet.state.host(&host(1))), "host_revoked");
    let renew = Command::RenewCertificate {
        host: host(1),
        public_key_sha256: Sha256Digest::of(b"key"),
        not_after: at(2_000_000),
    };
    assert_eq!(code(fleet.run(renew)), "host_revoked");
    // Not even by the token that it once came with.
    assert_eq!(
        code(fleet.run(Command::Enroll(enrolment("e", "key", 2)))),
        "host_revoked"
    );
}

#[test]
fn an_event_of_a_newer_version_is_an_error_and_changes_nothing() {
    let fleet = Fleet::with_releases(1);
    let mut event = fleet.log.last().unwrap().clone();
    let mut state = fleet.state.clone();
    (event.position, event.kind) = (2, "moon_landed".to_owned());
    assert!(matches!(state.apply(&event), Err(ApplyError::Unknown(_))));
    event.position = 7;
    assert!(matches!(
        state.apply(&event),
        Err(ApplyError::OutOfOrder {
            expected: 2,
            found: 7
        })
    ));
    assert_eq!(state, fleet.state);
}

#[test]
fn after_a_restore_the_generation_is_raised_above_the_hosts_and_never_lowered() {
    let mut fleet = Fleet::with_releases(1);
    fleet.set_default(1).unwrap();
    let raise = |to| Command::RaiseGeneration {
        to: Generation(to),
        reason: "restored".to_owned(),
    };
    assert_eq!(code(fleet.run(raise(1))), "generation_not_above");
    assert_eq!(code(fleet.run(raise(5_000_000))), "generation_out_of_range");
    let receipt = fleet
        .run(raise(40))
        .unwrap()
        .receipt(Generation(1), Some(3), "r".to_owned());
    assert_eq!(receipt.generation, Generation(40));
    fleet.run(block(1)).unwrap_err();
    fleet.run(Command::FindRelease(found(2))).unwrap();
    fleet.set_default(2).unwrap();
    assert_eq!(fleet.state.target().generation, Generation(41));
}

fn any_command() -> impl Strategy<Value = Command> {
    let n = 1..6_u8;
    prop_oneof![
        n.clone().prop_map(|n| Command::FindRelease(found(n))),
        n.clone().prop_map(|n| Command::WithdrawRelease {
            release: release(n),
            reason: "yanked".to_owned()
        }),
        n.clone().prop_map(set_default),
        n.clone().prop_map(block),
        n.clone().prop_map(unblock),
        Just(Command::Rollback(Rollback::default())),
        n.clone().prop_map(|n| Command::Rollback(Rollback {
            to: Some(release(n).to_string()),
            ..Rollback::default()
        })),
        (n.clone(), n, 0..10_000_u16).prop_map(|(canary, pinned, weight)| {
            Command::SetPolicy(SetPolicy {
                policy: Policy {
                    canary: Some(Canary {
                        release: release(canary),
                        weight,
                        cohort: None,
                    }),
                    pins: [("web-1".to_owned(), release(pinned))].into(),
                    prefetch: [release(pinned)].into(),
                    ..Policy::default()
                },
                expected_generation: None,
                reason: None,
            })
        }),
    ]
}

proptest! {
    #[test]
    fn whatever_is_asked_the_target_never_names_what_must_not_boot(commands in prop::collection::vec(any_command(), 0..40)) {
        let mut fleet = Fleet::default();
        for command in commands {
            let before = fleet.state.clone();
            let context = Context {
                lacking: before.release_in_question(&command).map(|release| lacking(release, 0)),
                ..Context::at(at(i64::try_from(fleet.log.len()).unwrap()))
            };
            // The same question gets the same answer.
            prop_assert_eq!(before.decide(&command, &context), before.decide(&command, &context));
            let result = fleet.run(command);
            let (now, then) = (fleet.state.generation().0, before.generation().0);
            prop_assert!(now == then || now == then + 1);
            if result.is_err() {
                prop_assert_eq!(&fleet.state, &before);
            }
            if let Ok(Decision { why: Some(_), release: Some(to), .. }) = &result {
                let record = &before.releases()[to];
                prop_assert!(record.is_good(), "rolled back to {:?}", record);
            }
            let target = fleet.state.target();
            let named = target.default.iter().chain(&target.previous).chain(target.prefetch.iter())
                .chain(target.pins.values()).chain(target.canary.as_ref().map(|canary| &canary.release));
            for release in named {
                prop_assert!(!target.blocked.contains(release), "{release} is blocked and in {target:?}");
            }
        }
        prop_assert_eq!(fleet.replayed(), fleet.state);
    }
}
