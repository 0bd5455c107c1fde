//! Loading, and overwriting a few keys again and again, beside the engine alone in batches.

use std::path::Path;
use std::time::{Duration, Instant};

use flintlock_diskcache::Options;
use flintlock_diskcache::cache::Durability;
use flintlock_diskcache::storage::fjall::{FjallOptions, FjallStore};

use super::measure::{
    Draw, Scale, Scratch, Subject, commit, described, figure, line, median, options, process_cpu,
    seconds, shuffled, title, value,
};

const HOT_KEYS: u64 = 1000;
const HOT_FOR: Duration = Duration::from_secs(3);
const FLUSH_DELAY: Duration = Duration::from_millis(100);

/// Seconds by the clock and of CPU, until all is in the engine.
fn timed(run: impl FnOnce()) -> (f64, f64) {
    let cpu = process_cpu();
    let wall = seconds(run);
    (wall, process_cpu() - cpu)
}

fn engine(dir: &Path, order: &[u64]) -> (f64, f64) {
    timed(|| {
        let store = FjallStore::open(dir, FjallOptions::default()).expect("a fresh store");
        for (number, part) in (1..).zip(order.chunks(50_000)) {
            commit(&store, part, 1, number);
        }
    })
}

fn cache(dir: &Path, options: &Options, order: &[u64]) -> (f64, f64) {
    timed(|| {
        let cache = Subject::open(dir, options).expect("a fresh store");
        for &key in order {
            cache.insert(&key, value(key, 1)).expect("a good disk");
        }
        cache.save().expect("a good disk");
    })
}

pub(crate) fn load(scale: &Scale) {
    let order = shuffled(scale.cold_keys());
    let options = options(4 * scale.memory_bytes);
    let (mut ratios, mut cpu_ratios) = (Vec::new(), Vec::new());
    let (mut rates, mut raw_rates) = (Vec::new(), Vec::new());
    for round in 0..scale.rounds.div_ceil(2) {
        let scratch = Scratch::new("load");
        let (mut ours, mut raw) = ((0.0, 0.0), (0.0, 0.0));
        for turn in 0..2 {
            if turn == round % 2 {
                raw = engine(&scratch.path("engine"), &order);
            } else {
                ours = cache(&scratch.path("store"), &options, &order);
            }
        }
        ratios.push(raw.0 / ours.0);
        cpu_ratios.push(ours.1 / raw.1);
        rates.push(order.len() as f64 / ours.0 / 1000.0);
        raw_rates.push(order.len() as f64 / raw.0 / 1000.0);
    }
    let set_up = format!(
        "{} new keys in random order from one thread, until the engine has all; {}; the engine \
         alone takes batches of 50,000",
        order.len(),
        described(&options)
    );
    title("load", &set_up);
    let (ours, raw) = (median(&mut rates), median(&mut raw_rates));
    let ratio = median(&mut ratios);
    line(
        "speed, over the engine alone",
        &format!("{ratio:.2} ({ours:.0} against {raw:.0} k/s)"),
        ">= 0.70",
        Some(ratio >= 0.70),
    );
    let cpu = format!("{:.2}", median(&mut cpu_ratios));
    line("CPU of all threads, over the engine alone (journal and table included)", &cpu, "", None);
}

pub(crate) fn overwrite(_: &Scale) {
    let scratch = Scratch::new("overwrite");
    let durability = Durability::EveryMs(1000);
    let options = Options {
        durability,
        flush_delay: FLUSH_DELAY,
        journal_bytes: 256 << 20,
        ..options(64 << 20)
    };
    let cache = Subject::open(scratch.path("store"), &options).expect("a fresh store");
    let before = figure(&cache, "saves");
    let mut draw = Draw(3);
    let mut writes = 0;
    let begin = Instant::now();
    while begin.elapsed() < HOT_FOR {
        let key = draw.below(HOT_KEYS);
        cache.insert(&key, value(key, writes)).expect("a good disk");
        writes += 1;
    }
    let delays = begin.elapsed().as_secs_f64() / FLUSH_DELAY.as_secs_f64();
    let saves = figure(&cache, "saves") - before;
    let per_delay = saves as f64 / HOT_KEYS as f64 / delays;
    let spared = writes as f64 / saves.max(1) as f64;
    let set_up =
        format!("{HOT_KEYS} keys for {HOT_FOR:?} from one thread; {}", described(&options));
    title("overwrite", &set_up);
    let reached = Some(per_delay <= 1.0);
    let measured = format!("{per_delay:.2}");
    line("disk writes of a key in one flush delay", &measured, "<= 1", reached);
    line(
        "writes for one disk write",
        &format!("{spared:.0} ({writes} writes)"),
        ">= 20",
        Some(spared >= 20.0),
    );
}
