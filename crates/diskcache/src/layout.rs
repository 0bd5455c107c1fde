//! The directory of one store: who it is, who has it open, where its parts are.
//!
//! ```text
//! DIR/flintlock.store   who it is: format, store id, hash key, checksum
//! DIR/lock              held by the process that has it open
//! DIR/journal/          segments and the watermark file
//! DIR/engine/           tables of the engine
//! ```
//!
//! Any thread; every call may block on the disk. What is not recognised is refused with the reason:
//! a directory that cannot be read as a store is never taken for an empty one.

use std::fmt;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::backup::restoring;
use crate::journal::StoreId;
use crate::journal::record::crc;

/// Version of the directory's format.
pub const FORMAT_VERSION: u32 = 1;
/// Name of the identity file.
pub const IDENTITY_NAME: &str = "flintlock.store";
const IDENTITY_NEW: &str = "flintlock.store.tmp";
const LOCK_NAME: &str = "lock";
const JOURNAL: &str = "journal";
const ENGINE: &str = "engine";
/// Bytes of the identity file.
pub const IDENTITY_LEN: usize = 128;
const MAGIC: [u8; 8] = *b"FLINTLCK";

/// Who a store is; the same for its life.
#[derive(Copy, Clone, Eq, PartialEq)]
pub struct Identity {
    /// Its random number: files of another store are refused.
    pub store: StoreId,
    /// Key of the hash that orders keys on disk; secret, so that nobody can aim at one place.
    pub hash_key: [u8; 16],
    /// Whether journal and engine have been created. Before that nothing was ever acknowledged;
    /// after that a missing part is a loss, not a beginning.
    pub complete: bool,
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (store, complete) = (self.store, self.complete);
        f.debug_struct("Identity").field("store", &store).field("complete", &complete).finish()
    }
}

impl Identity {
    pub(crate) fn fresh() -> Result<Self, getrandom::Error> {
        let mut random = [[0; 16]; 2];
        for part in &mut random {
            getrandom::fill(part)?;
        }
        Ok(Self { store: StoreId(random[0]), hash_key: random[1], complete: false })
    }

    fn encode(&self) -> [u8; IDENTITY_LEN] {
        let mut out = [0; IDENTITY_LEN];
        out[0..8].copy_from_slice(&MAGIC);
        out[8..12].copy_from_slice(&FORMAT_VERSION.to_le_bytes());
        out[12] = u8::from(self.complete);
        out[16..32].copy_from_slice(&self.store.0);
        out[32..48].copy_from_slice(&self.hash_key);
        let sum = crc(&[&out[..IDENTITY_LEN - 4]]);
        out[IDENTITY_LEN - 4..].copy_from_slice(&sum.to_le_bytes());
        out
    }

    /// Magic, version and checksum keep their places in every version.
    fn decode(bytes: &[u8], path: &Path) -> Result<Self, LayoutError> {
        let damaged = || LayoutError::Damaged { path: path.to_owned() };
        let bytes: &[u8; IDENTITY_LEN] = bytes.try_into().map_err(|_| damaged())?;
        let number = |at: usize| {
            let mut four = [0; 4];
            four.copy_from_slice(&bytes[at..at + 4]);
            u32::from_le_bytes(four)
        };
        let sixteen = |at: usize| {
            let mut out = [0; 16];
            out.copy_from_slice(&bytes[at..at + 16]);
            out
        };
        let sum = crc(&[&bytes[..IDENTITY_LEN - 4]]);
        if bytes[..8] != MAGIC || number(IDENTITY_LEN - 4) != sum {
            return Err(damaged());
        }
        if number(8) != FORMAT_VERSION {
            return Err(LayoutError::Newer { path: path.to_owned(), version: number(8) });
        }
        let complete = match bytes[12] {
            0 => false,
            1 => true,
            _ => return Err(damaged()),
        };
        Ok(Self { store: StoreId(sixteen(16)), hash_key: sixteen(32), complete })
    }
}

/// Why a directory is not opened as a store.
#[derive(Debug)]
#[non_exhaustive]
pub enum LayoutError {
    /// The operating system refused.
    Io {
        /// What was being done.
        what: &'static str,
        /// To which file or directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// Another process has it open.
    Locked {
        /// The directory.
        path: PathBuf,
        /// Its process id, if it could be read.
        pid: Option<u32>,
    },
    /// There is no store there, and none was to be created.
    Absent {
        /// The directory.
        path: PathBuf,
    },
    /// The directory holds something, but no store.
    Foreign {
        /// The directory.
        path: PathBuf,
        /// A name in it.
        found: String,
    },
    /// The identity file is gone, but the parts of a store are there.
    NoIdentity {
        /// The directory.
        path: PathBuf,
    },
    /// The identity file is damaged.
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// Written by a newer version.
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format version.
        version: u32,
    },
    /// A part that every complete store has is missing.
    PartMissing {
        /// The part.
        path: PathBuf,
    },
    /// A backup was to be restored where there is something already.
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// A restore was cut short, and there is no store yet.
    RestoreCut {
        /// The directory.
        path: PathBuf,
    },
    /// The operating system gives no random numbers.
    Random(getrandom::Error),
}

