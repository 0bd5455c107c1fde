//! The directory and file operations that the journal needs, and the real ones.
//!
//! The seam at which tests tear writes, fail syncs and cut the power (see [`super::sim`]). Worker
//! threads only: every call may block for as long as the disk does.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// One flat directory. Names are plain file names.
pub trait Dir: Send + Sync + fmt::Debug {
    /// Names of the files, in any order.
    ///
    /// # Errors
    /// As the operating system reports.
    fn list(&self) -> io::Result<Vec<String>>;

    /// Creates an empty file, emptying one of that name; the name is durable after [`Dir::sync`].
    ///
    /// # Errors
    /// As the operating system reports.
    fn create(&self, name: &str) -> io::Result<Box<dyn File>>;

    /// Opens an existing file for reading and writing.
    ///
    /// # Errors
    /// As the operating system reports; `NotFound` when there is none.
    fn open(&self, name: &str) -> io::Result<Box<dyn File>>;

    /// Renames, replacing atomically; durable after [`Dir::sync`].
    ///
    /// # Errors
    /// As the operating system reports.
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;

    /// Removes a file; durable after [`Dir::sync`].
    ///
    /// # Errors
    /// As the operating system reports.
    fn remove(&self, name: &str) -> io::Result<()>;

    /// Makes creations, renames and removals durable.
    ///
    /// # Errors
    /// As the operating system reports; what became durable is then unknown.
    fn sync(&self) -> io::Result<()>;
}

/// One open file, read and written at explicit offsets.
pub trait File: Send + Sync + fmt::Debug {
    /// Writes some of `bytes`, at least one of them unless empty.
    ///
    /// # Errors
    /// As the operating system reports; nothing was written.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize>;

    /// Reads some bytes; 0 at the end of the file.
    ///
    /// # Errors
    /// As the operating system reports.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize>;

    /// Length in bytes.
    ///
    /// # Errors
    /// As the operating system reports.
    fn len_bytes(&self) -> io::Result<u64>;

    /// Cuts or extends with zeros.
    ///
    /// # Errors
    /// As the operating system reports.
    fn set_len(&self, len: u64) -> io::Result<()>;

    /// Makes what was written durable (fdatasync).
    ///
    /// # Errors
    /// As the operating system reports. Afterwards nothing may be assumed of what was written
    /// since the last good sync, and another sync that succeeds proves nothing.
    fn sync(&self) -> io::Result<()>;
}

/// Writes all of `bytes`, going on after short writes and interruptions.
pub(crate) fn write_all_at(file: &dyn File, mut offset: u64, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match file.write_at(offset, bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => {
                bytes = &bytes[n..];
                offset += n as u64;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

/// Fills `out` as far as the file goes and returns how far that was.
pub(crate) fn read_full_at(file: &dyn File, offset: u64, out: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < out.len() {
        match file.read_at(offset + done as u64, &mut out[done..]) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Copies the first `len` bytes of a file, or all there are, durably, name included.
pub(crate) fn copy_file(
    from: &dyn Dir,
    source: &str,
    to: &dyn Dir,
    target: &str,
    len: u64,
) -> io::Result<()> {
    let (source, target) = (from.open(source)?, to.create(target)?);
    let mut buf = vec![0; 1 << 20];
    let mut at = 0;
    while at < len {
        let want = usize::try_from(len - at).map_or(buf.len(), |left| left.min(buf.len()));
        let got = read_full_at(&*source, at, &mut buf[..want])?;
        if got == 0 {
            break;
        }
        write_all_at(&*target, at, &buf[..got])?;
        at += got as u64;
    }
    target.sync()?;
    to.sync()
}

/// A directory of the file system.
#[derive(Clone, Debug)]
pub struct DiskDir {
    path: PathBuf,
}

impl DiskDir {
    /// The directory at `path`, which exists.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self { path: path.to_owned() }
    }
}

impl Dir for DiskDir {
    fn list(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            // A name that is no UTF-8 cannot be ours.
            if let Ok(name) = entry.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn File>> {
        let file = fs::File::options()
            .read(true)
            .write(true)
            .create(true)
            .truncate(true)
            .open(self.path.join(name))?;
        Ok(Box::new(DiskFile(file)))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn File>> {
        let file = fs::File::options().read(true).write(true).open(self.path.join(name))?;
        Ok(Box::new(DiskFile(file)))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        fs::File::open(&self.path)?.sync_all()
    }
}

#[derive(Debug)]
struct DiskFile(fs::File);

impl File for DiskFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        self.0.read_at(out, offset)
    }

    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
