//! The machine the figures come from: pinning, and the raw cost of moving a cache line.
//!
//! Virtual cores are moved by their host: the round trip of one line between them can change by a
//! factor of nine within seconds, and any queue with it. So each sample is framed by two probes of
//! that round trip, and counts only if both agree on the regime.

use std::fs;
use std::hint::spin_loop;
use std::process::{self, Command};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Barrier, OnceLock};
use std::thread;
use std::time::Instant;

use core_affinity::CoreId;

/// Round trips of a probe.
const PROBE_TRIPS: usize = 200;
/// Below this a round trip of one line is between near cores.
const NEAR_NS_MAX: f64 = 200.0;

/// Where the two cores were during a sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Regime {
    /// Sharing a cache level.
    Near,
    /// Apart.
    Far,
}

impl Regime {
    /// Both, in the order of the tables.
    pub const BOTH: [Self; 2] = [Self::Near, Self::Far];

    /// As the tables call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Near => "near",
            Self::Far => "far",
        }
    }
}

/// The cores that threads are pinned to, the first two for the two sides of a queue. Asked once:
/// a pinned thread would be told of its own core only.
pub fn cores() -> &'static [CoreId] {
    static CORES: OnceLock<Vec<CoreId>> = OnceLock::new();
    CORES.get_or_init(|| core_affinity::get_core_ids().unwrap_or_default())
}

/// Pins this thread to the `index`-th core, counted round.
pub fn pin(index: usize) {
    let cores = cores();
    if let Some(core) = cores.get(index % cores.len().max(1)) {
        core_affinity::set_for_current(*core);
    }
}

/// Nanoseconds of a round trip of one cache line between the first two cores: the fastest of some
/// rounds, since other work on the machine only adds.
#[must_use]
pub fn line_round_trip_ns() -> f64 {
    let line = AtomicUsize::new(0);
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            pin(1);
            barrier.wait();
            for trip in 0..PROBE_TRIPS * ROUNDS {
                while line.load(Ordering::Acquire) != 2 * trip + 1 {
                    spin_loop();
                }
                line.store(2 * trip + 2, Ordering::Release);
            }
        });
        pin(0);
        barrier.wait();
        let mut best = f64::INFINITY;
        for round in 0..ROUNDS {
            let start = Instant::now();
            for trip in round * PROBE_TRIPS..(round + 1) * PROBE_TRIPS {
                line.store(2 * trip + 1, Ordering::Release);
                while line.load(Ordering::Acquire) != 2 * trip + 2 {
                    spin_loop();
                }
            }
            best = best.min(start.elapsed().as_secs_f64() * 1e9 / PROBE_TRIPS as f64);
        }
        best
    })
}

/// Rounds of one probe.
const ROUNDS: usize = 5;

/// Runs `sample` between two probes; nothing if the cores moved meanwhile.
pub fn in_regime<R>(sample: impl FnOnce() -> R) -> Option<(Regime, R)> {
    let regime = || if line_round_trip_ns() < NEAR_NS_MAX { Regime::Near } else { Regime::Far };
    let before = regime();
    let result = sample();
    (regime() == before).then_some((before, result))
}

/// Processor, cores and compiler, in a sentence.
#[must_use]
pub fn description() -> String {
    let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    format!(
        "{}, {} cores, {}.",
        model.map_or("unknown processor", |(_, name)| name.trim()),
        cores().len(),
        compiler(),
    )
}

/// The compiler, as it names itself.
#[must_use]
pub fn compiler() -> String {
    let rustc = Command::new("rustc").arg("--version").output();
    let rustc = rustc.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned());
    rustc.unwrap_or_else(|_| "unknown compiler".to_owned())
}

/// Lets this thread and those it starts go before all ordinary work of the machine, or ends that;
/// false if the system does not allow it. The bursts that follow have to be short.
pub fn go_first(first: bool) -> bool {
    let policy = if first { ["--fifo", "--pid", "10"] } else { ["--other", "--pid", "0"] };
    let status = Command::new("chrt").args(policy).arg(process::id().to_string()).status();
    status.is_ok_and(|status| status.success())
}