impl fmt::Display for LayoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io { what, path, source } => write!(f, "{what} {}: {source}", path.display()),
            Self::Locked { path, pid: Some(pid) } => {
                write!(f, "{} is in use by process {pid}", path.display())
            }
            Self::Locked { path, pid: None } => {
                write!(f, "{} is in use by another process", path.display())
            }
            Self::Absent { path } => write!(f, "{} holds no store", path.display()),
            Self::Foreign { path, found } => {
                write!(f, "{} holds \"{found}\" but no store; it is left alone", path.display())
            }
            Self::NoIdentity { path } => write!(
                f,
                "{} holds parts of a store, but its file {IDENTITY_NAME} is missing",
                path.display()
            ),
            Self::Damaged { path } => write!(f, "{} is damaged", path.display()),
            Self::Newer { path, version } => write!(
                f,
                "{} has format version {version}, which is newer than this program",
                path.display()
            ),
            Self::PartMissing { path } => {
                write!(f, "{} is missing, which every store has", path.display())
            }
            Self::NotEmpty { path } => write!(
                f,
                "{} is not empty, and a backup is restored into an empty place only: move it away \
                 first",
                path.display()
            ),
            Self::RestoreCut { path } => write!(
                f,
                "a restore into {} was cut short: restore again, or remove {} to begin with an \
                 empty store",
                path.display(),
                restoring(path).display()
            ),
            Self::Random(e) => write!(f, "no random numbers: {e}"),
        }
    }
}

impl std::error::Error for LayoutError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

pub(crate) fn at<'a>(what: &'static str, path: &'a Path) -> impl Fn(io::Error) -> LayoutError + 'a {
    move |source| LayoutError::Io { what, path: path.to_owned(), source }
}

/// A store's directory, held by this process until it is dropped.
#[derive(Debug)]
pub struct StoreDir {
    root: PathBuf,
    identity: Identity,
    _lock: File,
}

impl StoreDir {
    /// Takes the store in `root`, creating one if `root` is missing or empty.
    ///
    /// # Errors
    /// Why not; nothing of an existing store is changed.
    pub fn open_or_create(root: &Path) -> Result<Self, LayoutError> {
        fs::create_dir_all(root).map_err(at("creating", root))?;
        Self::take(root, true)
    }

    /// Takes the store in `root`.
    ///
    /// # Errors
    /// Why not; nothing is changed.
    pub fn open(root: &Path) -> Result<Self, LayoutError> {
        match fs::metadata(root) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                Err(LayoutError::Absent { path: root.to_owned() })
            }
            Err(e) => Err(at("opening", root)(e)),
            Ok(_) => Self::take(root, false),
        }
    }

    fn take(root: &Path, create: bool) -> Result<Self, LayoutError> {
        // Looked at before the lock file is created: a foreign directory is not touched at all.
        let found = survey(root)?;
        if found == Survey::Nothing && !create {
            return Err(LayoutError::Absent { path: root.to_owned() });
        }
        if found == Survey::Nothing && restoring(root).exists() {
            return Err(LayoutError::RestoreCut { path: root.to_owned() });
        }
        let lock = lock(root)?;
        let identity = match read_identity(root)? {
            Some(identity) => identity,
            // Another process may have created it before we got the lock: look again.
            None if survey(root)? == Survey::Nothing => {
                let identity = Identity::fresh().map_err(LayoutError::Random)?;
                write_identity(root, &identity)?;
                sync_parent(root)?;
                identity
            }
            None => return Err(LayoutError::NoIdentity { path: root.to_owned() }),
        };
        let dir = Self { root: root.to_owned(), identity, _lock: lock };
        dir.parts()?;
        Ok(dir)
    }

    /// Creates the parts of a store that is being created; those of a complete one must be there.
    fn parts(&self) -> Result<(), LayoutError> {
        for part in [self.journal_dir(), self.engine_dir()] {
            match (part.is_dir(), self.identity.complete) {
                (true, _) => {}
                (false, true) => return Err(LayoutError::PartMissing { path: part }),
                (false, false) => fs::create_dir(&part).map_err(at("creating", &part))?,
            }
        }
        sync_dir(&self.root)
    }

    /// States that journal and engine have been created.
    ///
    /// # Errors
    /// A failed write; calling again is safe.
    pub fn complete(&mut self) -> Result<(), LayoutError> {
        if !self.identity.complete {
            let identity = Identity { complete: true, ..self.identity };
            write_identity(&self.root, &identity)?;
            self.identity = identity;
        }
        Ok(())
    }

    /// The directory.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Who it is.
    #[must_use]
    pub const fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Where the journal is.
    #[must_use]
    pub fn journal_dir(&self) -> PathBuf {
        self.root.join(JOURNAL)
    }

    /// Where the engine is.
    #[must_use]
    pub fn engine_dir(&self) -> PathBuf {
        self.root.join(ENGINE)
    }
}

