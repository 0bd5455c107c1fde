//! A directory in memory that loses what was not synced.
//!
//! For tests, of this crate and of others. Any thread. Two worlds are kept: what a process sees,
//! and what a crash would leave. A crash image is built from the durable world plus a seeded
//! choice of what the disk happened to write by itself: any subset of the 512-byte sectors written
//! since the last sync, any prefix of the names changed since the directory's last sync. Faults are
//! planned by operation count, so that a run can be repeated with the fault at every boundary.
//!
//! A failed sync behaves as on Linux: the pages are marked clean although they never reached the
//! disk, so the process still sees them, the next sync succeeds, and a crash loses them
//! (Rebello et al., USENIX ATC 2020).

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};

use crate::journal::files::{Dir, File};

const SECTOR: usize = 512;

/// What goes wrong at one operation.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Fault {
    /// The operation fails with EIO; a write writes nothing, a sync loses what it covered.
    Io,
    /// The operation fails with ENOSPC; a write may have written a part before.
    NoSpace,
    /// A write takes only half of the bytes; other operations succeed.
    Short,
    /// The power goes: this and every later operation fails with EIO and changes nothing.
    Power,
}

/// An in-memory directory; clones share it.
#[derive(Clone, Debug, Default)]
pub struct SimDir(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// Files by number; a removed file stays, as an open handle may still see it.
    inodes: Vec<Inode>,
    names: BTreeMap<String, usize>,
    durable_names: BTreeMap<String, usize>,
    name_changes: Vec<NameChange>,
    ops: u64,
    faults: BTreeMap<u64, Fault>,
    dead: bool,
    capacity: Option<u64>,
    keeps_files: bool,
}

#[derive(Debug, Default, Clone)]
struct Inode {
    seen: Vec<u8>,
    durable: Vec<u8>,
    /// Writes since the last sync, in order.
    pending: Vec<Pending>,
}

#[derive(Debug, Clone)]
enum Pending {
    Write { offset: usize, bytes: Vec<u8> },
    SetLen(usize),
}

#[derive(Debug, Clone)]
enum NameChange {
    Bind(String, usize),
    Unbind(String),
}

/// What the disk wrote by itself before a crash.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Kept {
    /// Nothing that was not synced.
    Nothing,
    /// Everything.
    All,
    /// A choice drawn from the seed: sectors in any order, names in order.
    Some(u64),
}

impl SimDir {
    /// An empty directory without faults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Plans `fault` for operation number `op`, counted from 0 over the life of the directory.
    pub fn plan(&self, op: u64, fault: Fault) {
        self.lock().faults.insert(op, fault);
    }

    /// Drops every planned fault and gives the power back.
    pub fn mend(&self) {
        let mut state = self.lock();
        state.faults.clear();
        state.dead = false;
        state.keeps_files = false;
    }

    /// Limits the bytes of all files together; a write beyond it fails with ENOSPC.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity = bytes;
    }

    /// Lets every removal of a file fail, or none.
    pub fn keep_files(&self, on: bool) {
        self.lock().keeps_files = on;
    }

    /// Operations so far.
    #[must_use]
    pub fn ops(&self) -> u64 {
        self.lock().ops
    }

    /// The directory after a crash now; the old one is not changed.
    #[must_use]
    pub fn crash(&self, kept: Kept) -> Self {
        let state = self.lock();
        let mut draw = Draw(match kept {
            Kept::Some(seed) => seed,
            Kept::Nothing | Kept::All => 0,
        });
        let mut keep = |one_in: u64| match kept {
            Kept::Nothing => false,
            Kept::All => true,
            Kept::Some(_) => !draw.next().is_multiple_of(one_in),
        };
        let mut names = state.durable_names.clone();
        for change in &state.name_changes {
            if !keep(3) {
                break;
            }
            match change {
                NameChange::Bind(name, inode) => names.insert(name.clone(), *inode),
                NameChange::Unbind(name) => names.remove(name),
            };
        }
        let inodes = state.inodes.iter().map(|i| Inode::fixed(i.after_crash(&mut keep))).collect();
        let fresh = State { inodes, durable_names: names.clone(), names, ..State::default() };
        Self(Arc::new(Mutex::new(fresh)))
    }

    /// Flips bits of one byte of a file, in both worlds.
    ///
    /// # Panics
    /// If there is no such file or byte.
    pub fn flip(&self, name: &str, offset: usize, mask: u8) {
        let mut state = self.lock();
        let inode = state.names[name];
        let inode = &mut state.inodes[inode];
        inode.seen[offset] ^= mask;
        if let Some(byte) = inode.durable.get_mut(offset) {
            *byte ^= mask;
        }
    }

    /// Zeroes a range of a file, in both worlds, as far as the file goes.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn zero(&self, name: &str, offset: usize, len: usize) {
        let mut state = self.lock();
        let inode = state.names[name];
        let inode = &mut state.inodes[inode];
        for world in [&mut inode.seen, &mut inode.durable] {
            let end = world.len().min(offset + len);
            if offset < end {
                world[offset..end].fill(0);
            }
        }
    }

    /// Cuts a file to `len` bytes, in both worlds.
    ///
    /// # Panics
    /// If there is no such file.
    pub fn cut(&self, name: &str, len: usize) {
        let mut state = self.lock();
        let inode = state.names[name];
        let inode = &mut state.inodes[inode];
        inode.seen.truncate(len);
        inode.durable.truncate(len);
    }

    /// The bytes of a file as a process sees them.
    #[must_use]
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let state = self.lock();
        state.names.get(name).map(|&inode| state.inodes[inode].seen.clone())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no operation panics while it holds the lock")
    }
}

