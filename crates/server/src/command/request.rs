//! One parsed request: borrowed from a connection's buffer, or owned while it waits.
//!
//! Any thread. Owns nothing of the keyspace and knows nothing of it.

use std::ops::Range;

use super::Command;
use crate::keyspace::{Hasher, Key};
use crate::resp::parse::Arg;
use crate::types::number::parse_i64;

/// A command with its arguments, the name included; borrows the bytes.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Request<'a> {
    buf: &'a [u8],
    args: &'a [Arg],
    /// The command's row.
    pub command: &'static Command,
    /// Hash of the first key, if the command has one.
    hash: u64,
}

impl<'a> Request<'a> {
    /// A request whose arguments are `args` of `buf`; at least one. `hash` belongs to the
    /// argument that `command.keys.first` names, if there is one.
    pub(crate) fn new(
        buf: &'a [u8],
        args: &'a [Arg],
        command: &'static Command,
        hash: u64,
    ) -> Self {
        debug_assert!(!args.is_empty(), "a request has a name");
        Self { buf, args, command, hash }
    }

    /// Number of arguments, the name included.
    pub(crate) fn len(&self) -> usize {
        self.args.len()
    }

    /// Argument `index`; 0 is the name.
    pub(crate) fn arg(&self, index: usize) -> &'a [u8] {
        self.args[index].of(self.buf)
    }

    /// Argument `index`, if there.
    pub(crate) fn get(&self, index: usize) -> Option<&'a [u8]> {
        self.args.get(index).map(|a| a.of(self.buf))
    }

    /// All arguments from `index` on.
    pub(crate) fn from(&self, index: usize) -> impl ExactSizeIterator<Item = &'a [u8]> + use<'a> {
        let buf = self.buf;
        self.args[index.min(self.args.len())..].iter().map(move |a| a.of(buf))
    }

    /// Argument `index` as a key; the first one's hash is known already.
    #[inline(always)]
    pub(crate) fn key(&self, index: usize, hasher: Hasher) -> Key<'a> {
        if index == usize::from(self.command.keys.first) {
            self.first_key()
        } else {
            hasher.key(self.arg(index))
        }
    }

    /// Positions of its keys among the arguments.
    pub(crate) fn key_positions(&self) -> impl Iterator<Item = usize> + Clone + use<> {
        let keys = self.command.keys;
        let counted = if keys.count == 0 { 0..0 } else { self.counted(keys.count.into()) };
        keys.positions(self.len()).chain(counted)
    }

    /// Whether it has as many keys as it says, where it says how many.
    pub(crate) fn has_counted_keys(&self) -> bool {
        let at = usize::from(self.command.keys.count);
        let count = self.get(at).and_then(parse_i64).and_then(|count| usize::try_from(count).ok());
        at == 0 || count.is_some_and(|count| (1..self.len() - at).contains(&count))
    }

    /// Positions of as many arguments behind `at` as it says, and as there are.
    fn counted(&self, at: usize) -> Range<usize> {
        let count = self.get(at).and_then(parse_i64).and_then(|count| usize::try_from(count).ok());
        let first = at + 1;
        first..first.saturating_add(count.unwrap_or(0)).min(self.len()).max(first)
    }

    /// The first key of a command that has one.
    pub(crate) fn first_key(&self) -> Key<'a> {
        Key { bytes: self.arg(usize::from(self.command.keys.first)), hash: self.hash }
    }

    /// Whether the values of its keys must be in memory before it runs.
    pub(crate) fn needs_old_values(&self) -> bool {
        self.command.needs_old.is_none_or(|needs| needs(self))
    }

    /// Bytes of all arguments.
    pub(crate) fn len_bytes(&self) -> usize {
        self.args.iter().map(|a| a.len as usize).sum()
    }

    /// Copies the request into one allocation of its own.
    pub(crate) fn detach(&self) -> OwnedRequest {
        OwnedRequest::new(self.command, self.from(0), self.hash)
    }
}

/// A request that outlives the buffer it came in: queued by MULTI or read from the journal.
#[derive(Debug)]
pub(crate) struct OwnedRequest {
    buf: Vec<u8>,
    args: Vec<Arg>,
    command: &'static Command,
    hash: u64,
}

impl OwnedRequest {
    /// Copies arguments, the name included.
    pub(crate) fn new<'a>(
        command: &'static Command,
        args: impl Iterator<Item = &'a [u8]>,
        hash: u64,
    ) -> Self {
        let (mut buf, mut ranges) = (Vec::new(), Vec::new());
        for arg in args {
            // Arguments came through buffers of at most 4 GiB.
            ranges.push(Arg { start: buf.len() as u32, len: arg.len() as u32 });
            buf.extend_from_slice(arg);
        }
        Self { buf, args: ranges, command, hash }
    }

    /// Borrows it.
    pub(crate) fn get(&self) -> Request<'_> {
        Request::new(&self.buf, &self.args, self.command, self.hash)
    }

    /// Memory held, in bytes.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.buf.capacity() + self.args.capacity() * size_of::<Arg>() + size_of::<Self>()
    }
}
