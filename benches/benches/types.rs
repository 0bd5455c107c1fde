//! The value types against what std offers for the same work, one operation at a time.
//!
//! `cargo bench --bench types` times them with criterion. The machine's load moves times by tens
//! of percents, so the figures to quote are instructions: `benches/instructions types` runs each
//! workload once under callgrind, through `FLINTLOCK_WORKLOAD=list_push/ours`, and prints
//! instructions an operation. Contenders must agree on a checksum before anything is measured.

use criterion::{BatchSize, Criterion, Throughput};
use flintlock_server::types::list::End;
use flintlock_server::types::{Hash, HashKey, List, Rules, Score, Set, ZSet};
use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::hint::black_box;

/// Operations of one run.
const OPS: u64 = 100_000;

type Run = Box<dyn FnOnce() -> u64>;
type Prepare = fn() -> Run;
type Bytes = Box<[u8]>;

/// Workload, contender, and what prepares a run; the run itself is what is measured.
const WORKLOADS: &[(&str, &str, Prepare)] = &[
    ("list_push", "ours", || {
        run(List::new(), |list| {
            let rules = rules();
            each(|n| list.push(End::Back, &name(n), &rules));
            list.len() as u64
        })
    }),
    ("list_push", "std", || {
        run(VecDeque::<Bytes>::new(), |list| {
            each(|n| list.push_back(name(n).into()));
            list.len() as u64
        })
    }),
    ("list_queue", "ours", || {
        run(queue_ours(), |list| {
            let rules = rules();
            sum(|n| {
                list.push(End::Front, &name(n), &rules);
                let first = list.peek(End::Back).map_or(0, |item| u64::from(item[15]));
                list.discard(End::Back);
                first
            })
        })
    }),
    ("list_queue", "std", || {
        run(queue_std(), |list| {
            sum(|n| {
                list.push_front(name(n).into());
                list.pop_back().map_or(0, |item| u64::from(item[15]))
            })
        })
    }),
    ("hash_small_get", "ours", || {
        run(hash_ours(10), |hash| sum(|n| hash.get(&name(n % 10)).map_or(0, |v| u64::from(v[15]))))
    }),
    ("hash_small_get", "std", || {
        run(hash_std(10), |hash| {
            sum(|n| hash.get(&name(n % 10)[..]).map_or(0, |v| u64::from(v[15])))
        })
    }),
    ("hash_small_set", "ours", || {
        run(hash_ours(10), |hash| {
            let rules = rules();
            sum(|n| u64::from(hash.set(&name(n % 10), &name(n), &rules)))
        })
    }),
    ("hash_small_set", "std", || {
        run(hash_std(10), |hash| {
            sum(|n| u64::from(hash.insert(name(n % 10).into(), name(n).into()).is_none()))
        })
    }),
    ("hash_big_get", "ours", || {
        run(hash_ours(OPS), |hash| sum(|n| hash.get(&name(n)).map_or(0, |v| u64::from(v[15]))))
    }),
    ("hash_big_get", "std", || {
        run(hash_std(OPS), |hash| sum(|n| hash.get(&name(n)[..]).map_or(0, |v| u64::from(v[15]))))
    }),
    ("hash_big_add", "ours", || {
        run(Hash::new(), |hash| {
            let rules = rules();
            sum(|n| u64::from(hash.set(&name(n), &name(n), &rules)))
        })
    }),
    ("hash_big_add", "std", || {
        run(HashMap::<Bytes, Bytes>::new(), |hash| {
            sum(|n| u64::from(hash.insert(name(n).into(), name(n).into()).is_none()))
        })
    }),
    ("hash_big_set", "ours", || {
        run(hash_ours(OPS), |hash| {
            let rules = rules();
            sum(|n| u64::from(hash.set(&name(n), &name(n + 1), &rules)))
        })
    }),
    ("hash_big_set", "std", || {
        run(hash_std(OPS), |hash| {
            sum(|n| u64::from(hash.insert(name(n).into(), name(n + 1).into()).is_none()))
        })
    }),
    ("set_add", "ours", || {
        run(Set::new(), |set| {
            let rules = rules();
            sum(|n| u64::from(set.add(&name(n), &rules)))
        })
    }),
    ("set_add", "std", || {
        run(HashSet::<Bytes>::new(), |set| sum(|n| u64::from(set.insert(name(n).into()))))
    }),
    ("set_contains", "ours", || {
        run(set_ours(), |set| sum(|n| u64::from(set.contains(&name(n * 2)))))
    }),
    ("set_contains", "std", || {
        run(set_std(), |set| sum(|n| u64::from(set.contains(&name(n * 2)[..]))))
    }),
    ("zset_add", "ours", || {
        run(ZSet::new(), |zset| {
            let rules = rules();
            sum(|n| u64::from(zset.insert(&name(n), score(n), &rules).is_added()))
        })
    }),
    ("zset_add", "std", || {
        run(TwoMaps::default(), |zset| sum(|n| u64::from(zset.insert(&name(n), score(n)))))
    }),
    ("zset_rescore", "ours", || {
        run(zset_ours(), |zset| {
            let rules = rules();
            sum(|n| u64::from(zset.insert(&name(n), score(n + 7), &rules).is_added()))
        })
    }),
    ("zset_rescore", "std", || {
        run(zset_std(), |zset| sum(|n| u64::from(zset.insert(&name(n), score(n + 7)))))
    }),
    ("zset_score", "ours", || {
        run(zset_ours(), |zset| sum(|n| zset.score(&name(n)).map_or(0, |s| s.get() as u64)))
    }),
    ("zset_score", "std", || {
        run(zset_std(), |zset| sum(|n| zset.scores.get(&name(n)[..]).map_or(0, |s| s.get() as u64)))
    }),
    ("zset_rank", "ours", || {
        run(zset_ours(), |zset| sum(|n| zset.rank(&name(n)).map_or(0, |(rank, _)| rank as u64)))
    }),
    ("zset_pop_min", "ours", || {
        run(zset_ours(), |zset| {
            sum(|_| zset.pop_min().map_or(0, |(member, _)| u64::from(member[15])))
        })
    }),
    ("zset_pop_min", "std", || {
        run(zset_std(), |zset| {
            sum(|_| {
                let Some((_, member)) = zset.order.pop_first() else { return 0 };
                zset.scores.remove(&member);
                u64::from(member[15])
            })
        })
    }),
];