/// Whether a process has ever opened `root` as a store.
pub(crate) fn has_lock(root: &Path) -> bool {
    root.join(LOCK_NAME).exists()
}

/// Where journal and engine of a store in `root` are.
pub(crate) fn part_dirs(root: &Path) -> (PathBuf, PathBuf) {
    (root.join(JOURNAL), root.join(ENGINE))
}

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Survey {
    /// Nothing, or what is left of a creation that was cut short before it had an identity.
    Nothing,
    Store,
}

/// Looks at the names in `root`.
fn survey(root: &Path) -> Result<Survey, LayoutError> {
    let (mut store, mut part, mut other) = (false, false, None);
    for entry in fs::read_dir(root).map_err(at("listing", root))? {
        let entry = entry.map_err(at("listing", root))?;
        match entry.file_name().to_str() {
            Some(IDENTITY_NAME) => store = true,
            Some(JOURNAL | ENGINE) => part = true,
            // Left by a crash, or by the file system.
            Some(IDENTITY_NEW | LOCK_NAME | "lost+found") => {}
            _ => other = Some(entry.file_name().to_string_lossy().into_owned()),
        }
    }
    match other {
        _ if store => Ok(Survey::Store),
        _ if part => Err(LayoutError::NoIdentity { path: root.to_owned() }),
        Some(found) => Err(LayoutError::Foreign { path: root.to_owned(), found }),
        None => Ok(Survey::Nothing),
    }
}

fn lock(root: &Path) -> Result<File, LayoutError> {
    let path = root.join(LOCK_NAME);
    let mut options = File::options();
    let mut file = (options.read(true).write(true).create(true).truncate(false).open(&path))
        .map_err(at("opening", &path))?;
    take_lock(root, &mut file)?;
    // Only for the message of others: the lock is what counts.
    let _ = file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id()));
    Ok(file)
}

/// Holds the store in `root` to read it, and writes nothing; `None` if no process ever opened it.
pub(crate) fn hold(root: &Path) -> Result<Option<File>, LayoutError> {
    let path = root.join(LOCK_NAME);
    let mut file = match File::open(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(at("opening", &path))?,
    };
    take_lock(root, &mut file).map(|()| Some(file))
}

fn take_lock(root: &Path, file: &mut File) -> Result<(), LayoutError> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let pid = file.read_to_string(&mut pid).ok().and_then(|_| pid.trim().parse().ok());
            Err(LayoutError::Locked { path: root.to_owned(), pid })
        }
        Err(TryLockError::Error(e)) => Err(at("locking", &root.join(LOCK_NAME))(e)),
    }
}

/// Reads the identity in `root`; `None` when there is none.
///
/// # Errors
/// A failed read, a damaged file, a newer format.
pub fn read_identity(root: &Path) -> Result<Option<Identity>, LayoutError> {
    let path = root.join(IDENTITY_NAME);
    match fs::read(&path) {
        Ok(bytes) => Identity::decode(&bytes, &path).map(Some),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(at("reading", &path)(e)),
    }
}

/// Writes the identity into `root`, durably and at once.
///
/// # Errors
/// A failed write; the old identity, if there was one, is still there.
pub(crate) fn write_identity(root: &Path, identity: &Identity) -> Result<(), LayoutError> {
    let (new, path) = (root.join(IDENTITY_NEW), root.join(IDENTITY_NAME));
    let write = || {
        let mut options = File::options();
        // The hash key is nobody else's business.
        let mut file = options.write(true).create(true).truncate(true).mode(0o600).open(&new)?;
        file.write_all(&identity.encode())?;
        file.sync_all()?;
        fs::rename(&new, &path)
    };
    write().map_err(at("writing", &path))?;
    sync_dir(root)
}

pub(crate) fn sync_dir(path: &Path) -> Result<(), LayoutError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(at("syncing", path))
}

/// Makes the name of `path` in the directory above it durable.
pub(crate) fn sync_parent(path: &Path) -> Result<(), LayoutError> {
    match path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => sync_dir(parent),
        None => sync_dir(Path::new(".")),
    }
}