impl State {
    /// Counts one operation and returns the fault to act out at it.
    fn step(&mut self) -> io::Result<Option<Fault>> {
        let fault = self.faults.get(&self.ops).copied();
        self.ops += 1;
        self.dead |= fault == Some(Fault::Power);
        if self.dead {
            return Err(eio());
        }
        Ok(fault)
    }

    /// As [`State::step`], for operations that fail whole.
    fn step_whole(&mut self) -> io::Result<()> {
        match self.step()? {
            Some(Fault::Io) => Err(eio()),
            Some(Fault::NoSpace) => Err(enospc()),
            _ => Ok(()),
        }
    }

    /// How many of `len` bytes fit; overwriting takes no room.
    fn room_for(&self, inode: usize, offset: usize, len: usize) -> usize {
        let Some(capacity) = self.capacity else { return len };
        let used: u64 = self.names.values().map(|&i| self.inodes[i].seen.len() as u64).sum();
        let room = usize::try_from(capacity.saturating_sub(used)).unwrap_or(usize::MAX);
        let held = self.inodes[inode].seen.len();
        len.min(held.max(offset).saturating_sub(offset).saturating_add(room))
    }

    fn bind(&mut self, name: &str, inode: usize) {
        self.names.insert(name.to_owned(), inode);
        self.name_changes.push(NameChange::Bind(name.to_owned(), inode));
    }

    fn unbind(&mut self, name: &str) -> io::Result<usize> {
        let inode = self.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        self.name_changes.push(NameChange::Unbind(name.to_owned()));
        Ok(inode)
    }
}

impl Inode {
    fn fixed(bytes: Vec<u8>) -> Self {
        Self { seen: bytes.clone(), durable: bytes, pending: Vec::new() }
    }

    fn apply(&mut self, change: Pending) {
        change.apply(&mut self.seen);
        self.pending.push(change);
    }

    /// The durable bytes plus those pending sectors that `keep` lets through.
    fn after_crash(&self, keep: &mut impl FnMut(u64) -> bool) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        for change in &self.pending {
            match change {
                Pending::SetLen(_) => {
                    if keep(2) {
                        change.apply(&mut bytes);
                    }
                }
                Pending::Write { offset, bytes: new } => {
                    let mut at = 0;
                    while at < new.len() {
                        let len = (SECTOR - (offset + at) % SECTOR).min(new.len() - at);
                        if keep(4) {
                            let part = new[at..at + len].to_vec();
                            Pending::Write { offset: offset + at, bytes: part }.apply(&mut bytes);
                        }
                        at += len;
                    }
                }
            }
        }
        bytes
    }
}

impl Pending {
    fn apply(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::SetLen(len) => bytes.resize(*len, 0),
            Self::Write { offset, bytes: new } => {
                let end = offset + new.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(new);
            }
        }
    }
}

