//! The save bits of one key and their legal moves. Pure; main thread.
//!
//! Redis's diskstore keeps four bits for a key, LOAD, SAVE, LOADINPROG and SAVEINPROG, in a table
//! beside the values, because a value may be destroyed or replaced while it is queued. Here the
//! table *is* the home: the two save bits live in the key's own entry, not in its value, and a
//! deleted key keeps its entry (an *absent* entry) until the delete is durable. So the bits outlive
//! every value, at one byte for each resident key instead of a second hash table.
//! The two load bits exist only for keys that are not resident, so they live in the load table
//! (`loads.rs`), and `LOAD` beside `SAVE` cannot be written down at all: a dirty key is
//! resident, and a resident key is never loaded.
//!
//! | bits | meaning |
//! |---|---|
//! | none | clean: memory and engine agree; may be forgotten |
//! | SAVE | dirty: one node in the dirty queue, the value is looked up at hand-over |
//! | SAVING | in a batch that is being built or committed |
//! | SAVE, SAVING | dirtied again meanwhile; not handed over again before SAVING is gone |
//!
//! Beside the bits stands what the engine holds (`before`), so that a delete of a key that the
//! engine never saw costs no write and the counts stay exact; it changes only when a batch is
//! known to have taken effect.
//!
//! Source: Redis's diskstore cache (dscache.c, 2010 to 2011).

use std::fmt;

use crate::storage::Before;

const SAVE: u8 = 1 << 0;
const SAVING: u8 = 1 << 1;
/// With SAVING: a record is in flight, not a delete.
const SENT_RECORD: u8 = 1 << 2;
const DISK_SHIFT: u8 = 3;
const DISK_MASK: u8 = 0b11 << DISK_SHIFT;

/// Save bits of one resident key and what the engine holds of it; five bits of one byte.
///
/// A home stores it in the key's entry and changes it only through the cache.
#[derive(Copy, Clone, Eq, PartialEq, Hash)]
pub struct KeyState(u8);

/// What a batch takes from a key at hand-over.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum HandOver {
    /// Not dirty any more, or a delete of what the engine never had.
    Nothing,
    /// The key as it is now; the engine holds what `before` says.
    Write(Before),
}

impl KeyState {
    /// How many low bits of [`KeyState::to_bits`] are used.
    pub const BITS: u32 = 5;

    /// A key that is not dirty yet and of which the engine holds `before`.
    #[must_use]
    pub const fn new(before: Before) -> Self {
        let code = match before {
            Before::Absent => 0,
            Before::Present => 1,
            Before::Unknown => 2,
        };
        Self(code << DISK_SHIFT)
    }

    /// The byte to store in an entry; below `1 << BITS`.
    #[must_use]
    pub const fn to_bits(self) -> u8 {
        self.0
    }

    /// Takes back what [`KeyState::to_bits`] gave; `None` for any other byte.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Option<Self> {
        let disk = (bits & DISK_MASK) >> DISK_SHIFT;
        let sent_without_saving = bits & (SAVING | SENT_RECORD) == SENT_RECORD;
        if bits >> Self::BITS != 0 || disk > 2 || sent_without_saving {
            None
        } else {
            Some(Self(bits))
        }
    }

    /// Queued to be saved.
    #[must_use]
    #[inline]
    pub const fn is_save(self) -> bool {
        self.0 & SAVE != 0
    }

    /// In a batch that is not durable yet.
    #[must_use]
    #[inline]
    pub const fn is_saving(self) -> bool {
        self.0 & SAVING != 0
    }

    /// Memory and engine agree, so the entry may be forgotten.
    #[must_use]
    #[inline]
    pub const fn is_clean(self) -> bool {
        self.0 & (SAVE | SAVING) == 0
    }

    /// What the engine holds, as far as its last settled batch.
    #[must_use]
    pub const fn before(self) -> Before {
        match (self.0 & DISK_MASK) >> DISK_SHIFT {
            0 => Before::Absent,
            1 => Before::Present,
            _ => Before::Unknown,
        }
    }

    /// The key changed in memory; returns whether it needs a node in the dirty queue.
    #[inline]
    pub const fn mark_dirty(&mut self) -> bool {
        let queued = self.is_save();
        self.0 |= SAVE;
        !queued
    }

    /// A node of the dirty queue came up: what the batch has to write.
    ///
    /// `exists` is whether the entry holds a value now. SAVE is gone afterwards; SAVING is set
    /// when there is something to write.
    ///
    /// # Panics
    /// With SAVE and SAVING both set: a key is in one batch at a time.
    pub fn hand_over(&mut self, exists: bool) -> HandOver {
        if !self.is_save() {
            return HandOver::Nothing;
        }
        assert!(!self.is_saving(), "one batch at a time: {self:?}");
        self.0 &= !SAVE;
        if !exists && self.before() == Before::Absent {
            return HandOver::Nothing;
        }
        self.0 |= SAVING | if exists { SENT_RECORD } else { 0 };
        HandOver::Write(self.before())
    }

    /// The batch that the key was in is durable (`saved`) or is known to have had no effect.
    ///
    /// After a failure the key is dirty again; its old node must go back to the queue's front.
    ///
    /// # Panics
    /// Without SAVING.
    pub fn settle(&mut self, saved: bool) {
        assert!(self.is_saving(), "settled without a save: {self:?}");
        if saved {
            let disk = if self.0 & SENT_RECORD != 0 { Before::Present } else { Before::Absent };
            self.0 = (self.0 & SAVE) | Self::new(disk).0;
        } else {
            self.0 = SAVE | (self.0 & DISK_MASK);
        }
    }
}

