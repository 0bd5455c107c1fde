//! The buffer that the main thread fills with operations.
//!
//! Main thread. A push is a copy into one growing buffer: no checksum, no syscall, no allocation
//! but the buffer's own growth. Room for the frame's header is kept in front, so the worker writes
//! the buffer as it stands, without copying it again. Only a large value that others share
//! unchanged is not copied: the worker encodes it into its place before it writes the group.

use std::fmt;

use crate::journal::record::{self, FRAME_HEADER_LEN, Keyed, SpaceMap};
use crate::key::{KeyRef, Seq};

/// A recycled buffer larger than this is given back to the allocator.
const KEEP_BYTES: usize = 1 << 20;

/// Largest value or change that is logged: what is logged must fit into a record of the engine,
/// whose blocks are counted in 32 bits, key and checksums included.
pub const BODY_MAX: usize = if cfg!(test) { 16 << 20 } else { u32::MAX as usize - (1 << 20) };

/// An operation whose key, body or count does not fit the format; nothing was logged.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct TooLarge;

impl fmt::Display for TooLarge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the value is too large to be logged")
    }
}

impl std::error::Error for TooLarge {}

/// Operations that reach the disk together: one frame, whole or not at all.
///
/// # Examples
/// ```
/// use flintlock_diskcache::journal::Group;
/// use flintlock_diskcache::key::{KeyRef, Seq, Space};
///
/// let mut group = Group::new(Seq(1));
/// let key = KeyRef { space: Space(1), hash: 42, key: b"greeting" };
/// group.push_put(key, None, |out| out.extend_from_slice(b"hello"))?;
/// let last = group.push_delete(key)?;
/// assert_eq!((last, group.next_seq(), group.count()), (Seq(2), Seq(3), 2));
/// # Ok::<(), flintlock_diskcache::journal::TooLarge>(())
/// ```
pub struct Group {
    first: Seq,
    count: u32,
    /// The header's room, then the operations, those of `later` without their bodies.
    buf: Vec<u8>,
    /// Bodies that are still to be encoded, in order; none once the worker has the group.
    later: Vec<Later>,
    /// What they will take, about.
    later_bytes: usize,
}

/// Appends an encoded value; called by a worker, and again if it panicked.
pub type Encode = Box<dyn Fn(&mut Vec<u8>) + Send>;

/// A body that the worker puts in.
struct Later {
    /// Where its length belongs.
    len_at: usize,
    /// Where it belongs: behind its key.
    body_at: usize,
    encode: Encode,
}

impl Group {
    /// An empty group whose first operation will be `first`.
    ///
    /// # Panics
    /// If `first` is 0: positions begin at 1.
    #[must_use]
    pub fn new(first: Seq) -> Self {
        assert!(first > Seq(0), "positions begin at 1");
        Self { first, count: 0, buf: vec![0; FRAME_HEADER_LEN], later: Vec::new(), later_bytes: 0 }
    }

    /// Empties it for reuse; the buffer is kept unless it has grown large.
    ///
    /// # Panics
    /// If `first` is 0: positions begin at 1.
    pub fn reset(&mut self, first: Seq) {
        assert!(first > Seq(0), "positions begin at 1");
        self.first = first;
        self.count = 0;
        self.buf.truncate(FRAME_HEADER_LEN);
        (self.later, self.later_bytes) = (Vec::new(), 0);
        if self.buf.capacity() > KEEP_BYTES {
            self.buf.shrink_to(KEEP_BYTES);
        }
    }

    /// Position of the first operation.
    #[must_use]
    pub const fn first_seq(&self) -> Seq {
        self.first
    }

    /// Position the next operation will get.
    #[must_use]
    pub const fn next_seq(&self) -> Seq {
        Seq(self.first.0 + self.count as u64)
    }

    /// Position of the last operation; the one before `first_seq` when empty.
    #[must_use]
    pub const fn last_seq(&self) -> Seq {
        Seq(self.next_seq().0 - 1)
    }

