//! What an allocation costs. Pure; any thread.
//!
//! The hard memory limit needs a figure that is known at once and kept by each operation, so it
//! is computed from capacities instead of asked from the allocator. The model is glibc's malloc:
//! 8 bytes of header, chunks in steps of 16 and never under 32. jemalloc's and mimalloc's size
//! classes lie within a quarter of it for small blocks and an eighth for large ones.

/// Bytes that a heap block of `len_bytes` takes from the system; 0 for an empty one.
#[must_use]
pub const fn heap_bytes(len_bytes: usize) -> usize {
    let block = (len_bytes + 8 + 15) & !15;
    if len_bytes == 0 {
        0
    } else if block < 32 {
        32
    } else {
        block
    }
}

/// The longest block that costs no more than one of `len_bytes`: buffers that grow ask for this.
#[must_use]
pub(super) const fn round_up(len_bytes: usize) -> usize {
    if len_bytes == 0 { 0 } else { heap_bytes(len_bytes) - 8 }
}

/// A copy of `items` that owns as many bytes: one from `clone` has no spare capacity, and whoever
/// counts bytes as they change is not told of it.
pub(super) fn copy_of<T: Clone>(items: &Vec<T>) -> Vec<T> {
    let mut copy = Vec::with_capacity(items.capacity());
    copy.extend_from_slice(items);
    copy
}

/// Makes room for `extra` more bytes with little slack: nothing but rounding while small, then an
/// eighth, and no slack beyond `max`. Doubling would waste a quarter of every packed value on
/// average; the price is one copy for each eighth of growth, of buffers that are small by design.
pub(super) fn reserve(buffer: &mut Vec<u8>, extra: usize, max: usize) {
    let needed = buffer.len() + extra;
    if needed > buffer.capacity() {
        let slack = if needed < 256 { 0 } else { needed / 8 };
        let wanted = (needed + slack).min(max.max(needed));
        buffer.reserve_exact(round_up(wanted) - buffer.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_cost_what_glibc_takes() {
        let cases = [(0, 0), (1, 32), (24, 32), (25, 48), (40, 48), (41, 64), (8184, 8192)];
        for (len, cost) in cases {
            assert_eq!(heap_bytes(len), cost, "{len}");
            assert_eq!(heap_bytes(round_up(len)), cost, "{len}");
        }
    }

    #[test]
    fn small_buffers_grow_by_rounding_only() {
        let mut buffer = Vec::new();
        reserve(&mut buffer, 182, usize::MAX);
        assert_eq!(buffer.capacity(), 184);
        buffer.resize(184, 0);
        reserve(&mut buffer, 200, usize::MAX);
        assert_eq!(buffer.capacity(), round_up(384 + 48));
        reserve(&mut buffer, 500, 690);
        assert_eq!(buffer.capacity(), round_up(690));
    }
}
