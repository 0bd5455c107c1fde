//! The contenders behind one trait, each set up as its documentation advises for the purpose.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use flintlock_diskcache::cache::Durability;
use flintlock_diskcache::{DiskCache, Options};
use foyer::{
    BlockEngineConfig, DeviceBuilder, FsDeviceBuilder, HybridCache, HybridCacheBuilder,
    HybridCachePolicy,
};
use tokio::runtime::Runtime;

/// In the order of the table.
pub const NAMES: [&str; 4] = ["DiskCache", "foyer", "moka", "quick_cache"];

/// Whether anything is left of it after a restart.
pub fn is_on_disk(name: &str) -> bool {
    ["DiskCache", "foyer"].contains(&name)
}

/// One cache. Panics on errors.
pub trait Contender: Sync {
    /// Puts a value in.
    fn put(&self, key: u64, value: Vec<u8>);

    /// The value, from memory or disk.
    fn get(&self, key: u64) -> Option<Vec<u8>>;

    /// Whether the key is in memory, in the way that costs least.
    fn hit(&self, key: u64) -> bool;

    /// Waits until everything is where it will stay, if there is such a thing.
    fn settle(&self) {}
}

/// A fresh cache, or what is left of an old one in `dir`.
pub fn open(name: &str, dir: &Path, limit: u64) -> Box<dyn Contender> {
    match name {
        "DiskCache" => Box::new(disk_cache(dir, limit)),
        "foyer" => Box::new(Foyer::open(dir, limit)),
        "moka" => {
            Box::new(moka::sync::Cache::builder().max_capacity(limit).weigher(weight_moka).build())
        }
        "quick_cache" => {
            let entries = (limit / 600).try_into().expect("small");
            Box::new(quick_cache::sync::Cache::with_weighter(entries, limit, Weight))
        }
        other => panic!("no contender {other}"),
    }
}

// ---- DiskCache --------------------------------------------------------------------------

fn disk_cache(dir: &Path, limit: u64) -> DiskCache<u64, Vec<u8>> {
    let durability = Durability::EveryMs(100);
    let options = Options { memory_bytes: limit, durability, ..Options::default() };
    DiskCache::open(dir.join("store"), &options).expect("a good store")
}

impl Contender for DiskCache<u64, Vec<u8>> {
    fn put(&self, key: u64, value: Vec<u8>) {
        self.insert(&key, value).expect("a good disk");
    }

    fn get(&self, key: u64) -> Option<Vec<u8>> {
        Self::get(self, &key).expect("a good disk")
    }

    fn hit(&self, key: u64) -> bool {
        self.get_with(&key, |_| ()).expect("a good disk").is_some()
    }

    fn settle(&self) {
        self.sync().expect("a good disk");
    }
}

// ---- foyer ------------------------------------------------------------------------------

struct Foyer {
    cache: HybridCache<u64, Vec<u8>>,
    runtime: Runtime,
}

/// Room on disk: three times the largest data set here.
const FOYER_DISK: usize = 512 << 20;
/// With its default, as large as its limit on memory is here, it could not be compared.
const FOYER_BUFFERS: usize = 4 << 20;

impl Foyer {
    fn open(dir: &Path, limit: u64) -> Self {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build().expect("threads");
        let device = FsDeviceBuilder::new(dir).with_capacity(FOYER_DISK).build();
        let engine = BlockEngineConfig::new(device.expect("a good disk"))
            .with_buffer_pool_size(FOYER_BUFFERS);
        let builder = HybridCacheBuilder::new()
            .with_policy(HybridCachePolicy::WriteOnInsertion)
            .memory(usize::try_from(limit).expect("small"))
            .with_weighter(|_: &u64, value: &Vec<u8>| value.len() + 8)
            .storage()
            .with_engine_config(engine);
        let cache = runtime.block_on(builder.build()).expect("a good disk");
        Self { cache, runtime }
    }
}

impl Contender for Foyer {
    fn put(&self, key: u64, value: Vec<u8>) {
        self.cache.insert(key, value);
    }

    fn get(&self, key: u64) -> Option<Vec<u8>> {
        let found = self.runtime.block_on(async { self.cache.get(&key).await });
        found.expect("a good disk").map(|entry| entry.value().clone())
    }

    fn hit(&self, key: u64) -> bool {
        self.cache.memory().get(&key).is_some()
    }

    /// It cannot be told to sync; it is given time instead.
    fn settle(&self) {
        std::thread::sleep(Duration::from_secs(3));
    }
}

// ---- In memory only: shared values, because a get clones ---------------------------------

fn weight_moka(_: &u64, value: &Arc<[u8]>) -> u32 {
    u32::try_from(value.len()).expect("small") + 8
}

impl Contender for moka::sync::Cache<u64, Arc<[u8]>> {
    fn put(&self, key: u64, value: Vec<u8>) {
        self.insert(key, value.into());
    }

    fn get(&self, key: u64) -> Option<Vec<u8>> {
        Self::get(self, &key).map(|value| value.to_vec())
    }

    fn hit(&self, key: u64) -> bool {
        Self::get(self, &key).is_some()
    }

    fn settle(&self) {
        self.run_pending_tasks();
    }
}

#[derive(Clone)]
struct Weight;

impl quick_cache::Weighter<u64, Arc<[u8]>> for Weight {
    fn weight(&self, _: &u64, value: &Arc<[u8]>) -> u64 {
        value.len() as u64 + 8
    }
}

impl Contender for quick_cache::sync::Cache<u64, Arc<[u8]>, Weight> {
    fn put(&self, key: u64, value: Vec<u8>) {
        self.insert(key, value.into());
    }

    fn get(&self, key: u64) -> Option<Vec<u8>> {
        Self::get(self, &key).map(|value| value.to_vec())
    }

    fn hit(&self, key: u64) -> bool {
        Self::get(self, &key).is_some()
    }
}
