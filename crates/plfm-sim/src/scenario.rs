//! What a release and the world around it are like.

use serde::Serialize;

/// How a bad boot ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Symptom {
    /// The kernel panics at once.
    KernelPanic,
    /// A stage fails after a while.
    StageFailure,
    /// No hello comes.
    HandshakeTimeout,
}

/// What is wrong with the release.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fault {
    /// The share of its boots that fail for it, where it shows.
    pub rate: f64,
    /// How they end.
    pub symptom: Symptom,
    /// The share of hosts that it shows on: those with one type of CPU.
    pub hosts: f64,
    /// How long after the first boot it begins to show, in minutes.
    pub after_minutes: f64,
    /// The share of boots that are slow. One in a hundred is without any fault.
    pub slow: f64,
}

/// Boots of both releases fail for a while.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Outage {
    /// It begins within so many minutes after the first boot, at a time that chance chooses.
    pub within_minutes: f64,
    /// How long it lasts.
    pub minutes: f64,
    /// The share of boots that fail for it.
    pub rate: f64,
}

/// What stands in the way of a rollback.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum WayBack {
    /// Nothing: what ran before is good.
    Clear,
    /// What ran before was blocked meanwhile, and what ran before that is missing on most hosts; one more is good.
    OldestOnly,
    /// There is no good one.
    None,
}

/// What a release and the world around it are like.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Scenario {
    /// Its name.
    pub name: &'static str,
    /// What it is, for people.
    pub about: &'static str,
    /// The share of boots that fail whatever they boot.
    pub background: f64,
    /// What is wrong with the release.
    pub fault: Fault,
    /// What goes wrong with the fleet.
    pub outage: Option<Outage>,
    /// The share of hosts that report every boot of the candidate as a handshake timeout and every other as good.
    pub liars: f64,
    /// When the control plane is down: from so many minutes after the first boot, for so many.
    pub control_down: Option<(f64, f64)>,
    /// What stands in the way of a rollback.
    pub way_back: WayBack,
    /// Whether the release deserves to be taken back.
    pub is_bad: bool,
}

const NO_FAULT: Fault = Fault {
    rate: 0.0,
    symptom: Symptom::StageFailure,
    hosts: 1.0,
    after_minutes: 0.0,
    slow: 0.01,
};

const GOOD: Scenario = Scenario {
    name: "good-1",
    about: "good release, 1 % of all boots fail",
    background: 0.01,
    fault: NO_FAULT,
    outage: None,
    liars: 0.0,
    control_down: None,
    way_back: WayBack::Clear,
    is_bad: false,
};

const fn fails(name: &'static str, about: &'static str, rate: f64) -> Scenario {
    Scenario {
        name,
        about,
        fault: Fault { rate, ..NO_FAULT },
        is_bad: true,
        ..GOOD
    }
}

/// All scenarios.
pub const SCENARIOS: &[Scenario] = &[
    GOOD,
    Scenario {
        name: "good-3",
        about: "good release, 3 % of all boots fail",
        background: 0.03,
        ..GOOD
    },
    Scenario {
        fault: Fault {
            rate: 1.0,
            symptom: Symptom::KernelPanic,
            ..NO_FAULT
        },
        ..fails("fails-100", "every boot of the release panics", 1.0)
    },
    Scenario {
        fault: Fault {
            rate: 1.0,
            symptom: Symptom::HandshakeTimeout,
            ..NO_FAULT
        },
        ..fails(
            "hangs-100",
            "every boot of the release hangs before its hello",
            1.0,
        )
    },
    fails("fails-50", "half of the boots of the release fail", 0.5),
    fails("fails-20", "20 % of the boots of the release fail", 0.2),
    fails("fails-10", "10 % of the boots of the release fail", 0.1),
    fails("fails-5", "5 % of the boots of the release fail", 0.05),
    fails("fails-2", "2 % of the boots of the release fail", 0.02),
    Scenario {
        fault: Fault {
            rate: 1.0,
            hosts: 0.2,
            ..NO_FAULT
        },
        ..fails(
            "cpu-type",
            "every boot fails on the fifth of the hosts with one CPU type",
            1.0,
        )
    },
    Scenario {
        fault: Fault {
            rate: 0.3,
            after_minutes: 60.0,
            ..NO_FAULT
        },
        ..fails("fails-late", "30 % of the boots fail from an hour on", 0.3)
    },
    Scenario {
        fault: Fault {
            slow: 0.4,
            ..NO_FAULT
        },
        is_bad: true,
        ..fails("slow", "40 % of the boots are slower than nearly all before", 0.0)
    },
    Scenario {
        fault: Fault {
            rate: 0.15,
            symptom: Symptom::HandshakeTimeout,
            ..NO_FAULT
        },
        ..fails("timeouts", "15 % of the boots end in a handshake timeout", 0.15)
    },
    Scenario {
        name: "outage",
        about: "good release; 40 % of all boots fail for 10 minutes at some time in the first 4 hours",
        outage: Some(Outage {
            within_minutes: 240.0,
            minutes: 10.0,
            rate: 0.4,
        }),
        ..GOOD
    },
    Scenario {
        name: "outage-early",
        about: "good release; 40 % of all boots fail for 30 minutes from some time in the first half hour",
        outage: Some(Outage {
            within_minutes: 30.0,
            minutes: 30.0,
            rate: 0.4,
        }),
        ..GOOD
    },
    Scenario {
        name: "liars",
        about: "good release; 5 % of the hosts report each of its boots as a handshake timeout",
        liars: 0.05,
        ..GOOD
    },
    Scenario {
        control_down: Some((50.0, 60.0)),
        fault: Fault {
            rate: 0.2,
            after_minutes: 49.0,
            ..NO_FAULT
        },
        ..fails(
            "control-down",
            "20 % fail; a minute after that begins, the control plane is down for an hour",
            0.2,
        )
    },
    Scenario {
        name: "control-down-good",
        about: "good release; the control plane is down for an hour",
        control_down: Some((50.0, 60.0)),
        ..GOOD
    },
    Scenario {
        way_back: WayBack::OldestOnly,
        ..fails(
            "way-back-blocked",
            "half fail; what ran before is blocked, what ran before that is missing",
            0.5,
        )
    },
    Scenario {
        way_back: WayBack::None,
        ..fails(
            "no-way-back",
            "half fail; there is nothing good to go back to",
            0.5,
        )
    },
];

/// The scenario with a name.
pub fn scenario(name: &str) -> Option<&'static Scenario> {
    SCENARIOS.iter().find(|scenario| scenario.name == name)
}
