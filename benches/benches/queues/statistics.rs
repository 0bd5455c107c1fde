//! The loads as criterion groups, one for each column of the tables.
//!
//! For a change compared with the run before it, which criterion keeps. Contenders are not
//! alternated here, nor samples told apart by where the cores are, so the tables are what says who
//! is faster than whom.

use std::time::Duration;

use criterion::Criterion;

use super::groups::Group;

/// Samples of each contender.
const SAMPLES: usize = 12;
/// How long these take together.
const MEASURING: Duration = Duration::from_millis(600);
/// How long a contender runs before them.
const WARMING: Duration = Duration::from_millis(200);

/// Has criterion time all contenders of `groups`. Each run checks that all items arrived.
pub(crate) fn time(groups: &[Group]) {
    let mut criterion =
        Criterion::default().sample_size(SAMPLES).measurement_time(MEASURING).warm_up_time(WARMING);
    for group in groups {
        for (label, load) in &group.loads {
            let mut column = criterion.benchmark_group(format!("{}, {label}", group.name));
            for row in &group.contenders {
                column.bench_function(row.name, |bencher| {
                    bencher.iter_custom(|items| {
                        // Trips are timed from one to the next.
                        let ns = (row.run)(*load, (items as usize).max(2));
                        Duration::from_secs_f64(ns * items as f64 / 1e9)
                    });
                });
            }
            column.finish();
        }
    }
}