    /// Operations in it.
    #[must_use]
    pub const fn count(&self) -> u32 {
        self.count
    }

    /// Whether it holds no operation.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes it will take in the journal; of values that are not encoded yet, about.
    #[must_use]
    pub const fn len_bytes(&self) -> usize {
        self.buf.len() + self.later_bytes
    }

    /// Bytes of memory it holds, and will hold when all values are encoded.
    #[must_use]
    pub const fn memory_bytes(&self) -> usize {
        self.buf.capacity() + self.later_bytes
    }

    /// Bytes that logging another `more` would allocate.
    #[must_use]
    pub const fn growth_bytes(&self, more: usize) -> usize {
        let (capacity, needed) = (self.buf.capacity(), self.buf.len().saturating_add(more));
        if needed <= capacity {
            return 0;
        }
        // A vector doubles.
        if needed - capacity > capacity { needed - capacity } else { capacity }
    }

    /// Logs the complete state of a key; `body` appends the encoded value.
    ///
    /// # Errors
    /// [`TooLarge`] when the value has more than [`BODY_MAX`] bytes; the group is as before.
    #[inline]
    pub fn push_put(
        &mut self,
        key: KeyRef<'_>,
        expires_at_ms: Option<u64>,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Seq, TooLarge> {
        let kind = match expires_at_ms {
            Some(at) => Keyed::PutExpiring(at),
            None => Keyed::Put,
        };
        self.push_keyed(kind, key, body)
    }

    /// Logs the complete state of a key, which `encode` appends when the worker has the group. What
    /// it encodes must not change any more; `len_bytes` says how long it will be, about.
    ///
    /// # Errors
    /// [`TooLarge`] when the key has 4 GiB or more; the group is as before.
    pub fn push_put_later(
        &mut self,
        key: KeyRef<'_>,
        expires_at_ms: Option<u64>,
        len_bytes: usize,
        encode: Encode,
    ) -> Result<Seq, TooLarge> {
        let (key_len, count) = self.room(key)?;
        let kind = expires_at_ms.map_or(Keyed::Put, Keyed::PutExpiring);
        let len_at = record::begin_keyed(&mut self.buf, kind, key, key_len);
        self.later.push(Later { len_at, body_at: self.buf.len(), encode });
        self.later_bytes += len_bytes;
        Ok(self.pushed(count))
    }

    /// Logs a change on top of the key's state; `body` appends the encoded change.
    ///
    /// # Errors
    /// [`TooLarge`] when the change has more than [`BODY_MAX`] bytes; the group is as before.
    #[inline]
    pub fn push_delta(
        &mut self,
        key: KeyRef<'_>,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Seq, TooLarge> {
        self.push_keyed(Keyed::Delta, key, body)
    }

    /// Logs that a key is gone.
    ///
    /// # Errors
    /// [`TooLarge`] when the key has 4 GiB or more; the group is as before.
    #[inline]
    pub fn push_delete(&mut self, key: KeyRef<'_>) -> Result<Seq, TooLarge> {
        let (key_len, count) = self.room(key)?;
        record::push_delete(&mut self.buf, key, key_len);
        Ok(self.pushed(count))
    }

    /// Logs that databases map to other spaces than before.
    ///
    /// # Errors
    /// [`TooLarge`] when the map has 4 Gi entries or more; the group is as before.
    pub fn push_meta(&mut self, map: &SpaceMap) -> Result<Seq, TooLarge> {
        let count = self.count.checked_add(1).ok_or(TooLarge)?;
        record::push_meta(&mut self.buf, map).ok_or(TooLarge)?;
        Ok(self.pushed(count))
    }

    #[inline]
    fn push_keyed(
        &mut self,
        kind: Keyed,
        key: KeyRef<'_>,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> Result<Seq, TooLarge> {
        let (key_len, count) = self.room(key)?;
        let before = self.buf.len();
        let len_at = record::begin_keyed(&mut self.buf, kind, key, key_len);
        let start = self.buf.len();
        body(&mut self.buf);
        // The closure has the whole buffer; one that cut it would have destroyed the log.
        assert!(self.buf.len() >= start, "a body may only append");
        let body_len = self.buf.len() - start;
        if body_len > BODY_MAX {
            self.buf.truncate(before);
            return Err(TooLarge);
        }
        record::set_body_len(&mut self.buf, len_at, body_len as u32);
        Ok(self.pushed(count))
    }

    #[inline]
    fn room(&self, key: KeyRef<'_>) -> Result<(u32, u32), TooLarge> {
        let key_len = u32::try_from(key.key.len()).map_err(|_| TooLarge)?;
        Ok((key_len, self.count.checked_add(1).ok_or(TooLarge)?))
    }

    #[inline]
    fn pushed(&mut self, count: u32) -> Seq {
        self.count = count;
        self.last_seq()
    }

    /// Encodes what was left for later; worker. From now on the group is bytes only.
    ///
    /// # Panics
    /// If an encoder does, or a value takes more than [`BODY_MAX`] bytes (who logs one for later
    /// sees that it does not). The group is as before.
    pub(super) fn encode_later(&mut self) {
        if self.later.is_empty() {
            return;
        }
        let mut whole = Vec::with_capacity(self.buf.len() + self.later_bytes);
        let mut from = 0;
        for Later { len_at, body_at, encode } in &self.later {
            whole.extend_from_slice(&self.buf[from..*body_at]);
            from = *body_at;
            let start = whole.len();
            encode(&mut whole);
            let body_len = whole.len().checked_sub(start).expect("a body may only append");
            assert!(body_len <= BODY_MAX, "no record could hold {body_len} bytes");
            record::set_body_len(&mut whole, start - (body_at - len_at), body_len as u32);
        }
        whole.extend_from_slice(&self.buf[from..]);
        (self.buf, self.later, self.later_bytes) = (whole, Vec::new(), 0);
    }

    /// A group as it was read back; worker.
    pub(super) fn from_body(first: Seq, count: u32, body: &[u8]) -> Self {
        let mut buf = Vec::with_capacity(FRAME_HEADER_LEN + body.len());
        buf.resize(FRAME_HEADER_LEN, 0);
        buf.extend_from_slice(body);
        Self { first, count, buf, later: Vec::new(), later_bytes: 0 }
    }

    /// The operations; worker.
    pub(super) fn body(&self) -> &[u8] {
        &self.buf[FRAME_HEADER_LEN..]
    }

    /// Puts the header in its room and returns the frame; worker.
    pub(super) fn seal(&mut self, header: &[u8; FRAME_HEADER_LEN]) -> &[u8] {
        debug_assert!(self.later.is_empty(), "everything is encoded");
        self.buf[..FRAME_HEADER_LEN].copy_from_slice(header);
        &self.buf
    }
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Group({}+{}, {} bytes)", self.first.0, self.count, self.buf.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::record::{OpKind, take_op};
    use crate::key::Space;

    #[test]
    fn what_is_pushed_is_read_back_in_order() {
        let key = |k: &'static [u8]| KeyRef { space: Space(3), hash: 0xfeed, key: k };
        let map =
            SpaceMap { spaces: vec![Space(1), Space(5)], next_space: 6, dead: vec![Space(2)] };
        let mut group = Group::new(Seq(10));
        group.push_put(key(b""), None, |out| out.extend_from_slice(b"one")).unwrap();
        group.push_put(key(b"b"), Some(77), |_| {}).unwrap();
        group.push_delta(key(b"c"), |out| out.push(1)).unwrap();
        group.push_delete(key(b"d")).unwrap();
        assert_eq!(group.push_meta(&map), Ok(Seq(14)));

        let mut body = group.body();
        let mut got = Vec::new();
        for seq in 10..15 {
            got.push(take_op(&mut body, Seq(seq)).expect("five operations").kind);
        }
        assert!(body.is_empty());
        assert_eq!(
            got,
            [
                OpKind::Put { key: key(b""), expires_at_ms: None, payload: b"one" },
                OpKind::Put { key: key(b"b"), expires_at_ms: Some(77), payload: b"" },
                OpKind::Delta { key: key(b"c"), bytes: &[1] },
                OpKind::Delete { key: key(b"d") },
                OpKind::Meta(map),
            ]
        );
    }

    #[test]
    fn what_is_encoded_later_lies_where_it_was_pushed() {
        use std::sync::atomic::{AtomicUsize, Ordering};
        static ENCODED: AtomicUsize = AtomicUsize::new(0);
        let key = |k: &'static [u8]| KeyRef { space: Space(3), hash: 0xfeed, key: k };
        let (mut at_once, mut later) = (Group::new(Seq(1)), Group::new(Seq(1)));
        let values = [(&b"a"[..], None, 70_000), (b"", Some(77), 0), (b"cc", None, 1)];
        for (i, (name, expires_at_ms, len)) in values.into_iter().enumerate() {
            let value = vec![b'0' + i as u8; len];
            let copy = value.clone();
            let encode = Box::new(move |out: &mut Vec<u8>| {
                ENCODED.fetch_add(1, Ordering::Relaxed);
                out.extend_from_slice(&copy);
            });
            let body = |out: &mut Vec<u8>| out.extend_from_slice(&value);
            let seq = at_once.push_put(key(name), expires_at_ms, body);
            assert_eq!(later.push_put_later(key(name), expires_at_ms, len, encode), seq);
            for group in [&mut at_once, &mut later] {
                group.push_delta(key(b"d"), |out| out.push(9)).unwrap();
            }
        }
        assert_eq!(ENCODED.load(Ordering::Relaxed), 0, "not by who pushes");
        assert_eq!(later.len_bytes(), at_once.len_bytes());
        assert!(later.memory_bytes() >= later.len_bytes());
        later.encode_later();
        assert_eq!(later.body(), at_once.body());
        assert_eq!(later.len_bytes(), at_once.len_bytes());
        later.encode_later();
        assert_eq!((later.body(), ENCODED.load(Ordering::Relaxed)), (at_once.body(), 3));
    }

    #[test]
    fn what_no_record_could_hold_is_not_logged() {
        let key = KeyRef { space: Space(1), hash: 0, key: b"k" };
        let mut group = Group::new(Seq(1));
        group.push_delete(key).unwrap();
        let before = group.len_bytes();
        for len in [BODY_MAX + 1, BODY_MAX] {
            let mut logged = group.push_delta(key, |out| out.resize(out.len() + len, 0));
            if len > BODY_MAX {
                assert_eq!((logged, group.len_bytes()), (Err(TooLarge), before));
                logged = group.push_put(key, None, |out| out.resize(out.len() + len, 0));
                assert_eq!((logged, group.len_bytes()), (Err(TooLarge), before));
            } else {
                assert_eq!(logged, Ok(Seq(2)));
            }
        }
    }

    #[test]
    fn a_reset_group_gives_back_a_large_buffer() {
        let mut group = Group::new(Seq(1));
        let key = KeyRef { space: Space(1), hash: 0, key: b"k" };
        group.push_put(key, None, |out| out.resize(out.len() + 4 * KEEP_BYTES, 0)).unwrap();
        group.reset(Seq(2));
        assert!(group.is_empty() && group.memory_bytes() <= KEEP_BYTES);
        assert_eq!((group.first_seq(), group.last_seq()), (Seq(2), Seq(1)));
        assert_eq!(group.len_bytes(), FRAME_HEADER_LEN);
    }
}
