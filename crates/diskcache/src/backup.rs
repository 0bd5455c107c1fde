//! A copy of a store while it is used, and a store made of a copy.
//!
//! Worker threads. A backup is itself a store: the engine as some batch left it, and the journal
//! from that batch's watermark to a position behind everything the batch held. Opening it replays
//! the journal and arrives at exactly that position: a consistent cut, although nobody stops.
//!
//! ```text
//! journal worker   Writer::hold()         segments are not dropped from here on
//! any worker       engine.backup()        hard links where possible: a matter of milliseconds
//! journal worker   Writer::export()       syncs; which bytes of which segments; the cut
//! any worker       Export::copy()         copies them
//! journal worker   Writer::release()
//! any worker       seal()                 the identity, last: without it the copy is no store
//! ```
//!
//! The order matters: the engine is copied before the cut is made, since it is never ahead of a
//! synced journal, and segments are held before the engine is copied.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::check::{CheckOptions, Outcome, check};
use crate::layout::{self, Identity, LayoutError, StoreDir};
use crate::recovery::OpenError;
use crate::storage::StoreError;

/// Makes the directories of a backup in `target`, which is missing or empty.
///
/// # Errors
/// When there is something in it, or the disk refuses.
pub fn prepare(target: &Path) -> Result<(), LayoutError> {
    let made = || -> io::Result<()> {
        fs::create_dir_all(target)?;
        if fs::read_dir(target)?.next().is_some() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        let (journal, engine) = layout::part_dirs(target);
        fs::create_dir(journal)?;
        fs::create_dir(engine)
    };
    let path = target.to_owned();
    made().map_err(|source| LayoutError::Io { what: "preparing the backup", path, source })
}

/// Makes the copy a store, when all its parts are there and durable.
///
/// # Errors
/// The disk refuses; the copy is then no store.
pub fn seal(target: &Path, identity: &Identity) -> Result<(), LayoutError> {
    layout::write_identity(target, &Identity { complete: true, ..*identity })?;
    layout::sync_parent(target)
}

/// Where a backup is made that will take the place of the one in `target`.
#[must_use]
pub fn unfinished(target: &Path) -> PathBuf {
    beside(target, ".tmp")
}

pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Removes a directory and what is in it; none is fine. A link in its place is not followed.
///
/// # Errors
/// The disk refuses; some of it may be left.
pub fn remove(dir: &Path) -> Result<(), LayoutError> {
    match fs::remove_dir_all(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done.map_err(layout::at("removing", dir)),
    }
}

/// Gives the sealed copy `made` the name `target` and removes what had it. Whoever looks, and
/// whatever fails, finds a whole backup under that name: both names change places in one step
/// where the file system can do that. Where it cannot, the old one is moved to `target` with
/// `.old` behind it first, and is there for a moment.
///
/// # Errors
/// The disk refuses. The backup in `target`, old or new, is whole.
pub fn publish(made: &Path, target: &Path) -> Result<(), LayoutError> {
    let failed = layout::at("putting the backup in its place", target);
    let old = match swap(made, target) {
        Ok(()) => made.to_owned(),
        Err(_) => {
            let old = beside(target, ".old");
            remove(&old)?;
            replace(made, target, &old).map_err(failed)?;
            old
        }
    };
    layout::sync_parent(target)?;
    remove(&old)
}

/// Both names change places; an error also when there is only one, or no such call.
fn swap(a: &Path, b: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, a, CWD, b, RenameFlags::EXCHANGE)?)
}

/// The same in steps. A failure of the second takes the first back.
fn replace(made: &Path, target: &Path, old: &Path) -> io::Result<()> {
    match fs::rename(target, old) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    fs::rename(made, target).inspect_err(|_| drop(fs::rename(old, target)))
}

/// Where a store is made that is restored into `root`.
#[must_use]
pub fn restoring(root: &Path) -> PathBuf {
    beside(root, ".restoring")
}