impl Default for KeyState {
    /// Clean, and not in the engine.
    fn default() -> Self {
        Self::new(Before::Absent)
    }
}

impl fmt::Debug for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let save = if self.is_save() { "SAVE " } else { "" };
        let saving = match self.0 & (SAVING | SENT_RECORD) {
            0 => "",
            SAVING => "SAVING(delete) ",
            _ => "SAVING(record) ",
        };
        write!(f, "{save}{saving}disk:{:?}", self.before())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Vec<KeyState> {
        (0..=u8::MAX).filter_map(KeyState::from_bits).collect()
    }

    const BEFORES: [Before; 3] = [Before::Absent, Before::Present, Before::Unknown];

    #[test]
    fn every_legal_byte_round_trips_and_no_other_is_taken() {
        let legal = all();
        // SAVE or not, times {not saving, saving a record, saving a delete}, times three.
        assert_eq!(legal.len(), 2 * 3 * 3);
        for state in legal {
            assert!(state.to_bits() < 1 << KeyState::BITS);
            assert_eq!(KeyState::from_bits(state.to_bits()), Some(state));
        }
    }

    /// States x events, exhaustively, against a twin made of plain fields.
    #[test]
    fn every_move_is_what_the_table_says() {
        #[derive(Clone, Copy, PartialEq, Debug)]
        struct Twin {
            save: bool,
            saving: Option<bool>,
            disk: Before,
        }
        let twin_of = |s: KeyState| Twin {
            save: s.is_save(),
            saving: s.is_saving().then_some(s.0 & SENT_RECORD != 0),
            disk: s.before(),
        };
        for start in all() {
            let twin = twin_of(start);
            assert_eq!(start.is_clean(), !twin.save && twin.saving.is_none());

            let mut s = start;
            assert_eq!(s.mark_dirty(), !twin.save);
            assert_eq!(twin_of(s), Twin { save: true, ..twin });

            for exists in [false, true] {
                if twin.save && twin.saving.is_some() {
                    continue; // Refused by an assertion; see the test below.
                }
                let mut s = start;
                let handed = s.hand_over(exists);
                let after = twin_of(s);
                if !twin.save {
                    assert_eq!((handed, after), (HandOver::Nothing, twin));
                } else if !exists && twin.disk == Before::Absent {
                    assert_eq!(handed, HandOver::Nothing);
                    assert_eq!(after, Twin { save: false, ..twin });
                } else {
                    assert_eq!(handed, HandOver::Write(twin.disk));
                    assert_eq!(after, Twin { save: false, saving: Some(exists), ..twin });
                }
            }

            if let Some(record) = twin.saving {
                let mut s = start;
                s.settle(true);
                let disk = if record { Before::Present } else { Before::Absent };
                assert_eq!(twin_of(s), Twin { save: twin.save, saving: None, disk });
                let mut s = start;
                s.settle(false);
                assert_eq!(twin_of(s), Twin { save: true, saving: None, disk: twin.disk });
            }
        }
    }

    #[test]
    fn illegal_moves_are_refused() {
        for before in BEFORES {
            let mut clean = KeyState::new(before);
            assert!(std::panic::catch_unwind(move || clean.settle(true)).is_err());
            let mut twice = KeyState::new(before);
            twice.mark_dirty();
            twice.hand_over(true);
            twice.mark_dirty();
            assert!(twice.is_save() && twice.is_saving());
            assert!(std::panic::catch_unwind(move || twice.hand_over(true)).is_err());
        }
    }

    #[test]
    fn a_key_that_lived_and_died_between_batches_is_never_written() {
        let mut s = KeyState::new(Before::Absent);
        assert!(s.mark_dirty());
        assert!(!s.mark_dirty(), "one node, however many writes");
        assert_eq!(s.hand_over(false), HandOver::Nothing);
        assert!(s.is_clean());
    }
}
