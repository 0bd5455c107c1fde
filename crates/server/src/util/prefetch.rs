//! Asking for lines before they are needed, so that many misses are waited for together.
//!
//! Any thread. A half of a connection was last written on another core, and with many clients the
//! rest of one is in no near cache either: a group is asked for first and looked at afterwards.
//! A prefetch changes nothing but times.

use crate::keyspace::entry::prefetch;

const LINE_BYTES: usize = 64;
/// Bytes of a value that are asked for: of a longer one, copying the front asks for the rest.
const VALUE_BYTES: usize = 1024;

/// Asks for the first `lines` lines of `value`, as far as it has so many; not for what it points
/// to. Each costs about as much as a look at a line that is near, so types that are looked at for
/// each request keep what is then needed in front.
pub(crate) fn prefetch_lines<T>(value: &T, lines: usize) {
    prefetch_run((&raw const *value).cast(), size_of::<T>().min(lines * LINE_BYTES));
}

/// Asks for the first line of `items`.
pub(crate) fn prefetch_first<T>(items: &[T]) {
    prefetch(items.as_ptr());
}

/// Asks for the front of a value that is copied soon.
pub(crate) fn prefetch_value(bytes: &[u8]) {
    let front = &bytes[..bytes.len().min(VALUE_BYTES)];
    prefetch_run(front.as_ptr(), front.len());
    prefetch(front.as_ptr_range().end.wrapping_sub(1));
}

fn prefetch_run(at: *const u8, len: usize) {
    let mut offset = 0;
    while offset < len {
        prefetch(at.wrapping_add(offset));
        offset += LINE_BYTES;
    }
}