/// What a sorted set is without a structure of its own.
#[derive(Default)]
struct TwoMaps {
    scores: HashMap<Bytes, Score>,
    order: BTreeSet<(Score, Bytes)>,
}

impl TwoMaps {
    fn insert(&mut self, member: &[u8], score: Score) -> bool {
        let old = self.scores.insert(member.into(), score);
        if let Some(old) = old {
            self.order.remove(&(old, member.into()));
        }
        self.order.insert((score, member.into()));
        old.is_none()
    }
}

fn rules() -> Rules {
    Rules::new(HashKey::new(*b"sixteen secret b"))
}

/// Sixteen bytes, spread so that neither order nor prefix helps anybody.
fn name(n: u64) -> [u8; 16] {
    let mixed = n.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut name = [b'n'; 16];
    name[..8].copy_from_slice(&mixed.to_be_bytes());
    name[8..].copy_from_slice(&n.to_be_bytes());
    name
}

fn score(n: u64) -> Score {
    let mixed = n.wrapping_add(1).wrapping_mul(0xd6e8_feb8_6659_fd93);
    Score::new((mixed >> 34) as f64).expect("an integer is a number")
}

fn each(mut step: impl FnMut(u64)) {
    (0..OPS).for_each(|n| step(black_box(n)));
}

fn sum(step: impl FnMut(u64) -> u64) -> u64 {
    (0..OPS).map(black_box).map(step).fold(0, u64::wrapping_add)
}

fn run<T: 'static>(mut value: T, work: fn(&mut T) -> u64) -> Run {
    Box::new(move || {
        let result = work(&mut value);
        // Freeing is measured by nobody.
        std::mem::forget(value);
        result
    })
}

fn queue_ours() -> List {
    let mut list = List::new();
    (0..1_000).for_each(|n| list.push(End::Front, &name(n), &rules()));
    list
}

fn queue_std() -> VecDeque<Bytes> {
    (0..1_000).rev().map(|n| name(n).into()).collect()
}

fn hash_ours(fields: u64) -> Hash {
    let mut hash = Hash::new();
    (0..fields).for_each(|n| _ = hash.set(&name(n), &name(n), &rules()));
    hash
}

fn hash_std(fields: u64) -> HashMap<Bytes, Bytes> {
    (0..fields).map(|n| (name(n).into(), name(n).into())).collect()
}

fn set_ours() -> Set {
    let mut set = Set::new();
    (0..OPS).for_each(|n| _ = set.add(&name(n), &rules()));
    set
}

fn set_std() -> HashSet<Bytes> {
    (0..OPS).map(|n| name(n).into()).collect()
}

fn zset_ours() -> ZSet {
    let mut zset = ZSet::new();
    (0..OPS).for_each(|n| _ = zset.insert(&name(n), score(n), &rules()));
    zset
}

fn zset_std() -> TwoMaps {
    let mut zset = TwoMaps::default();
    (0..OPS).for_each(|n| _ = zset.insert(&name(n), score(n)));
    zset
}

/// What callgrind collects, by this name.
#[inline(never)]
fn flintlock_measured(run: Run) -> u64 {
    run()
}

fn main() {
    if let Ok(wanted) = std::env::var("FLINTLOCK_WORKLOAD") {
        for (workload, contender, prepare) in WORKLOADS {
            let id = format!("{workload}/{contender}");
            if wanted == "list" {
                println!("{id} {OPS}");
            } else if wanted == id {
                black_box(flintlock_measured(prepare()));
            }
        }
        return;
    }
    let mut criterion = Criterion::default().configure_from_args();
    for (workload, contender, prepare) in WORKLOADS {
        let (_, _, first) = WORKLOADS.iter().find(|w| w.0 == *workload).expect("itself at least");
        assert_eq!(prepare()(), first()(), "{workload}: {contender} does the same work");
        let mut group = criterion.benchmark_group(*workload);
        group.throughput(Throughput::Elements(OPS)).sample_size(20);
        group.bench_function(*contender, |bencher| {
            bencher.iter_batched(prepare, flintlock_measured, BatchSize::PerIteration);
        });
        group.finish();
    }
    criterion.final_summary();
}
