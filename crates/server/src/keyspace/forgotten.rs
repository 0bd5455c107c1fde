//! What memory knew of keys when it forgot them, for whoever looks at keys in several steps.
//!
//! Main thread. Memory forgets a key whose state the disk has: an unused one, or one whose delete
//! is saved. A walk has read parts of the disk before that and looks at memory when it ends, so
//! what changed in between and is forgotten by then would be in neither: a key that a transaction
//! renamed meanwhile was found under both names, or none. So a walk follows what is forgotten from
//! its beginning on; when nobody walks, that costs a look at an empty list.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::{Rc, Weak};

use flintlock_diskcache::key::Space;

use crate::types::heap_bytes;
use crate::util::glob;

/// A key as it was when memory forgot it.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Fact {
    /// `None`: there was no such key.
    pub type_name: Option<&'static str>,
    /// As the entry had it.
    pub expires_at_ms: Option<u64>,
}

/// What one follower was told: of each key the last.
#[derive(Debug)]
pub(crate) struct Notes {
    space: Space,
    /// Other keys are not noted, so that this is no larger than what the walk could find.
    pattern: Option<Vec<u8>>,
    facts: HashMap<Box<[u8]>, Fact>,
    /// Of the names in it.
    name_bytes: usize,
}

impl Notes {
    /// What was known of `key` when it was forgotten, if it was.
    pub(crate) fn of(&self, key: &[u8]) -> Option<Fact> {
        self.facts.get(key).copied()
    }

    /// Bytes of memory held.
    pub(crate) fn memory_bytes(&self) -> usize {
        // A byte of control for each place.
        self.facts.capacity() * (size_of::<(Box<[u8]>, Fact)>() + 1) + self.name_bytes
    }

    /// Every key that was forgotten.
    pub(crate) fn facts(&self) -> impl Iterator<Item = (&[u8], Fact)> {
        self.facts.iter().map(|(key, fact)| (&**key, *fact))
    }
}

/// Everybody who follows; whoever drops the notes follows no more.
#[derive(Default, Debug)]
pub(crate) struct Followers(RefCell<Vec<Weak<RefCell<Notes>>>>);

impl Followers {
    /// From now on keys of `space` that match the pattern are noted when they are forgotten.
    pub(crate) fn follow(&self, space: Space, pattern: Option<&[u8]>) -> Rc<RefCell<Notes>> {
        let pattern = pattern.map(<[u8]>::to_vec);
        let notes = Notes { space, pattern, facts: HashMap::new(), name_bytes: 0 };
        let notes = Rc::new(RefCell::new(notes));
        let mut all = self.0.borrow_mut();
        // Where nothing is ever forgotten, nobody else clears away.
        all.retain(|other| other.strong_count() > 0);
        all.push(Rc::downgrade(&notes));
        notes
    }

    /// Tells that `key` is forgotten.
    pub(crate) fn tell(&self, space: Space, key: &[u8], fact: Fact) {
        self.0.borrow_mut().retain(|notes| {
            let Some(notes) = notes.upgrade() else { return false };
            let mut notes = notes.borrow_mut();
            let matches = |pattern: &Vec<u8>| glob::matches(pattern, key);
            if notes.space == space && notes.pattern.as_ref().is_none_or(matches) {
                let is_new = notes.facts.insert(key.into(), fact).is_none();
                notes.name_bytes += if is_new { heap_bytes(key.len()) } else { 0 };
            }
            true
        });
    }
}
