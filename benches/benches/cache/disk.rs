//! Bytes on disk, engine and journal, over the bytes that the user has stored.

use std::time::{Duration, Instant};

use super::measure::{
    Draw, LIVE_LEN, Scale, Scratch, Subject, described, disk_bytes, line, median, options, title,
    value,
};

const PATIENCE: Duration = Duration::from_secs(60);
const ROUNDS: u64 = 4;

pub(crate) fn run(scale: &Scale) {
    let scratch = Scratch::new("disk");
    let dir = scratch.path("store");
    let keys = scale.cold_keys();
    let options = options(4 * scale.memory_bytes);
    let cache = Subject::open(&dir, &options).expect("a fresh store");
    for key in 0..keys {
        cache.insert(&key, value(key, 0)).expect("a good disk");
    }
    let live = |keys: u64| (keys * LIVE_LEN) as f64;
    let mut draw = Draw(4);
    // The first round still merges what the load has left behind.
    let (mut first, mut steady) = (Vec::new(), Vec::new());
    for write in 0..ROUNDS * keys {
        let key = draw.below(keys);
        cache.insert(&key, value(key, write)).expect("a good disk");
        if write % (keys / 16) == 0 {
            let looks = if write < keys { &mut first } else { &mut steady };
            looks.push(disk_bytes(&dir) as f64 / live(keys));
        }
    }
    let most = |looks: &[f64]| looks.iter().copied().fold(0.0, f64::max);
    let (peak, most_steady) = (most(&first), most(&steady));
    for key in (0..keys).step_by(2) {
        cache.remove(&key).expect("a good disk");
    }
    cache.save().expect("a good disk");
    let begin = Instant::now();
    let left = || disk_bytes(&dir) as f64 / live(keys / 2);
    while left() > 1.3 && begin.elapsed() < PATIENCE {
        std::thread::sleep(Duration::from_millis(200));
    }
    let (after, took) = (left(), begin.elapsed().as_secs_f64());
    let bytes = |n: u64| cache.get(&n).expect("a good disk").map(|value| value.len());
    assert_eq!((bytes(0), bytes(1)), (None, Some(super::measure::VALUE_LEN)));

    let set_up =
        format!("{keys} keys, overwritten {ROUNDS} times at random; {}", described(&options));
    title("disk", &set_up);
    line(
        "disk over live bytes, first round",
        &format!("at most {peak:.2} ({} looks)", first.len()),
        "",
        None,
    );
    line(
        "disk over live bytes, the other rounds",
        &format!(
            "at most {most_steady:.2} ({} looks, median {:.2})",
            steady.len(),
            median(&mut steady)
        ),
        "<= 2.00",
        Some(most_steady <= 2.0),
    );
    line(
        "disk over live bytes, after half was deleted",
        &format!("{after:.2} after {took:.0} s"),
        "<= 1.30 within 60 s",
        Some(after <= 1.3),
    );
}
