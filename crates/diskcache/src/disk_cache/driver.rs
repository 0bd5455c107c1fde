//! The thread behind a `DiskCache`: turns, jobs, completions, callbacks.
//!
//! One thread for each cache. It holds the lock for one turn at a time, which is bounded, and
//! never while it waits, submits jobs or runs callbacks.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Shared;
use crate::cache::job::Done;
use crate::cache::map::{Codec, CodecDecode};
use crate::exec::{Executor, PoolExecutor};

/// The longest sleep: the wall clock is looked at that often.
const SLEEP_MAX_MS: u64 = 1000;
/// The longest sleep while somebody waits: for memory, perhaps, which a turn may find.
const WAITED_FOR_MS: u64 = 10;
/// How long the journal may take to become durable at the end.
const END_MAX: Duration = Duration::from_secs(10);

/// Drives `shared` until its handle is gone, and syncs the journal then.
pub(super) fn drive<V: Codec>(shared: &Arc<Shared<V>>, mut executor: PoolExecutor<CodecDecode<V>>) {
    let mut done = Vec::new();
    let mut end = None;
    loop {
        executor.poll(&mut done);
        shared.turnstile.let_in();
        let Some(step) = step(shared, &mut done, &mut end) else { break };
        for job in step.jobs {
            executor.submit(job);
        }
        for due in step.due {
            due.run();
        }
        if let Some(limit) = step.sleep {
            executor.wait(limit);
        }
    }
    shared.storage.interrupt();
    let due = match shared.inner.lock() {
        Ok(mut inner) => {
            inner.close();
            inner.take_due()
        }
        Err(poisoned) => {
            let mut inner = poisoned.into_inner();
            inner.give_up();
            inner.take_due()
        }
    };
    for due in due {
        due.run();
    }
}

struct Step<V> {
    jobs: std::collections::VecDeque<crate::Job>,
    due: Vec<super::inner::Due<V>>,
    /// `None` when there is more to do.
    sleep: Option<Duration>,
}

/// One turn under the lock; `None` when it was the last.
fn step<V: Codec>(
    shared: &Shared<V>,
    done: &mut Vec<Done<V>>,
    end: &mut Option<Instant>,
) -> Option<Step<V>> {
    let mut guard = shared.inner.lock().ok()?;
    let inner = &mut *guard;
    for done in done.drain(..) {
        inner.job_done(done);
    }
    let now = inner.look_at_clock();
    if inner.is_ending {
        let end = *end.get_or_insert_with(|| Instant::now() + END_MAX);
        let is_over = inner.cache.is_ended() && inner.cache.backup_progress().is_none();
        if is_over || Instant::now() >= end {
            return None;
        }
        inner.cache.want_end();
    }
    let evicted = inner.cache.stats().evictions;
    let turn = inner.turn(now);
    let evicts = inner.cache.stats().evictions > evicted && inner.cache.is_above_limit();
    let is_waited_for = inner.cache.gauges().waiting > 0;
    let sleep_max_ms = if is_waited_for { WAITED_FOR_MS } else { SLEEP_MAX_MS };
    let until_ms = turn.wake_ms.unwrap_or(u64::MAX).min(now.mono_ms + sleep_max_ms);
    let sleeps = !turn.more && !evicts && until_ms > now.mono_ms;
    let sleep = sleeps.then(|| Duration::from_millis(until_ms - now.mono_ms));
    inner.sleeps_until_ms = if sleeps { until_ms } else { 0 };
    Some(Step { jobs: inner.take_jobs(), due: inner.take_due(), sleep })
}
