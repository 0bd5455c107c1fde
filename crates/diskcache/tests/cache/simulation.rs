//! The whole cache under a seeded simulation: 10^5 steps a run, the seed printed on failure.
//!
//! One seed owns the commands, the clock, the order in which jobs run and come back, the faults of
//! engine and journal, and the crashes. After every command the answer must be the model's; after
//! every crash the store must be the model as of some point at or after what was acknowledged,
//! with every command whole; at rest, engine and counts must be the model's exactly.

use std::collections::BTreeMap;

use flintlock_diskcache::cache::evict::Policy;
use flintlock_diskcache::cache::rng::Rng;
use flintlock_diskcache::cache::{Durability, Options};

use crate::sim::{self, World, draw};

fn options(rng: &mut Rng) -> Options {
    let durability = match rng.below(3) {
        0 => Durability::Always,
        1 => Durability::EveryMs(rng.below(200)),
        _ => Durability::Never,
    };
    Options {
        limit_bytes: sim::LIMITS[rng.below(5) as usize],
        durability,
        policy: Policy::ALL[rng.below(8) as usize].0,
        flush_delay_ms: rng.below(300),
        journal_bytes_max: 2000 + rng.below(100_000),
        batch_keys_max: 1 + rng.below(30) as usize,
        slice_keys: 1 + rng.below(8) as usize,
        slice_bytes: 1 + rng.below(500),
        loads_max: 1 + rng.below(12) as usize,
        load_workers: 1 + rng.below(4) as usize,
        databases: sim::DBS,
        seed: rng.next_u64(),
        ..Options::default()
    }
}

/// Runs one seed; returns the counters of the cache.
fn run(seed: u64, steps: u64) -> BTreeMap<&'static str, u64> {
    struct Announce(u64);
    impl Drop for Announce {
        fn drop(&mut self) {
            if std::thread::panicking() {
                eprintln!("failed with seed {}", self.0);
            }
        }
    }
    let _announce = Announce(seed);
    let mut rng = Rng::new(seed);
    let clients = 1 + rng.below(12) as usize;
    let mut world = World::new(options(&mut rng), seed, clients);
    for step in 0..steps {
        world.act(draw(&mut rng, clients));
        if step % 5000 == 4999 {
            world.verify();
        }
    }
    world.verify();
    assert!(world.replies > steps / 100, "the run did something: {}", world.replies);
    world.counters()
}

#[test]
fn a_hundred_thousand_steps() {
    run(1, 100_000);
}

/// Different options each, and together they must have been everywhere.
#[test]
fn many_seeds_meet_everything() {
    let mut totals = BTreeMap::new();
    for seed in 100..200 {
        for (name, count) in run(seed, 5_000) {
            *totals.entry(name).or_insert(0) += count;
        }
    }
    // Lookups are counted by their owner; these failures are not planned.
    let not_here = [
        "hits",
        "negative_hits",
        "misses",
        "maintain_failures",
        "engine_written_bytes",
        "engine_merge_failures",
        "engine_unread_overwrites",
        "errors_corrupt",
        "errors_closed",
        "errors_cancelled",
        "errors_too_large",
    ];
    for (name, count) in totals {
        assert!(count > 0 || not_here.contains(&name), "no run met {name}");
    }
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig {
        cases: 64,
        rng_seed: proptest::test_runner::RngSeed::Fixed(5),
        ..Default::default()
    })]

    /// Short runs against the same model, so that a failure shrinks to the few steps that make it.
    #[test]
    fn any_steps_agree_with_the_model(
        seed in proptest::prelude::any::<u64>(),
        steps in proptest::collection::vec(proptest::prelude::any::<u64>(), 1..400),
    ) {
        let mut rng = Rng::new(seed);
        let clients = 1 + rng.below(4) as usize;
        let mut world = World::new(options(&mut rng), seed, clients);
        for step in steps {
            world.act(draw(&mut Rng::new(step), clients));
        }
        world.verify();
    }
}

/// `FLINTLOCK_SEEDS=500 cargo test --release ... -- --ignored`: the long version.
#[test]
#[ignore = "long: run with FLINTLOCK_SEEDS"]
fn as_many_as_asked_for() {
    let number = |name: &str, default: u64| {
        std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default)
    };
    let first = number("FLINTLOCK_FIRST_SEED", 1000);
    for seed in first..first + number("FLINTLOCK_SEEDS", 100) {
        let counters = run(seed, 20_000);
        eprintln!("seed {seed}: {counters:?}");
    }
}
