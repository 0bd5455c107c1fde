//! What INFO says of the disk tier: its own section, and the fields of other sections that are
//! about it. Main thread; reads figures that the cache keeps anyway.

use flintlock_diskcache::cache::memory::Account;
use flintlock_diskcache::cache::stats::{Histogram, Metrics};
use flintlock_diskcache::cache::{Cache, Refusal};

use crate::server::Server;

use super::line;

/// Counters that only lookups through the cache would move.
const LOOKUPS: [&str; 3] = ["hits", "negative_hits", "misses"];

/// Writes each figure as a field `store_<name>`.
struct Fields<'a>(&'a mut String);

impl Metrics for Fields<'_> {
    fn counter(&mut self, name: &'static str, value: u64) {
        // The keyspace is asked without the cache; `keyspace_hits` says what came of it.
        if !LOOKUPS.contains(&name) {
            line(self.0, format_args!("store_{name}:{value}"));
        }
    }

    fn gauge(&mut self, name: &'static str, value: u64) {
        // Bytes by account belong to the memory section.
        if Account::ALL.iter().all(|(_, account)| *account != name) {
            line(self.0, format_args!("store_{name}:{value}"));
        }
    }

    fn times(&mut self, name: &'static str, histogram: &Histogram) {
        line(
            self.0,
            format_args!(
                "store_{name}_jobs:count={},p50={},p99={},p99.9={}",
                histogram.count(),
                histogram.quantile_us(500),
                histogram.quantile_us(990),
                histogram.quantile_us(999),
            ),
        );
    }
}

/// The section of the disk tier.
pub(super) fn store(s: &Server, out: &mut String) {
    line(out, format_args!("store:{}", s.config.store.name()));
    if let Some(tier) = &s.tier {
        tier.cache.report(&mut Fields(out));
    }
}

/// The tier's bytes by account, for the memory section.
pub(super) fn memory(cache: &Cache, out: &mut String) {
    for (account, name) in Account::ALL {
        line(out, format_args!("mem_{name}:{}", cache.ledger().get(account)));
    }
}

/// The journal in the words that Redis has for its append-only file.
pub(super) fn persistence(cache: &Cache, out: &mut String) {
    let gauges = cache.gauges();
    line(out, format_args!("aof_current_size:{}", gauges.journal_bytes));
    line(out, format_args!("aof_base_size:{}", gauges.engine_disk_bytes));
    line(out, format_args!("aof_buffer_length:{}", gauges.unwritten_bytes));
    line(out, format_args!("aof_pending_rewrite:0"));
    line(out, format_args!("aof_delayed_fsync:0"));
}

/// `ok`, or `err` while the journal, or anything that saves, fails; whether or not writes are
/// refused for it yet.
pub(super) fn status(s: &Server, journal_only: bool) -> &'static str {
    match s.tier.as_ref().and_then(|tier| tier.cache.trouble()) {
        Some(Refusal::Engine(_)) if journal_only => "ok",
        Some(_) => "err",
        None => "ok",
    }
}
