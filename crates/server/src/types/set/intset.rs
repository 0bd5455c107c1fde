//! A sorted array of integers in the narrowest of three widths. Pure; any thread.
//!
//! Layout: one byte of width (2, 4 or 8), then the integers in ascending order, little-endian,
//! without gaps. It widens when a member needs it and never narrows, as in Redis.

use crate::types::memory::{heap_bytes, reserve, round_up};

/// Bytes before the first integer.
const HEADER: usize = 1;

/// See the module documentation. An empty one owns no memory.
#[derive(Clone, Debug, Default)]
pub(in crate::types) struct IntSet {
    buffer: Vec<u8>,
}

/// Bytes that an integer needs.
const fn width_of(value: i64) -> usize {
    if value as i16 as i64 == value {
        2
    } else if value as i32 as i64 == value {
        4
    } else {
        8
    }
}

impl IntSet {
    pub(in crate::types) const fn new() -> Self {
        Self { buffer: Vec::new() }
    }

    /// Takes bytes of the layout above, of which the width and the length are right; `None` when
    /// the integers are not in ascending order.
    pub(in crate::types) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let mut buffer = Vec::with_capacity(round_up(bytes.len()));
        buffer.extend_from_slice(bytes);
        let ints = Self { buffer };
        ints.iter().is_sorted_by(|a, b| a < b).then_some(ints)
    }

    /// The bytes of the layout above; empty for an empty set.
    pub(in crate::types) fn as_bytes(&self) -> &[u8] {
        &self.buffer
    }

    fn width(&self) -> usize {
        self.buffer.first().map_or(2, |width| usize::from(*width))
    }

    pub(in crate::types) fn count(&self) -> usize {
        self.buffer.len().saturating_sub(HEADER) / self.width()
    }

    pub(in crate::types) fn heap_bytes(&self) -> usize {
        heap_bytes(self.buffer.capacity())
    }

    /// The integer at `index`, in ascending order.
    #[inline]
    pub(in crate::types) fn get(&self, index: usize) -> i64 {
        let width = self.width();
        let bytes = &self.buffer[HEADER + index * width..];
        match width {
            2 => i64::from(i16::from_le_bytes([bytes[0], bytes[1]])),
            4 => i64::from(i32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])),
            _ => i64::from_le_bytes(*bytes.first_chunk().expect("eight bytes an integer")),
        }
    }

    pub(in crate::types) fn iter(&self) -> impl DoubleEndedIterator<Item = i64> + '_ {
        (0..self.count()).map(|index| self.get(index))
    }

    /// Where `value` is, or where it would go.
    fn search(&self, value: i64) -> Result<usize, usize> {
        let (mut low, mut high) = (0, self.count());
        while low < high {
            let middle = low.midpoint(high);
            match self.get(middle).cmp(&value) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Ok(middle),
            }
        }
        Err(low)
    }

    pub(in crate::types) fn contains(&self, value: i64) -> bool {
        self.search(value).is_ok()
    }

    /// Adds an integer; true when it is new.
    pub(in crate::types) fn insert(&mut self, value: i64) -> bool {
        let Err(index) = self.search(value) else { return false };
        if self.buffer.is_empty() {
            self.buffer = Vec::with_capacity(round_up(HEADER + width_of(value)));
            self.buffer.push(width_of(value) as u8);
        } else if width_of(value) > self.width() {
            self.widen(width_of(value));
        }
        let width = self.width();
        reserve(&mut self.buffer, width, usize::MAX);
        let at = HEADER + index * width;
        let end = self.buffer.len();
        self.buffer.resize(end + width, 0);
        self.buffer.copy_within(at..end, at + width);
        self.buffer[at..at + width].copy_from_slice(&value.to_le_bytes()[..width]);
        true
    }

    fn widen(&mut self, width: usize) {
        let mut buffer = Vec::with_capacity(round_up(HEADER + (self.count() + 1) * width));
        buffer.push(width as u8);
        self.iter().for_each(|value| buffer.extend_from_slice(&value.to_le_bytes()[..width]));
        self.buffer = buffer;
    }

    /// Removes an integer; true when it was there.
    pub(in crate::types) fn remove(&mut self, value: i64) -> bool {
        let Ok(index) = self.search(value) else { return false };
        let width = self.width();
        let at = HEADER + index * width;
        self.buffer.drain(at..at + width);
        if self.buffer.len() == HEADER {
            self.buffer = Vec::new();
        } else if self.buffer.capacity() > 2 * self.buffer.len() + 64 {
            self.buffer.shrink_to(round_up(self.buffer.len()));
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn value() -> impl Strategy<Value = i64> {
        prop_oneof![
            -40..40_i64,
            any::<i16>().prop_map(i64::from),
            any::<i32>().prop_map(i64::from),
            any::<i64>(),
            Just(i64::MIN),
            Just(i64::MAX)
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_a_sorted_set(
            ops in prop::collection::vec((any::<bool>(), value()), 1..200),
        ) {
            let (mut set, mut model) = (IntSet::new(), BTreeSet::new());
            for (add, value) in ops {
                prop_assert_eq!(set.contains(value), model.contains(&value));
                if add {
                    prop_assert_eq!(set.insert(value), model.insert(value));
                } else {
                    prop_assert_eq!(set.remove(value), model.remove(&value));
                }
                prop_assert_eq!(set.count(), model.len());
            }
            prop_assert!(set.iter().eq(model.iter().copied()));
            let copy = IntSet::from_bytes(set.as_bytes()).unwrap();
            prop_assert!(copy.iter().eq(set.iter()));
        }
    }

    #[test]
    fn members_take_the_width_they_need() {
        let mut set = IntSet::new();
        assert_eq!(set.heap_bytes(), 0);
        (0..100).for_each(|n| assert!(set.insert(n)));
        assert_eq!((set.width(), set.heap_bytes()), (2, heap_bytes(201)));
        set.insert(70_000);
        assert_eq!(set.width(), 4);
        set.insert(i64::MIN);
        assert_eq!((set.width(), set.count(), set.get(0)), (8, 102, i64::MIN));
        set.remove(i64::MIN);
        assert_eq!(set.width(), 8);
    }

    #[test]
    fn unsorted_input_is_refused() {
        assert!(IntSet::from_bytes(&[2, 2, 0, 1, 0]).is_none());
        assert!(IntSet::from_bytes(&[2, 1, 0, 1, 0]).is_none());
        assert!(IntSet::from_bytes(&[2, 1, 0, 2, 0]).is_some());
        assert_eq!(IntSet::from_bytes(&[]).map(|set| set.count()), Some(0));
    }
}
