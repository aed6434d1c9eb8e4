//! Signing metadata anew before it ends: the cron job.

use jiff::Timestamp;
use serde::Serialize;
use tough::schema::Role;

use crate::commit::{Change, Signing};
use crate::error::RegistryError;
use crate::repository::Repository;
use crate::role::{RoleName, expiry};

/// What a refresh did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Refreshed {
    /// Roles that were signed anew; none when nothing was due.
    pub signed: Vec<RoleName>,
    /// Roles that are due and whose key was not given.
    pub due_without_key: Vec<RoleName>,
    /// When the next one is due.
    pub next_due: Timestamp,
    /// When hosts stop taking anything from the repository, if nothing is done.
    pub ends: Timestamp,
}

/// Whether roles are signed that are not due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshWhat {
    /// Only what has less than half of its life left.
    Due,
    /// Every role whose key was given.
    Everything,
}

impl Repository {
    /// Signs anew what is due: timestamp and snapshot, and the targets when their key is there. A role is due when
    /// less than half of its life is left, so that a job that runs four times in a life may fail once.
    ///
    /// # Errors
    /// [`RegistryError`] when a key is missing or wrong, or the root has expired: signing on would hide that.
    pub async fn refresh(
        &mut self,
        what: RefreshWhat,
        signing: &Signing<'_>,
    ) -> Result<Refreshed, RegistryError> {
        self.check_root_valid(signing.now)?;
        let wanted = |role: RoleName, due: Timestamp| {
            what == RefreshWhat::Everything && !signing.keys.of(role).is_empty() || due <= signing.now
        };
        let [targets, snapshot, timestamp] =
            RoleName::ONLINE.map(|role| wanted(role, self.due(role, signing)));
        let has_key = |role: RoleName| !signing.keys.of(role).is_empty();
        let mut due_without_key = Vec::new();
        let sign_targets = targets && has_key(RoleName::Targets);
        if targets && !sign_targets {
            due_without_key.push(RoleName::Targets);
        }
        let (change, signed) = if sign_targets {
            let body = Box::new(self.targets.signed.clone());
            (Some(Change::Targets(body)), RoleName::ONLINE.to_vec())
        } else if snapshot {
            (
                Some(Change::Snapshot),
                vec![RoleName::Snapshot, RoleName::Timestamp],
            )
        } else if timestamp {
            (Some(Change::Timestamp), vec![RoleName::Timestamp])
        } else {
            (None, Vec::new())
        };
        if let Some(change) = change {
            self.commit(change, signing).await?;
        }
        let dues = RoleName::ONLINE.map(|role| self.due(role, signing));
        let ends = RoleName::ALL.map(|role| self.expiry_of(role));
        Ok(Refreshed {
            signed,
            due_without_key,
            next_due: dues.into_iter().min().unwrap_or(signing.now),
            ends: ends.into_iter().min().unwrap_or(signing.now),
        })
    }

    /// When half of a role's life is over.
    fn due(&self, role: RoleName, signing: &Signing<'_>) -> Timestamp {
        let half = signing.lifetimes.of(role) / 2;
        self.expiry_of(role).checked_sub(half).unwrap_or(Timestamp::MIN)
    }

    fn expiry_of(&self, role: RoleName) -> Timestamp {
        fn of<R: Role>(role: &R) -> Timestamp {
            expiry(role)
        }
        match role {
            RoleName::Root => of(&self.root.signed),
            RoleName::Targets => of(&self.targets.signed),
            RoleName::Snapshot => of(&self.snapshot.signed),
            RoleName::Timestamp => of(&self.timestamp.signed),
        }
    }
}
