//! Every engine against the conformance suite.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use flintlock_diskcache::storage::Storage;
use flintlock_diskcache::storage::conformance::{Subject, check, check_readers};
use flintlock_diskcache::storage::fault::FaultStore;
use flintlock_diskcache::storage::fjall::{FjallOptions, FjallStore};
use flintlock_diskcache::storage::memory::MemoryStore;

/// A fresh directory that goes away with the test.
struct Scratch {
    root: tempfile::TempDir,
    next: u32,
}

impl Scratch {
    fn new() -> Self {
        Self { root: tempfile::tempdir().expect("a temporary directory"), next: 0 }
    }

    fn fresh(&mut self) -> PathBuf {
        self.next += 1;
        let dir = self.root.path().join(self.next.to_string());
        std::fs::create_dir(&dir).expect("a fresh directory");
        dir
    }
}

struct Memory(MemoryStore, Scratch);

impl Subject for Memory {
    fn open(&mut self) -> Box<dyn Storage> {
        Box::new(self.0.clone())
    }

    fn backup_dir(&mut self) -> PathBuf {
        self.1.fresh()
    }

    fn restored(&mut self, backup: &Path) -> Box<dyn Storage> {
        Box::new(MemoryStore::restore(backup).expect("a good backup"))
    }
}

/// Small tables and caches, so that a few records make many of them.
fn small() -> FjallOptions {
    FjallOptions {
        cache_bytes: 256 << 10,
        table_bytes: 32 << 10,
        merge_bytes: 128 << 10,
        open_files: 8,
        ..FjallOptions::default()
    }
}

struct Fjall {
    dir: PathBuf,
    scratch: Scratch,
}

impl Subject for Fjall {
    fn open(&mut self) -> Box<dyn Storage> {
        Box::new(FjallStore::open(&self.dir, small()).expect("a good store"))
    }

    fn backup_dir(&mut self) -> PathBuf {
        self.scratch.fresh()
    }

    fn restored(&mut self, backup: &Path) -> Box<dyn Storage> {
        Box::new(FjallStore::open(backup, small()).expect("a good backup"))
    }
}

fn fjall() -> Fjall {
    let mut scratch = Scratch::new();
    Fjall { dir: scratch.fresh(), scratch }
}

#[test]
fn the_model_conforms() {
    for seed in 0..20 {
        check(&mut Memory(MemoryStore::new(), Scratch::new()), seed, 60);
    }
}

#[test]
fn the_engine_conforms() {
    for seed in 0..5 {
        println!("seed {seed}");
        check(&mut fjall(), seed, 60);
    }
}

#[test]
#[ignore = "minutes; run it after a change to the engine"]
fn the_engine_conforms_at_length() {
    for seed in 100..160 {
        println!("seed {seed}");
        check(&mut fjall(), seed, 200);
    }
}

struct Faultless(Fjall);

impl Subject for Faultless {
    fn open(&mut self) -> Box<dyn Storage> {
        Box::new(FaultStore::new(Arc::from(self.0.open()), 1))
    }

    fn backup_dir(&mut self) -> PathBuf {
        self.0.backup_dir()
    }

    fn restored(&mut self, backup: &Path) -> Box<dyn Storage> {
        self.0.restored(backup)
    }
}

#[test]
fn the_fault_store_without_faults_conforms() {
    check(&mut Faultless(fjall()), 1, 40);
}

#[test]
fn readers_never_go_back_in_time() {
    check_readers(&(Arc::from(fjall().open())), 60);
    check_readers(&(Arc::new(MemoryStore::new()) as Arc<dyn Storage>), 1_000);
}
