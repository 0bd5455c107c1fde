use std::collections::{BTreeMap, HashMap};

use super::*;
use crate::cache::rng::Rng;
use crate::key::Space;

fn candidate(hash: u64, idle_ms: u64, frequency: u8, expires_at_ms: Option<u64>) -> Candidate {
    Candidate { space: Space(1), hash, idle_ms, frequency, expires_at_ms }
}

#[test]
fn names_round_trip() {
    for (policy, name) in Policy::ALL {
        assert_eq!(Policy::from_name(name), Some(policy));
        assert_eq!(policy.name(), name);
    }
    assert_eq!(Policy::from_name("lru"), None);
}

#[test]
fn each_policy_orders_as_its_name_says() {
    let old = candidate(1, 9000, 200, None);
    let rare = candidate(2, 10, 1, None);
    let soon = candidate(3, 20, 100, Some(1_100));
    let late = candidate(4, 30, 90, Some(9_000));
    let all = [old, rare, soon, late];
    let first = |policy, tier| {
        all.iter()
            .filter_map(|c| score(policy, tier, c, 1_000, c.hash << 40).map(|s| (s, c.hash)))
            .max()
            .map(|(_, hash)| hash)
    };
    for (policy, disk, memory) in [
        (Policy::NoEviction, Some(1), None),
        (Policy::AllKeysLru, Some(1), Some(1)),
        (Policy::AllKeysLfu, Some(2), Some(2)),
        (Policy::AllKeysRandom, Some(4), Some(4)),
        (Policy::VolatileLru, Some(4), Some(4)),
        (Policy::VolatileLfu, Some(4), Some(4)),
        (Policy::VolatileRandom, Some(4), Some(4)),
        (Policy::VolatileTtl, Some(3), Some(3)),
    ] {
        assert_eq!(first(policy, Removal::Forget), disk, "{policy:?}");
        assert_eq!(first(policy, Removal::Delete), memory, "{policy:?}");
        let plain = score(policy, Removal::Delete, &old, 0, 0);
        let excluded = policy.is_volatile() || policy == Policy::NoEviction;
        assert_eq!(plain.is_none(), excluded, "{policy:?}");
        assert!(score(policy, Removal::Forget, &old, 0, 0).is_some(), "all can be forgotten");
    }
}

#[test]
fn the_pool_keeps_the_best_once() {
    let mut pool = Pool::new();
    for hash in 0..100 {
        pool.offer(hash, candidate(hash, 0, 0, None));
    }
    pool.offer(1000, candidate(99, 0, 0, None));
    let taken: Vec<u64> = std::iter::from_fn(|| pool.take()).map(|c| c.hash).collect();
    assert_eq!(taken, (84..100).rev().collect::<Vec<_>>());
}

#[test]
fn lfu_counters_rise_slowly_and_decay() {
    let mut rng = Rng::new(7);
    let mut counter = LFU_START;
    let mut reached = BTreeMap::new();
    for uses in 1..=1_000_000_u32 {
        counter = lfu_touch(counter, (rng.next_u64() >> 32) as u32, 10);
        if [100, 1000, 1_000_000].contains(&uses) {
            reached.insert(uses, counter);
        }
    }
    // Redis's documentation gives 10, 18 and 255 for these.
    assert!((7..=14).contains(&reached[&100]), "{reached:?}");
    assert!((14..=24).contains(&reached[&1000]), "{reached:?}");
    assert!(reached[&1_000_000] > 230, "{reached:?}");
    assert_eq!(lfu_decay(10, 3, 1), 7);
    assert_eq!(lfu_decay(10, 300, 1), 0);
    assert_eq!(lfu_decay(10, 300, 0), 10);
}

/// Five samples and the pool against exact LRU, zipf 0.99, cache of a tenth of the keys.
#[test]
fn sampled_lru_is_within_three_per_cent_of_exact() {
    const KEYS: u64 = 20_000;
    const ROOM: usize = 2_000;
    const STEPS: u64 = 300_000;
    let mut rng = Rng::new(11);
    let mut sums: Vec<f64> = Vec::new();
    let mut sum = 0.0;
    for rank in 1..=KEYS {
        sum += (rank as f64).powf(-0.99);
        sums.push(sum);
    }
    let trace: Vec<u64> = (0..STEPS)
        .map(|_| {
            let x = (rng.next_u64() >> 11) as f64 / (1_u64 << 53) as f64 * sum;
            sums.partition_point(|s| *s < x) as u64
        })
        .collect();

    let mut exact_hits = 0;
    let mut by_time: BTreeMap<u64, u64> = BTreeMap::new();
    let mut last: HashMap<u64, u64> = HashMap::new();
    for (now, key) in trace.iter().enumerate() {
        let now = now as u64;
        match last.insert(*key, now) {
            Some(before) => {
                exact_hits += 1;
                by_time.remove(&before);
            }
            None if last.len() > ROOM => {
                let (_, oldest) = by_time.pop_first().expect("full");
                last.remove(&oldest);
            }
            None => {}
        }
        by_time.insert(now, *key);
    }

    let mut sampled_hits = 0;
    let mut resident: Vec<u64> = Vec::new();
    let mut entries: HashMap<u64, (u64, usize)> = HashMap::new();
    let mut pool = Pool::new();
    for (now, key) in trace.iter().enumerate() {
        let now = now as u64;
        if let Some((used, _)) = entries.get_mut(key) {
            *used = now;
            sampled_hits += 1;
            continue;
        }
        while entries.len() >= ROOM {
            for _ in 0..5 {
                let hash = resident[rng.below(resident.len() as u64) as usize];
                let idle = now - entries[&hash].0;
                let c = candidate(hash, idle, 0, None);
                let s = score(Policy::AllKeysLru, Removal::Forget, &c, 0, 0).expect("all may go");
                pool.offer(s, c);
            }
            let Some(victim) = pool.take() else { continue };
            if let Some((_, at)) = entries.remove(&victim.hash) {
                resident.swap_remove(at);
                if let Some(moved) = resident.get(at) {
                    entries.get_mut(moved).expect("resident").1 = at;
                }
            }
        }
        entries.insert(*key, (now, resident.len()));
        resident.push(*key);
    }
    let ratio = f64::from(sampled_hits) / f64::from(exact_hits);
    assert!(ratio >= 0.97, "sampled {sampled_hits} exact {exact_hits}: {ratio:.4}");
}
