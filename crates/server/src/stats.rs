//! Counters that INFO shows. Main thread; plain numbers, since nobody else writes them.

use std::collections::BTreeMap;
use std::time::Duration;

/// Counters of the disk cache that INFO shows among those of Redis.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct StoreCounts {
    /// Keys forgotten.
    pub evictions: u64,
    /// Reads that found a record, and that found none.
    pub loads_found: u64,
    pub loads_absent: u64,
    /// Records whose time was over.
    pub loads_expired: u64,
}

/// See the module doc.
#[derive(Debug, Default)]
pub(crate) struct Stats {
    /// What the disk cache, which counts on, had counted at the last CONFIG RESETSTAT.
    pub store_before: StoreCounts,
    /// Connections ever accepted.
    pub connections: u64,
    /// Connections refused: by `maxclients`, or by `protected-mode`.
    pub rejected_connections: u64,
    /// Requests run, refused ones not counted.
    pub commands: u64,
    /// Those of them that were forgotten.
    commands_forgotten: u64,
    /// Changes of keys since the start.
    pub changes: u64,
    /// Changes up to the last SAVE or BGSAVE.
    pub changes_saved: u64,
    /// Reads of keys that were there.
    pub keyspace_hits: u64,
    /// Reads of keys that were not.
    pub keyspace_misses: u64,
    /// Keys deleted because their time was over.
    pub expired_keys: u64,
    /// Keys forgotten or deleted to make room.
    pub evicted_keys: u64,
    /// Clients closed because all together took more than `maxmemory-clients`.
    pub evicted_clients: u64,
    /// Bytes received.
    pub net_input_bytes: u64,
    /// Bytes sent.
    pub net_output_bytes: u64,
    /// Error replies sent.
    pub error_replies: u64,
    /// Error replies by their first word; at most `ERRORS_MAX` of them.
    pub errors: BTreeMap<Box<str>, u64>,
    /// By command id.
    pub per_command: Vec<PerCommand>,
    /// Turns of the event loop.
    pub cycles: u64,
    /// Naps before a look for readiness.
    pub naps: u64,
    /// Reads and writes done on the main thread, and on workers.
    pub reads: u64,
    pub writes: u64,
    pub offloaded_reads: u64,
    pub offloaded_writes: u64,
    pub offloaded_polls: u64,
    pub offloaded_closes: u64,
    pub offloaded_accepts: u64,
    /// Highest memory use seen, in bytes.
    pub peak_memory: usize,
    /// Rates over the last samples.
    pub rates: Rates,
}

/// Different first words that are counted apart; scripts could invent any number.
const ERRORS_MAX: usize = 128;

/// Counters of one command.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct PerCommand {
    /// Runs.
    pub calls: u64,
    /// Refused before running.
    pub rejected: u64,
    /// Runs that ended in an error.
    pub failed: u64,
    /// Time of the runs that were timed, in nanoseconds, and how many those were.
    timed_ns: u64,
    timed: u64,
}

impl PerCommand {
    /// Notes how long a run took.
    pub(crate) fn timed(&mut self, took: Duration) {
        self.timed_ns += u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.timed += 1;
    }

    /// Microseconds of a run, by those that were timed.
    pub(crate) fn us_per_call(&self) -> f64 {
        self.timed_ns as f64 / 1000.0 / self.timed.max(1) as f64
    }
}

/// Requests and bytes per second over the last second or so.
#[derive(Copy, Clone, Debug, Default)]
pub(crate) struct Rates {
    at_ms: u64,
    commands: u64,
    input: u64,
    output: u64,
    /// Requests per second.
    pub ops_per_sec: u64,
    /// KiB per second received.
    pub input_kbps: f64,
    /// KiB per second sent.
    pub output_kbps: f64,
}

impl Stats {
    /// Counters for a table of `commands` rows.
    pub(crate) fn new(commands: usize) -> Self {
        Self { per_command: vec![PerCommand::default(); commands], ..Self::default() }
    }

    /// Counts an error reply.
    pub(crate) fn error(&mut self, prefix: &[u8]) {
        self.error_replies += 1;
        let prefix = String::from_utf8_lossy(prefix);
        if let Some(count) = self.errors.get_mut(prefix.as_ref()) {
            *count += 1;
        } else if self.errors.len() < ERRORS_MAX {
            self.errors.insert(prefix.into(), 1);
        }
    }

    /// Takes a sample for the rates; at most a few times a second.
    pub(crate) fn sample(&mut self, now_ms: u64) {
        let rates = &mut self.rates;
        let elapsed = now_ms.saturating_sub(rates.at_ms);
        if elapsed == 0 {
            return;
        }
        let per_second = |now: u64, before: u64| (now - before) as f64 * 1000.0 / elapsed as f64;
        rates.ops_per_sec = per_second(self.commands, rates.commands) as u64;
        rates.input_kbps = per_second(self.net_input_bytes, rates.input) / 1024.0;
        rates.output_kbps = per_second(self.net_output_bytes, rates.output) / 1024.0;
        rates.at_ms = now_ms;
        rates.commands = self.commands;
        rates.input = self.net_input_bytes;
        rates.output = self.net_output_bytes;
    }

    /// Requests run since the start, whatever was forgotten since: for those who compare rates.
    pub(crate) fn commands_ever(&self) -> u64 {
        self.commands_forgotten + self.commands
    }

    /// CONFIG RESETSTAT: forgets what was counted; changes since the last save stay.
    /// `store_before` is what the disk cache has counted.
    pub(crate) fn reset(&mut self, store_before: StoreCounts) {
        let (changes, changes_saved) = (self.changes, self.changes_saved);
        let commands_forgotten = self.commands_ever();
        let anew = Self::new(self.per_command.len());
        *self = Self { changes, changes_saved, commands_forgotten, store_before, ..anew };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_bounded_in_kind() {
        let mut stats = Stats::new(0);
        for i in 0..1000 {
            stats.error(format!("E{i}").as_bytes());
        }
        stats.error(b"E0");
        assert_eq!(
            (stats.errors.len(), stats.error_replies, stats.errors["E0"]),
            (ERRORS_MAX, 1001, 2)
        );
    }

    #[test]
    fn a_reset_forgets_what_is_shown_and_not_what_is_compared() {
        let mut stats = Stats::new(0);
        for run in 1..=3 {
            stats.commands = 50;
            assert_eq!(stats.commands_ever(), 50 * run);
            stats.reset(StoreCounts::default());
            assert_eq!((stats.commands, stats.commands_ever()), (0, 50 * run));
        }
    }

    #[test]
    fn rates_are_per_second() {
        let mut stats = Stats::new(0);
        stats.sample(1000);
        stats.commands = 50;
        stats.net_input_bytes = 1024;
        stats.sample(1100);
        assert_eq!(stats.rates.ops_per_sec, 500);
        assert!((stats.rates.input_kbps - 10.0).abs() < 1e-9);
        stats.sample(1100);
        assert_eq!(stats.rates.ops_per_sec, 500);
    }
}
