//! Names of keys that somebody gathers, and how much memory they take. Main thread; pure.

use std::collections::HashSet;

use crate::types::heap_bytes;

/// A set of names that knows its size.
#[derive(Debug, Default)]
pub(crate) struct Names {
    set: HashSet<Box<[u8]>>,
    /// Of the names themselves.
    name_bytes: usize,
}

impl Names {
    /// Bytes of memory held.
    pub(crate) fn memory_bytes(&self) -> usize {
        // A byte of control for each place.
        self.set.capacity() * (size_of::<Box<[u8]>>() + 1) + self.name_bytes
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.set.is_empty()
    }

    pub(crate) fn insert(&mut self, name: Box<[u8]>) {
        let bytes = heap_bytes(name.len());
        if self.set.insert(name) {
            self.name_bytes += bytes;
        }
    }

    pub(crate) fn remove(&mut self, name: &[u8]) {
        if self.set.remove(name) {
            self.name_bytes -= heap_bytes(name.len());
        }
    }

    pub(crate) fn retain(&mut self, mut f: impl FnMut(&[u8]) -> bool) {
        let Self { set, name_bytes } = self;
        set.retain(|name| {
            let stays = f(name);
            if !stays {
                *name_bytes -= heap_bytes(name.len());
            }
            stays
        });
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn into_set(self) -> HashSet<Box<[u8]>> {
        self.set
    }

    #[cfg(test)]
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Box<[u8]>> {
        self.set.iter()
    }
}

impl Extend<Box<[u8]>> for Names {
    fn extend<I: IntoIterator<Item = Box<[u8]>>>(&mut self, names: I) {
        names.into_iter().for_each(|name| self.insert(name));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_counted_once_and_until_they_go() {
        let mut names = Names::default();
        assert_eq!(names.memory_bytes(), 0);
        let name = |i: usize| vec![b'0' + i as u8; 1000 * i].into_boxed_slice();
        names.extend((0..10).chain(0..10).map(name));
        assert!(names.memory_bytes() >= 45_000 && names.name_bytes < 46_000);
        names.remove(&name(9));
        names.remove(&name(9));
        names.retain(|name| name.len() < 8000);
        assert!((28_000..29_000).contains(&names.name_bytes), "{names:?}");
        names.retain(|_| false);
        assert!(names.is_empty() && names.name_bytes == 0);
        names.insert(name(1));
        names.clear();
        assert_eq!(names.memory_bytes(), 0);
    }
}
