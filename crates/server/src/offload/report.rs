//! What operators see of the network workers: the section of INFO and the log of decisions.
//!
//! Main thread. Reads counters; wakes no worker, activates nothing (reading INFO once woke the
//! threads of Valkey, issue 3509).

use std::fmt::{self, Write};
use std::time::Duration;

use flintlock_iothreads::{Change, Histogram, Lane};

use super::Offload;

/// One decision, as `FLINT.IOTHREADS LOG` lists it.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Logged<'a> {
    /// When, in Unix milliseconds.
    pub unix_ms: u64,
    /// The decision and what was known.
    pub change: &'a Change,
}

impl Offload {
    /// Threads configured, workers active, and so on: one `name:value` a line.
    pub(crate) fn write_info(&self, out: &mut String) {
        // Writing to a string cannot fail.
        let _ = self.write_to(out);
    }

    /// Workers that take jobs.
    pub(crate) fn active(&self) -> usize {
        self.pool.active()
    }

    /// The last 128 decisions that changed something, newest first.
    pub(crate) fn decisions(&self) -> impl ExactSizeIterator<Item = Logged<'_>> {
        self.pool.decisions().rev().map(|change| {
            let at = self.epoch.saturating_add(change.at);
            Logged { unix_ms: u64::try_from(at.as_millis()).unwrap_or(u64::MAX), change }
        })
    }

    fn write_to(&self, out: &mut String) -> fmt::Result {
        let stats = self.pool.stats();
        let mut field = |name: &str, value: &dyn fmt::Display| write!(out, "{name}:{value}\r\n");
        field("io_threads_configured", &self.threads)?;
        field("io_threads_max", &(stats.workers_max + 1))?;
        field("io_threads_usable_cpus", &self.pool.usable_cpus().count())?;
        field("io_threads_reserved_cpus", &self.reserved_cpus)?;
        field("io_threads_running", &(stats.threads + 1))?;
        field("io_threads_active_workers", &stats.active)?;
        field("io_threads_last_reason", &self.pool.reason())?;
        field("io_threads_changes", &stats.changes)?;
        let submitted = |lane: Lane| stats.submitted[lane as usize];
        field("io_threads_jobs_submitted", &submitted(Lane::Shared))?;
        field("io_threads_jobs_submitted_high", &submitted(Lane::High))?;
        field("io_threads_jobs_submitted_private", &submitted(Lane::Private))?;
        field("io_threads_jobs_answered", &stats.answered)?;
        field("io_threads_jobs_in_flight", &stats.in_flight)?;
        field("io_threads_inline_inactive", &stats.refused.inactive)?;
        field("io_threads_inline_few_jobs", &stats.refused.few_jobs)?;
        field("io_threads_inline_full", &stats.refused.full)?;
        field("io_threads_inline_no_credit", &stats.refused.no_credit)?;
        field("io_threads_inline_ineligible", &stats.refused.ineligible)?;
        field("io_threads_inline_stalled", &stats.refused.stalled)?;
        field("io_threads_stalls", &stats.stalls)?;
        field("io_threads_jobs_stranded", &stats.stranded)?;
        field("io_threads_pending_free_bytes", &stats.pending_free_bytes)?;
        field("io_threads_queue_depth", &Shown(&stats.depth[Lane::Shared as usize]))?;
        field("io_threads_queue_depth_high", &Shown(&stats.depth[Lane::High as usize]))?;
        field("io_threads_start_latency_ns", &Shown(&stats.start_latency_ns))?;
        field("io_threads_answer_latency_ns", &Shown(&stats.answer_latency_ns))?;
        field("io_threads_main_wakes", &self.bell.wakes())?;
        field("io_threads_wakes", &stats.wakes)?;
        field("io_threads_spawn_failures", &stats.spawn_failures)?;
        field("io_threads_pin_failures", &stats.pin_failures)?;
        for worker in &stats.workers {
            let micros = |time: Duration| time.as_micros();
            let jobs = |lane: Lane| worker.jobs[lane as usize];
            write!(
                out,
                "io_thread_{}:active={},useful_usec={},spun_usec={},parked_usec={},jobs={},\
                 jobs_high={},jobs_private={},inbox_depth_p50={},inbox_depth_max={},parks={},\
                 wakes={},panics={}\r\n",
                worker.index + 1,
                u8::from(worker.active),
                micros(worker.times.useful),
                micros(worker.times.spun),
                micros(worker.times.parked),
                jobs(Lane::Shared),
                jobs(Lane::High),
                jobs(Lane::Private),
                worker.inbox_depth.permille(500),
                worker.inbox_depth.max(),
                worker.parks,
                worker.wakes,
                worker.panics,
            )?;
        }
        Ok(())
    }
}

/// A histogram in one line.
struct Shown<'a>(&'a Histogram);

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(histogram) = self;
        let (p50, p99) = (histogram.permille(500), histogram.permille(990));
        write!(f, "count={},p50={p50},p99={p99},max={}", histogram.count(), histogram.max())
    }
}
