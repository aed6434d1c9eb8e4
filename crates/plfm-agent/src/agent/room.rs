//! What this host may promise to instances, and what of it is promised.
//!
//! Invariant: what is promised is never more than the limits, however many requests race: a place is taken in one step,
//! before anything is made for the instance, and given back when it is dropped.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use plfm_api::CreateInstance;

use crate::settings::Settings;

const MIB: u64 = 1024 * 1024;

/// How much may be promised together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub instances: u32,
    pub memory_mib: u64,
    pub scratch_mib: u64,
}

impl Limits {
    /// What the settings say, else what this machine has: an eighth of its memory is left to the host and to what VMMs
    /// take beside their guests', a tenth of the disk to releases and output. Blocking.
    pub fn of(settings: &Settings) -> anyhow::Result<Self> {
        let scratch_mib = match settings.scratch_max_mib {
            Some(told) => told,
            None => {
                let disk = rustix::fs::statvfs(&settings.state_dir).with_context(|| {
                    format!(
                        "cannot tell how much is free under {}",
                        settings.state_dir.display()
                    )
                })?;
                disk.f_bavail.saturating_mul(disk.f_frsize) / MIB / 10 * 9
            }
        };
        Ok(Self {
            instances: settings.instances_max,
            memory_mib: settings
                .memory_max_mib
                .unwrap_or_else(|| machine_memory_mib() / 8 * 7),
            scratch_mib,
        })
    }
}

/// What the machine has, in MiB.
fn machine_memory_mib() -> u64 {
    let machine = rustix::system::sysinfo();
    #[allow(
        clippy::useless_conversion,
        reason = "a C long, which is not the same everywhere"
    )]
    let total = u64::from(machine.totalram);
    total.saturating_mul(u64::from(machine.mem_unit)) / MIB
}

/// What one instance needs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Need {
    memory_mib: u64,
    /// Of this host's own disk: a scratch disk that comes with the request takes nothing of it.
    scratch_mib: u64,
}

impl Need {
    pub fn of(request: &CreateInstance) -> Self {
        Self {
            memory_mib: u64::from(request.resources.memory_mib),
            scratch_mib: match &request.scratch_disk {
                Some(_) => 0,
                None => u64::from(request.scratch_mib),
            },
        }
    }
}

#[derive(Debug, Default)]
struct Taken {
    instances: u32,
    memory_mib: u64,
    scratch_mib: u64,
}

/// Why there is no place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoRoom {
    Instances { max: u32 },
    Memory { need: u64, taken: u64, max: u64 },
    Scratch { need: u64, taken: u64, max: u64 },
}

impl fmt::Display for NoRoom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instances { max } => write!(f, "this host runs {max} instances already, as many as it may"),
            Self::Memory { need, taken, max } => write!(
                f,
                "{need} MiB of memory do not fit: instances have {taken} of the {max} MiB that this host may promise"
            ),
            Self::Scratch { need, taken, max } => write!(
                f,
                "a scratch disk of {need} MiB does not fit: instances have {taken} of the {max} MiB that this host may promise"
            ),
        }
    }
}

impl NoRoom {
    /// One thing to do about it.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Instances { .. } => {
                "run it on another host, stop an instance, or raise --instances-max of the agent"
            }
            Self::Memory { .. } => {
                "ask for less memory, run it on another host, or raise --memory-max-mib of the agent"
            }
            Self::Scratch { .. } => {
                "ask for a smaller scratch disk, run it on another host, or raise --scratch-max-mib of the agent"
            }
        }
    }
}

/// The room of a host. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Room {
    limits: Limits,
    taken: Arc<Mutex<Taken>>,
}

/// One instance's place, for as long as it is held.
#[derive(Debug)]
pub struct Place {
    need: Need,
    taken: Arc<Mutex<Taken>>,
}

impl Room {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            taken: Arc::default(),
        }
    }

    /// Takes a place, if there is one.
    pub fn take(&self, need: Need) -> Result<Place, NoRoom> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let Limits {
            instances,
            memory_mib,
            scratch_mib,
        } = self.limits;
        if taken.instances >= instances {
            return Err(NoRoom::Instances { max: instances });
        }
        if taken.memory_mib.saturating_add(need.memory_mib) > memory_mib {
            return Err(NoRoom::Memory {
                need: need.memory_mib,
                taken: taken.memory_mib,
                max: memory_mib,
            });
        }
        if taken.scratch_mib.saturating_add(need.scratch_mib) > scratch_mib {
            return Err(NoRoom::Scratch {
                need: need.scratch_mib,
                taken: taken.scratch_mib,
                max: scratch_mib,
            });
        }
        taken.instances += 1;
        taken.memory_mib += need.memory_mib;
        taken.scratch_mib += need.scratch_mib;
        Ok(Place {
            need,
            taken: self.taken.clone(),
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.instances = taken.instances.saturating_sub(1);
        taken.memory_mib = taken.memory_mib.saturating_sub(self.need.memory_mib);
        taken.scratch_mib = taken.scratch_mib.saturating_sub(self.need.scratch_mib);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room() -> Room {
        Room::new(Limits {
            instances: 3,
            memory_mib: 1_000,
            scratch_mib: 100,
        })
    }

    fn need(memory_mib: u64, scratch_mib: u64) -> Need {
        Need {
            memory_mib,
            scratch_mib,
        }
    }

    #[test]
    fn what_does_not_fit_is_refused_and_fits_when_a_place_is_given_back() {
        let room = room();
        let first = room.take(need(600, 10)).unwrap();
        let refused = room.take(need(401, 10)).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "401 MiB of memory do not fit: instances have 600 of the 1000 MiB that this host may promise"
        );
        let _second = room.take(need(400, 10)).unwrap();
        assert!(matches!(
            room.take(need(0, 81)),
            Err(NoRoom::Scratch { taken: 20, .. })
        ));
        let _third = room.take(need(0, 80)).unwrap();
        assert_eq!(room.take(need(0, 0)).unwrap_err(), NoRoom::Instances { max: 3 });
        drop(first);
        assert!(room.take(need(600, 10)).is_ok());
    }

    #[test]
    fn requests_that_race_are_promised_no_more_than_there_is() {
        let room = Room::new(Limits {
            instances: 1_000,
            memory_mib: 64,
            scratch_mib: 1_000,
        });
        let places = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|_| {
                    scope.spawn(|| {
                        (0..100)
                            .filter_map(|_| room.take(need(1, 1)).ok())
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            threads
                .into_iter()
                .flat_map(|thread| thread.join().unwrap())
                .collect::<Vec<_>>()
        });
        assert_eq!(places.len(), 64);
    }

    #[test]
    fn a_machine_has_room_where_nobody_says_how_much() {
        use clap::Parser as _;
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings::parse_from([
            "plfm-agent".as_ref(),
            "--state-dir".as_ref(),
            dir.path().as_os_str(),
        ]);
        let limits = Limits::of(&settings).unwrap();
        assert!(limits.memory_mib > 64 && limits.instances == 256, "{limits:?}");
    }
}