impl Dir for SimDir {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut state = self.lock();
        state.step_whole()?;
        Ok(state.names.keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let mut state = self.lock();
        state.step_whole()?;
        // A fresh inode even where the name exists: a crash may leave the old content.
        state.inodes.push(Inode::default());
        let inode = state.inodes.len() - 1;
        state.bind(name, inode);
        Ok(Box::new(SimFile { dir: self.clone(), inode }))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let mut state = self.lock();
        state.step_whole()?;
        let inode = *state.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(SimFile { dir: self.clone(), inode }))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.step_whole()?;
        let inode = *state.names.get(from).ok_or(io::ErrorKind::NotFound)?;
        // Bound first: a prefix of the changes then never lacks both names.
        state.bind(to, inode);
        state.unbind(from)?;
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.lock();
        state.step_whole()?;
        if state.keeps_files {
            return Err(eio());
        }
        state.unbind(name)?;
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.lock();
        state.step_whole()?;
        state.name_changes.clear();
        state.durable_names = state.names.clone();
        Ok(())
    }
}

#[derive(Debug)]
struct SimFile {
    dir: SimDir,
    inode: usize,
}

impl File for SimFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.dir.lock();
        let fault = state.step()?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let mut take = state.room_for(self.inode, offset, bytes.len());
        match fault {
            Some(Fault::Io) => return Err(eio()),
            Some(Fault::NoSpace) => take = 0,
            Some(Fault::Short) => take = take.min(bytes.len().div_ceil(2)),
            Some(Fault::Power) | None => {}
        }
        if take == 0 && !bytes.is_empty() {
            return Err(enospc());
        }
        let change = Pending::Write { offset, bytes: bytes[..take].to_vec() };
        state.inodes[self.inode].apply(change);
        Ok(take)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let mut state = self.dir.lock();
        state.step_whole()?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let seen = &state.inodes[self.inode].seen;
        let from = &seen[offset.min(seen.len())..];
        let len = from.len().min(out.len());
        out[..len].copy_from_slice(&from[..len]);
        Ok(len)
    }

    fn len_bytes(&self) -> io::Result<u64> {
        let mut state = self.dir.lock();
        state.step_whole()?;
        Ok(state.inodes[self.inode].seen.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.dir.lock();
        state.step_whole()?;
        let len = usize::try_from(len).map_err(io::Error::other)?;
        state.inodes[self.inode].apply(Pending::SetLen(len));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.dir.lock();
        let fault = state.step()?;
        let inode = &mut state.inodes[self.inode];
        let pending = std::mem::take(&mut inode.pending);
        match fault {
            // Marked clean, never written: later syncs have nothing to do.
            Some(Fault::Io) => return Err(eio()),
            Some(Fault::NoSpace) => return Err(enospc()),
            _ => {}
        }
        for change in &pending {
            change.apply(&mut inode.durable);
        }
        Ok(())
    }
}

fn eio() -> io::Error {
    io::Error::from_raw_os_error(5)
}

fn enospc() -> io::Error {
    io::Error::from_raw_os_error(28)
}

/// SplitMix64: enough to choose sectors by.
#[derive(Debug)]
pub(crate) struct Draw(pub(crate) u64);

impl Draw {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_crash_keeps_what_was_synced_and_nothing_else_for_sure() {
        let dir = SimDir::new();
        let file = dir.create("a").unwrap();
        file.write_at(0, b"one").unwrap();
        assert_eq!(dir.crash(Kept::Nothing).bytes("a"), None);
        file.sync().unwrap();
        dir.sync().unwrap();
        file.write_at(3, b"two").unwrap();
        assert_eq!(dir.crash(Kept::Nothing).bytes("a").unwrap(), b"one");
        assert_eq!(dir.crash(Kept::All).bytes("a").unwrap(), b"onetwo");
        assert_eq!(dir.bytes("a").unwrap(), b"onetwo");
    }

    #[test]
    fn a_failed_sync_loses_what_a_later_good_one_claims() {
        let dir = SimDir::new();
        let file = dir.create("a").unwrap();
        dir.sync().unwrap();
        file.write_at(0, b"gone").unwrap();
        dir.plan(dir.ops(), Fault::Io);
        assert!(file.sync().is_err());
        file.sync().unwrap();
        assert_eq!(dir.bytes("a").unwrap(), b"gone");
        assert_eq!(dir.crash(Kept::All).bytes("a").unwrap(), b"");
    }
}
