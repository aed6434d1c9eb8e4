//! Who needs what: counts of the uses of a release or of an artifact within this process.
//!
//! Invariant: while a [`Hold`] of a key lives, nothing that is done through [`Holds::unless_held`] is done to it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
pub(crate) struct Holds<K>(Arc<Mutex<BTreeMap<K, usize>>>);

/// One use. Its clones are uses of their own.
#[derive(Debug)]
pub(crate) struct Hold<K: Ord + Clone> {
    holds: Holds<K>,
    key: K,
}

impl<K> Default for Holds<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K> Clone for Holds<K> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<K: Ord + Clone> Holds<K> {
    fn counts(&self) -> MutexGuard<'_, BTreeMap<K, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn take(&self, key: &K) -> Hold<K> {
        *self.counts().entry(key.clone()).or_insert(0) += 1;
        Hold {
            holds: self.clone(),
            key: key.clone(),
        }
    }

    /// Does something unless `key` is held; nobody gets a hold of anything meanwhile.
    pub(crate) fn unless_held<T>(&self, key: &K, act: impl FnOnce() -> T) -> Option<T> {
        let counts = self.counts();
        (!counts.contains_key(key)).then(act)
    }
}

impl<K: Ord + Clone> Clone for Hold<K> {
    fn clone(&self) -> Self {
        self.holds.take(&self.key)
    }
}

impl<K: Ord + Clone> Drop for Hold<K> {
    fn drop(&mut self) {
        let mut counts = self.holds.counts();
        if let Some(count) = counts.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_is_left_alone_until_the_last_hold_is_gone() {
        let holds = Holds::default();
        let first = holds.take(&"a");
        let second = first.clone();
        assert_eq!(holds.unless_held(&"a", || ()), None);
        assert_eq!(holds.unless_held(&"b", || ()), Some(()));
        drop(first);
        assert_eq!(holds.unless_held(&"a", || ()), None);
        drop(second);
        assert_eq!(holds.unless_held(&"a", || ()), Some(()));
    }
}