/// Makes `root`, which is missing or empty, a store with the content of `backup`. The backup is
/// only read, and shares unchanging files with the new store where the file system can.
///
/// The store is made beside `root`, in [`restoring`]; every record and the whole journal are read
/// and their checksums compared before it gets its name. A call that was cut short is repeated;
/// until it is, `root` is not opened as an empty store.
///
/// # Errors
/// `backup` is no complete and sound store, `root` is not empty, or the disk refuses; `root` is as
/// before then.
pub fn restore(backup: &Path, root: &Path) -> Result<(), OpenError> {
    if !layout::is_empty(root)? {
        return Err(LayoutError::NotEmpty { path: root.to_owned() }.into());
    }
    // A backup that was never opened has no lock, may be on a medium that cannot be written, and
    // does not change; one that was opened as a store must not be in use.
    let used = layout::has_lock(backup).then(|| StoreDir::open(backup)).transpose()?;
    let identity = match &used {
        Some(dir) => Some(*dir.identity()),
        None => layout::read_identity(backup)?,
    };
    let identity = identity.ok_or_else(|| LayoutError::Absent { path: backup.to_owned() })?;
    let made = restoring(root);
    let same = |a: &Path, b: &Path| {
        fs::canonicalize(a).is_ok_and(|a| fs::canonicalize(b).is_ok_and(|b| a == b))
    };
    if !identity.complete || same(backup, &made) {
        return Err(LayoutError::PartMissing { path: layout::part_dirs(backup).1 }.into());
    }
    remove(&made)?;
    let done = copy_store(backup, &made, &identity).and_then(|()| verify(&made, backup));
    let done = done.and_then(|()| {
        fs::rename(&made, root).map_err(layout::at("naming the restored store", root))?;
        Ok(layout::sync_parent(root)?)
    });
    if done.is_err() {
        // What is left would only keep `root` from being used.
        drop(remove(&made));
    }
    done
}

fn copy_store(backup: &Path, made: &Path, identity: &Identity) -> Result<(), OpenError> {
    prepare(made)?;
    let (journal_from, engine_from) = layout::part_dirs(backup);
    let (journal, engine) = layout::part_dirs(made);
    // The journal is written to, so it is copied; the engine's files never change.
    let failed = |e| StoreError::from_io("restoring a backup", e);
    copy_tree(&journal_from, &journal, &|from, to| {
        fs::copy(from, to)?;
        fs::File::open(to)?.sync_all()
    })
    .and_then(|()| copy_tree(&engine_from, &engine, &link_or_copy))
    .map_err(failed)?;
    Ok(seal(made, identity)?)
}

/// Reads all of the copy in `made`.
fn verify(made: &Path, backup: &Path) -> Result<(), OpenError> {
    let mut findings = Vec::new();
    match check(made, CheckOptions::default(), &mut findings) {
        Ok(Outcome::Good) => return Ok(()),
        Ok(_) => {}
        Err(error) => findings.extend(error.to_string().into_bytes()),
    }
    let findings = String::from_utf8_lossy(&findings).into_owned();
    Err(OpenError::Unsound { path: backup.to_owned(), findings })
}

/// Copies the files of a directory by `copy`, and those of directories in it, durably.
pub(crate) fn copy_tree(
    from: &Path,
    to: &Path,
    copy: &dyn Fn(&Path, &Path) -> io::Result<()>,
) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            fs::create_dir(&target)?;
            copy_tree(&source, &target, copy)?;
        } else {
            copy(&source, &target)?;
        }
    }
    fs::File::open(to)?.sync_all()
}

/// A second name for a file that never changes; a copy where that cannot be had: on another file
/// system, on one without links, or on one that forbids them.
pub(crate) fn link_or_copy(from: &Path, to: &Path) -> io::Result<()> {
    match fs::hard_link(from, to) {
        Ok(()) => Ok(()),
        Err(_) => {
            fs::copy(from, to)?;
            fs::File::open(to)?.sync_all()
        }
    }
}
