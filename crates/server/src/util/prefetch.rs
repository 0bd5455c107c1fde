//! Asking for lines before they are needed, so that many misses are waited for together.
//!
//! Any thread. A half of a connection was last written on another core, and with many clients the
//! rest of one is in no near cache either: a group is asked for first and looked at afterwards.
//! A prefetch changes nothing but times.

use crate::keyspace::entry::prefetch;

const LINE_BYTES: usize = 64;

/// Asks for all lines of `value`, not for what it points to.
pub(crate) fn prefetch_value<T>(value: &T) {
    let at = (&raw const *value).cast::<u8>();
    for offset in (0..size_of::<T>()).step_by(LINE_BYTES) {
        prefetch(at.wrapping_add(offset));
    }
}

/// Asks for the first line of `items`.
pub(crate) fn prefetch_first<T>(items: &[T]) {
    prefetch(items.as_ptr());
}
