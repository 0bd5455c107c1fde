//! The races of Redis's diskstore and of the tiers that came after it, one by one.
//!
//! Each test holds a job at the moment that matters and lets something happen to its key.

use flintlock_diskcache::cache::home::Known;
use flintlock_diskcache::cache::job::JobKind;
use flintlock_diskcache::cache::stats::Reason;
use flintlock_diskcache::cache::{Durability, KeyCount, Options};

use crate::sim::store::Faults;
use crate::sim::{Action, Command, DBS, World};

fn world() -> World {
    world_with(Options::default())
}

fn world_with(options: Options) -> World {
    World::new(Options { databases: DBS, ..options }, 1, 80)
}

fn v(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

/// A world whose key 20 is on disk only, with `old` in it.
fn cold() -> World {
    let mut w = world();
    w.done(Command::Set(0, 20, v("old")));
    w.done(Command::Set(0, 21, v("other")));
    w.evict_all();
    assert_eq!(w.known(0, 20), Known::Unknown);
    w
}

/// A world in which a client waits for key 20, whose record has been read and not come back.
fn loading() -> World {
    let mut w = cold();
    w.begin(1, Command::Get(0, 20));
    assert!(w.waits(1));
    w.run_all();
    w
}

#[test]
fn a_key_deleted_while_it_loads_stays_deleted() {
    // Redis's diskstore inserts the loaded value, saves it, and loses the delete for good.
    let mut w = loading();
    w.begin(2, Command::Del(0, 20));
    w.deliver_all();
    w.verify();
    assert_eq!((w.known(0, 20), w.in_engine(0, 20)), (Known::Absent, None));
}

#[test]
fn a_key_written_while_it_loads_keeps_the_new_value() {
    let mut w = loading();
    w.begin(2, Command::Set(0, 20, v("new")));
    w.deliver_all();
    assert!(!w.waits(1), "the reader is woken, with the new value");
    assert_eq!(w.cache.stats().loads_discarded, 1);
    w.verify();
    assert_eq!(w.in_engine(0, 20), Some(v("new")));
}

#[test]
fn a_key_written_and_saved_while_it_loads_cannot_be_evicted_before_the_load_returns() {
    // Evicted in between, the old value would be taken for the current one.
    let mut w = World::new(Options { databases: DBS, ..Options::default() }, 1, 80);
    w.done(Command::Set(0, 20, v("old")));
    w.evict_all();
    w.begin(1, Command::Get(0, 20));
    w.run_all();
    w.act(Action::Leave(1));
    w.begin(2, Command::Set(0, 20, v("new")));
    w.act(Action::Drain);
    for _ in 0..10 {
        w.until_rest_but_loads();
    }
    assert_eq!(w.in_engine(0, 20), Some(v("new")), "saved");
    w.squeeze();
    assert_eq!(w.known(0, 20), Known::Value, "the load in flight pins it");
    w.deliver_all();
    w.squeeze();
    assert_eq!(w.known(0, 20), Known::Unknown, "and nothing else does");
    w.begin(3, Command::Get(0, 20));
    w.verify();
}

#[test]
fn a_flush_while_a_key_loads_is_not_undone() {
    for flush in [Command::Flush(0), Command::Swap(0, 1)] {
        let mut w = loading();
        w.begin(2, flush.clone());
        w.deliver_all();
        assert!(!w.waits(1), "{flush:?}: the reader is woken");
        w.done(Command::Get(0, 20));
        w.done(Command::Get(1, 20));
        w.verify();
    }
}

#[test]
fn a_flush_while_a_key_is_saved_is_not_undone() {
    // The save that finishes after the flush recreates the key.
    let mut w = world();
    w.begin(0, Command::Set(0, 20, v("doomed")));
    w.act(Action::Drain);
    w.until_commit();
    w.begin(1, Command::Flush(0));
    w.begin(1, Command::Set(0, 21, v("after")));
    w.run_all();
    w.deliver_all();
    w.done(Command::Get(0, 20));
    w.verify();
    assert_eq!((w.store.len(), w.in_engine(0, 20)), (1, None));
}

#[test]
fn whatever_happens_to_a_key_while_it_is_saved_is_saved_after_it() {
    for change in [
        Command::Set(0, 20, v("changed")),
        Command::Append(0, 20, v("+")),
        Command::SetExpiring(0, 20, v("soon gone"), 5),
        Command::Del(0, 20),
        Command::Rename(0, 20, 22),
        Command::Rename(0, 22, 20),
        Command::Move(0, 1, 20),
        Command::Flush(0),
        Command::Swap(0, 2),
    ] {
        // While SAVE is set, while SAVING is, and with the outcome known but not told.
        for stage in 0..3 {
            let mut w = world();
            w.done(Command::Set(0, 22, v("neighbour")));
            w.begin(0, Command::Set(0, 20, v("first")));
            w.act(Action::Drain);
            if stage > 0 {
                w.until_commit();
            }
            if stage > 1 {
                w.run_all();
            }
            w.begin(1, change.clone());
            assert!(!w.waits(1), "{change:?}: a key that is being saved is not waited for");
            w.verify();
        }
    }
}

#[test]
fn deletes_are_remembered_until_they_are_durable_and_may_be_forgotten_after() {
    let mut w = cold();
    w.done(Command::Get(0, 20));
    w.begin(0, Command::Del(0, 20));
    w.evict_all();
    assert_eq!(w.known(0, 20), Known::Absent, "the delete is not durable: the entry stays");
    w.act(Action::Drain);
    w.until_commit();
    w.evict_all();
    assert_eq!(w.known(0, 20), Known::Absent, "nor while it is being written");
    w.settle();
    w.evict_all();
    assert_eq!((w.known(0, 20), w.in_engine(0, 20)), (Known::Unknown, None));
    w.verify();
}

#[test]
fn an_evicted_key_is_always_readable() {
    // Redis's diskstore leaves a negative entry when it evicts.
    let mut w = cold();
    for _ in 0..5 {
        w.done(Command::Get(0, 20));
        assert_eq!(w.known(0, 20), Known::Value);
        w.evict_all();
        assert_eq!(w.known(0, 20), Known::Unknown);
    }
    w.verify();
}

#[test]
fn an_absent_key_is_read_once() {
    let mut w = cold();
    let reads = w.store.reads();
    for _ in 0..50 {
        w.done(Command::Get(0, 30));
    }
    assert_eq!(w.store.reads() - reads, 1);
    // Nothing at all is read of a database that has nothing on disk.
    for k in 0..40 {
        w.done(Command::Get(2, k));
    }
    assert_eq!(w.store.reads() - reads, 1);
}

#[test]
fn sixty_four_clients_on_one_cold_key_make_one_read() {
    let mut w = cold();
    let reads = w.store.reads();
    for client in 0..64 {
        w.begin(client, Command::Get(0, 20));
        assert!(w.waits(client));
        if client == 30 {
            w.run_all();
        }
    }
    let replies = w.replies;
    w.deliver_all();
    assert_eq!((w.store.reads() - reads, w.replies - replies), (1, 64));
    assert_eq!(w.cache.stats().loads_joined, 63);
}

#[test]
fn a_key_asked_for_ahead_of_need_is_read_once_and_waits_for_nobody() {
    let mut w = cold();
    let reads = w.store.reads();
    w.act(Action::Preload(0, 20));
    w.act(Action::Preload(0, 20));
    w.act(Action::Preload(0, 21));
    w.act(Action::Turn);
    w.run_all();
    w.begin(1, Command::Get(0, 20));
    assert!(w.waits(1), "it has not come yet, and is not read again");
    w.deliver_all();
    assert!(!w.waits(1));
    assert_eq!((w.known(0, 20), w.known(0, 21)), (Known::Value, Known::Value));
    assert_eq!((w.store.reads() - reads, w.cache.stats().loads_ahead), (2, 2));
    w.verify();
}

#[test]
fn a_key_asked_for_ahead_of_need_is_given_up_when_there_is_no_room() {
    // No byte may be in flight, so only the client first in line has its key read.
    let mut w = cold();
    w.cache.set_options(Options { load_bytes_max: 0, ..w.cache.options().clone() });
    w.begin(1, Command::Get(0, 20));
    w.act(Action::Preload(0, 21));
    w.act(Action::Turn);
    assert_eq!((w.queued(JobKind::Load), w.cache.stats().loads_dropped), (1, 1));
    w.run_all();
    w.deliver_all();
    assert!(!w.waits(1));
    w.verify();
}

#[test]
fn the_keys_of_one_command_are_read_in_one_job() {
    let mut w = world_with(Options { load_workers: 1, ..Options::default() });
    w.done(Command::MGet(0, Vec::new()));
    for k in 10..30 {
        w.done(Command::Set(0, k, v("x")));
    }
    w.evict_all();
    w.begin(1, Command::MGet(0, (10..30).collect()));
    assert_eq!(w.queued(JobKind::Load), 1);
    w.run_all();
    w.deliver_all();
    assert!(!w.waits(1));
}

#[test]
fn an_error_is_not_a_miss() {
    // KeyDB answers nil.
    let mut w = cold();
    w.store.set_faults(Faults { read: 1000, ..Faults::default() });
    w.begin(1, Command::Get(0, 20));
    w.run_all();
    w.deliver_all();
    assert_eq!((w.errors, w.known(0, 20)), (1, Known::Unknown), "an error, and no entry");
    assert!(!w.waits(1));
    w.store.set_faults(Faults::default());
    w.done(Command::Get(0, 20));
    w.verify();
}

#[test]
fn a_failed_save_keeps_the_value_and_is_tried_again() {
    for unclear in [0, 1000] {
        let mut w = world();
        w.store.set_faults(Faults { commit: 1000, unclear, read: 0 });
        w.begin(0, Command::Set(0, 20, v("kept")));
        w.begin(0, Command::Transfer(0, 24, 25));
        w.act(Action::Drain);
        for _ in 0..200 {
            w.act(Action::Wait(50));
            w.act(Action::Turn);
            w.run_all();
            w.deliver_all();
        }
        // With an unclear outcome, the engine is asked; half of the time it had the batch.
        assert!(w.cache.stats().batch_failures > 0 || unclear > 0);
        assert!(w.cache.stats().batches < 3, "10 ms to 5 s between attempts");
        w.evict_all();
        assert_eq!(w.known(0, 20), if unclear > 0 { w.known(0, 20) } else { Known::Value });
        w.verify();
        assert_eq!(w.in_engine(0, 20), Some(v("kept")));
    }
}

#[test]
fn a_full_disk_refuses_writes_and_gives_them_back_without_a_restart() {
    // Kvrocks needs a restart.
    let mut w = world_with(Options { durability: Durability::Always, ..Options::default() });
    w.done(Command::Set(0, 20, v("before")));
    w.act(Action::Capacity(Some(0)));
    w.begin(0, Command::Set(0, 21, v("logged, not yet durable")));
    w.run_all();
    w.deliver_all();
    assert!(w.cache.refusing().is_some());
    let errors = w.errors;
    w.begin(0, Command::Set(0, 22, v("refused")));
    w.begin(0, Command::Get(0, 20));
    assert_eq!(w.errors - errors, 1, "writes are refused, reads are not");
    w.act(Action::Capacity(None));
    w.act(Action::Wait(5000));
    w.act(Action::Turn);
    w.run_all();
    w.deliver_all();
    assert_eq!(w.cache.refusing(), None, "5 s after there is room");
    w.done(Command::Set(0, 22, v("taken")));
    w.verify();
}

#[test]
fn hot_keys_are_written_once_a_delay() {
    // 1000 overwrites in 100 ms at most one write each key.
    let mut w = world_with(Options { flush_delay_ms: 100, ..Options::default() });
    let writes = w.store.writes();
    for round in 0..1000_u32 {
        for k in 10..20 {
            w.act(Action::Send(0, Command::Set(0, k, round.to_be_bytes().to_vec())));
        }
        w.act(Action::Wait(1));
        w.act(Action::Turn);
        w.run_all();
        w.deliver_all();
    }
    let written = w.store.writes() - writes;
    assert!(written <= 10 * 10, "{written} writes of 10 keys in 10 delays");
    assert!(written >= 10 * 7, "{written}: and not much later than the delay");
    w.verify();
}

/// Writes, and whatever the cache makes of it, without a moment passing.
fn write_at_once(w: &mut World, key: u8, value: Vec<u8>) {
    w.act(Action::Send(0, Command::Set(0, key, value)));
    for _ in 0..100 {
        w.turn_while_more();
        w.run_all();
        w.deliver_all();
        if !w.waits(0) && w.cache.is_idle() {
            return;
        }
    }
    panic!("a write waits for ever");
}

#[test]
fn dirty_keys_above_their_share_are_saved_a_batch_at_a_time() {
    // What is left may change some more before it is written.
    let mut w = world();
    let limit_bytes = 4 << 20;
    w.cache.set_options(Options { limit_bytes, ..w.cache.options().clone() });
    let mut most = 0;
    for k in 0..35 {
        write_at_once(&mut w, k, vec![k; 40_000]);
        most = most.max(w.cache.gauges().dirty_bytes);
    }
    let (share, batch) = (limit_bytes * 3 / 10, limit_bytes / 10);
    assert!(most <= share + 50_000, "{most}: batches begin when they should");
    let left = w.cache.gauges().dirty_bytes;
    assert!(left >= share - batch - 50_000, "{left}: more was saved than had to be");
    assert!(w.cache.stats().saves > 0);
    assert_eq!(w.cache.stats().begun[Reason::Pressure as usize], 0);
    w.verify();
}

#[test]
fn saves_are_not_starved_by_loads() {
    // The oldest save starts within twice the delay, whatever is read.
    let mut w = world_with(Options { flush_delay_ms: 200, loads_max: 2, ..Options::default() });
    for k in 0..40 {
        w.done(Command::Set(0, k, v("x")));
    }
    for round in 0..2000_u64 {
        let oldest = w.cache.gauges().oldest_dirty_ms;
        assert!(oldest <= 400, "the oldest dirty key waits for {oldest} ms");
        if round % 3 == 0 {
            w.evict_all();
        }
        for client in 0..20 {
            w.act(Action::Send(client, Command::Get(0, (client * 2) as u8)));
        }
        w.act(Action::Send(30, Command::Set(1, (round % 40) as u8, v("y"))));
        w.act(Action::Wait(3));
        w.act(Action::Turn);
        w.run_all();
        w.deliver_all();
    }
    assert!(w.cache.stats().batches > 10);
    w.verify();
}

#[test]
fn a_writer_that_keys_must_be_forgotten_for_waits_for_turns_and_for_nothing_else() {
    // Once it slept until the next timer of the journal, with all of memory clean.
    let mut w = world_with(Options { evictions_max: 2, ..Options::default() });
    for k in 0..40 {
        w.done(Command::Set(0, k, vec![b'x'; 300]));
    }
    let used = w.cache.ledger().used();
    let limit_bytes = (used - 3_000) * 20 / 17;
    w.cache.set_options(Options { limit_bytes, ..w.cache.options().clone() });
    w.act(Action::Send(1, Command::Set(1, 0, v("y"))));
    assert!(w.waits(1), "2 keys are not room enough");
    w.turn_while_more();
    assert!(!w.waits(1));
    assert_eq!(w.known(1, 0), Known::Value);
    w.verify();
}

#[test]
fn what_was_logged_is_durable_within_the_interval() {
    // At most n ms and one sync are at risk.
    let mut w = world_with(Options { durability: Durability::EveryMs(50), ..Options::default() });
    let mut logged: std::collections::VecDeque<(u64, u64)> = std::collections::VecDeque::new();
    for now in 0..3000_u64 {
        if now % 7 < 3 {
            w.act(Action::Send(0, Command::Set(0, (now % 40) as u8, v("z"))));
            logged.push_back((w.cache.last_seq().0, now));
        }
        w.act(Action::Wait(1));
        w.act(Action::Turn);
        w.run_all();
        w.deliver_all();
        while logged.front().is_some_and(|(seq, _)| *seq <= w.cache.durable().0) {
            logged.pop_front();
        }
        let oldest = logged.front().map_or(0, |(_, at)| now - at);
        assert!(oldest <= 51, "{oldest} ms at risk");
    }
    // Every sync covers all that was logged in the interval.
    assert!(w.cache.stats().syncs <= 3000 / 50 + 2, "{}", w.cache.stats().syncs);
}

#[test]
fn waiting_clients_may_leave_in_every_stage() {
    let mut w = cold();
    w.begin(1, Command::Get(0, 20));
    w.act(Action::Leave(1));
    w.begin(2, Command::Get(0, 20));
    w.begin(3, Command::Get(0, 20));
    w.run_all();
    w.act(Action::Leave(2));
    w.act(Action::Cancel(3));
    assert!(!w.waits(3), "a cancelled wait completes");
    assert_eq!(w.errors, 1);
    w.deliver_all();
    assert_eq!(w.known(0, 20), Known::Value, "the load goes on and its result is kept");
    assert_eq!(w.cache.gauges().waiting, 0);
    w.verify();
    w.squeeze();
    assert_eq!(w.known(0, 20), Known::Unknown, "nobody's pin is left");
}

#[test]
fn an_expired_record_is_absent_and_deleted_in_order() {
    let mut w = world();
    w.done(Command::SetExpiring(0, 20, v("short"), 1_000_000));
    w.evict_all();
    w.act(Action::Wait(2_000_000));
    w.begin(1, Command::Get(0, 20));
    w.run_all();
    w.begin(2, Command::Set(0, 20, v("long")));
    w.deliver_all();
    w.verify();
    assert_eq!(w.in_engine(0, 20), Some(v("long")), "the record's end is not the key's");
    w.done(Command::SetExpiring(0, 21, v("short"), 1000));
    w.evict_all();
    w.act(Action::Wait(2000));
    w.done(Command::Get(0, 21));
    w.verify();
    assert_eq!((w.known(0, 21), w.in_engine(0, 21)), (Known::Absent, None));
    assert_eq!(w.cache.stats().loads_expired, 1);
}

#[test]
fn counts_are_exact_once_blind_writes_are_committed() {
    // No key is ever counted by reading it.
    let mut w = cold();
    assert_eq!(w.cache.key_count(0), KeyCount::Exact(2));
    let reads = w.store.reads();
    for k in 20..30 {
        w.begin(0, Command::Set(0, k, v("blind")));
    }
    // Two of the ten were there already, which nobody knows yet.
    assert_eq!(w.cache.key_count(0), KeyCount::AtMost { count: 12, unknown: 10 });
    w.act(Action::Drain);
    w.settle();
    assert_eq!(w.cache.key_count(0), KeyCount::Exact(10));
    assert_eq!(w.store.reads(), reads);
    assert_eq!(w.cache.key_count(9), KeyCount::Exact(0), "no such database");
}
