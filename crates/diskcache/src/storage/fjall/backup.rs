//! A consistent copy of the tree while it is used.
//!
//! Worker. Tables never change, so a copy of the same file system is made of hard links and is
//! complete in milliseconds; elsewhere the bytes are copied. The tables of the version that is
//! copied cannot be deleted meanwhile, because the version is held; what is committed or merged
//! meanwhile is not part of the copy.

use std::fs;
use std::io;
use std::path::Path;

use crate::backup::link_or_copy;
use crate::storage::fjall::FjallStore;
use crate::storage::{BackupProgress, StoreError};

impl FjallStore {
    pub(super) fn backup_to(
        &self,
        dir: &Path,
        progress: &dyn Fn(BackupProgress),
    ) -> Result<(), StoreError> {
        self.tree().with_files(|files| {
            let failed = |e| StoreError::from_io("writing a backup of the engine", e);
            let total_bytes = files.tables.iter().map(|table| table.len_bytes).sum();
            let total_keys = files.tables.iter().map(|table| table.records).sum();
            let mut done = BackupProgress { total_bytes, total_keys, ..BackupProgress::default() };
            progress(done);
            let tables = dir.join("tables");
            fs::create_dir(&tables).map_err(failed)?;
            for table in &files.tables {
                let name = table.path.file_name().expect("a table is a file");
                link_or_copy(&table.path, &tables.join(name)).map_err(failed)?;
                done.bytes += table.len_bytes;
                done.keys += table.records;
                progress(done);
            }
            sync_dir(&tables).map_err(failed)?;
            for (name, bytes) in &files.small {
                write_synced(&dir.join(name), bytes).map_err(failed)?;
            }
            sync_dir(dir).map_err(failed)
        })
    }
}

fn write_synced(path: &Path, bytes: &[u8]) -> io::Result<()> {
    fs::write(path, bytes)?;
    fs::File::open(path)?.sync_all()
}

fn sync_dir(path: &Path) -> io::Result<()> {
    fs::File::open(path)?.sync_all()
}