/// Whether `path` is missing or a directory without anything in it.
pub(crate) fn is_empty(path: &Path) -> Result<bool, LayoutError> {
    match fs::read_dir(path) {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(at("listing", path)(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_format_document() {
        let identity = Identity { store: StoreId([1; 16]), hash_key: [2; 16], complete: true };
        let bytes = identity.encode();
        assert_eq!(bytes[..16], *b"FLINTLCK\x01\0\0\0\x01\0\0\0");
        assert_eq!((&bytes[16..32], &bytes[32..48]), (&[1; 16][..], &[2; 16][..]));
        let path = Path::new("x");
        assert_eq!(Identity::decode(&bytes, path).unwrap(), identity);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Identity::decode(&bad, path).is_err(), "bit {bit}");
        }
        let mut newer = bytes;
        newer[8] = 2;
        let sum = crc(&[&newer[..IDENTITY_LEN - 4]]);
        newer[IDENTITY_LEN - 4..].copy_from_slice(&sum.to_le_bytes());
        let error = Identity::decode(&newer, path).unwrap_err();
        assert!(matches!(error, LayoutError::Newer { version: 2, .. }));
    }

    #[test]
    fn a_store_is_created_once_and_keeps_its_identity() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("a/b");
        let mut dir = StoreDir::open_or_create(&root).unwrap();
        let identity = *dir.identity();
        assert!(!identity.complete && dir.journal_dir().is_dir() && dir.engine_dir().is_dir());
        dir.complete().unwrap();
        drop(dir);
        let dir = StoreDir::open(&root).unwrap();
        assert_eq!(*dir.identity(), Identity { complete: true, ..identity });
        assert!(!format!("{dir:?}").contains("hash_key"), "the key is not shown");
    }

    #[test]
    fn a_second_opening_is_refused_with_the_process() {
        let scratch = tempfile::tempdir().unwrap();
        let first = StoreDir::open_or_create(scratch.path()).unwrap();
        let error = StoreDir::open(scratch.path()).unwrap_err();
        let me = std::process::id();
        assert!(matches!(error, LayoutError::Locked { pid: Some(pid), .. } if pid == me));
        assert!(error.to_string().ends_with(&format!("in use by process {me}")));
        drop(first);
        assert!(StoreDir::open(scratch.path()).is_ok());
    }

    #[test]
    fn what_is_no_store_is_refused_and_not_touched() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path();
        let names = || {
            let mut names: Vec<_> =
                fs::read_dir(root).unwrap().map(|e| e.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert!(matches!(StoreDir::open(root), Err(LayoutError::Absent { .. })));
        assert!(matches!(StoreDir::open(&root.join("x")), Err(LayoutError::Absent { .. })));
        fs::write(root.join("thesis.tex"), "x").unwrap();
        assert!(matches!(StoreDir::open_or_create(root), Err(LayoutError::Foreign { .. })));
        assert_eq!(names(), ["thesis.tex"]);
        fs::remove_file(root.join("thesis.tex")).unwrap();
        fs::write(root.join("file"), "x").unwrap();
        let file = root.join("file");
        assert!(matches!(StoreDir::open_or_create(&file), Err(LayoutError::Io { .. })));
    }

    #[test]
    fn a_lost_or_damaged_identity_or_part_is_no_fresh_start() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path();
        let mut dir = StoreDir::open_or_create(root).unwrap();
        dir.complete().unwrap();
        drop(dir);
        let path = root.join(IDENTITY_NAME);
        let good = fs::read(&path).unwrap();
        fs::write(&path, &good[..100]).unwrap();
        assert!(matches!(StoreDir::open_or_create(root), Err(LayoutError::Damaged { .. })));
        fs::remove_file(&path).unwrap();
        assert!(matches!(StoreDir::open_or_create(root), Err(LayoutError::NoIdentity { .. })));
        fs::write(&path, &good).unwrap();
        fs::remove_dir(root.join(ENGINE)).unwrap();
        assert!(matches!(StoreDir::open_or_create(root), Err(LayoutError::PartMissing { .. })));
    }

    #[test]
    fn a_creation_cut_short_is_taken_up_again() {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path();
        fs::write(root.join(IDENTITY_NEW), "half").unwrap();
        fs::write(root.join(LOCK_NAME), "").unwrap();
        let dir = StoreDir::open_or_create(root).unwrap();
        let identity = *dir.identity();
        drop(dir);
        fs::remove_dir(root.join(ENGINE)).unwrap();
        assert_eq!(*StoreDir::open_or_create(root).unwrap().identity(), identity);
    }
}
