//! Two batches at once: one is built while the one before is committed.

use flintlock_diskcache::cache::Options;
use flintlock_diskcache::cache::job::JobKind;

use crate::sim::store::Faults;
use crate::sim::{Action, Command, DBS, World};

/// A world of batches of four keys in which the first, of keys 10 to 13, waits to be committed,
/// and keys up to `last` wait for the next.
fn committing(last: u8) -> World {
    let options = Options { databases: DBS, batch_keys_max: 4, ..Options::default() };
    let mut w = World::new(options, 1, 80);
    for k in 10..=last {
        w.act(Action::Send(0, Command::Set(0, k, vec![k])));
    }
    w.act(Action::Drain);
    w.until_commit();
    w
}

/// Lets the journal have what it wants, and nothing else happen.
fn sync(w: &mut World) {
    for _ in 0..10 {
        w.turn_while_more();
        w.run_kind(JobKind::Journal);
        w.deliver_all();
    }
    w.turn_while_more();
}

fn in_flight(w: &World) -> u64 {
    w.cache.gauges().saves_in_flight
}

#[test]
fn a_batch_is_built_while_the_one_before_is_committed_and_sent_after_it() {
    let mut w = committing(21);
    sync(&mut w);
    assert_eq!((in_flight(&w), w.cache.gauges().saves_queued), (8, 4), "two batches, no third");
    assert_eq!(w.queued(JobKind::Commit), 1, "the engine has one caller");
    w.run_all();
    w.deliver_all();
    w.turn_while_more();
    assert_eq!(w.queued(JobKind::Commit), 1, "it waited for nothing but that");
    assert_eq!(w.cache.stats().saves, 4);
    w.verify();
    assert_eq!(w.in_engine(0, 21), Some(vec![21]));
}

#[test]
fn a_key_of_the_batch_before_holds_the_next_one_up() {
    let mut w = committing(13);
    for (k, value) in [(14, 1), (10, 2), (15, 3)] {
        w.act(Action::Send(0, Command::Set(0, k, vec![value])));
    }
    w.act(Action::Drain);
    sync(&mut w);
    assert_eq!(in_flight(&w), 4 + 1, "what came before that key, and not what came after");
    w.run_all();
    w.deliver_all();
    sync(&mut w);
    assert_eq!((in_flight(&w), w.cache.gauges().saves_queued), (3, 0), "then it goes on");
    assert_eq!(w.in_engine(0, 10), Some(vec![10]));
    w.verify();
    assert_eq!(w.in_engine(0, 10), Some(vec![2]));
}

#[test]
fn a_batch_built_behind_one_that_fails_goes_back_with_it() {
    for unclear in [0, 1000] {
        let mut w = committing(21);
        sync(&mut w);
        w.store.set_faults(Faults { commit: 1000, unclear, read: 0 });
        w.run_all();
        w.store.set_faults(Faults::default());
        while w.queued(JobKind::Commit) + w.finished(JobKind::Commit) > 0 {
            w.run_all();
            w.deliver_all();
        }
        w.turn_while_more();
        assert_eq!((in_flight(&w), w.cache.gauges().saves_queued), (0, 12));
        // In the old order: otherwise the watermark passes keys that nobody has saved.
        w.act(Action::Wait(20));
        w.until_commit();
        w.run_all();
        w.deliver_all();
        w.turn_while_more();
        for k in 10..14 {
            assert_eq!(w.in_engine(0, k), Some(vec![k]));
        }
        assert_eq!(w.cache.watermark().0, 1 + 4, "the map of the databases, and these");
        w.verify();
    }
}

#[test]
fn a_flush_between_two_batches_is_undone_by_neither() {
    let mut w = committing(17);
    sync(&mut w);
    assert_eq!(in_flight(&w), 8);
    w.act(Action::Send(0, Command::Flush(0)));
    w.act(Action::Send(0, Command::Set(0, 10, vec![1])));
    w.run_all();
    w.deliver_all();
    w.done(Command::Get(0, 17));
    w.verify();
    assert_eq!((w.store.len(), w.in_engine(0, 10)), (1, Some(vec![1])));
}

#[test]
fn a_journal_that_is_too_long_begins_no_batch_behind_another() {
    // How much that one frees is not known yet.
    let options = Options { databases: DBS, journal_bytes_max: 3000, ..Options::default() };
    let mut w = World::new(options, 1, 80);
    for k in 10..14 {
        w.begin(0, Command::Set(0, k, vec![k; 1000]));
    }
    w.until_commit();
    w.act(Action::Send(0, Command::Set(0, 20, vec![0; 4000])));
    sync(&mut w);
    assert_eq!((in_flight(&w), w.cache.gauges().saves_queued), (4, 1));
    w.run_all();
    w.deliver_all();
    sync(&mut w);
    assert_eq!(in_flight(&w), 1, "now it is");
    w.verify();
}

#[test]
fn two_batches_at_once_stay_within_the_limit() {
    // Both begin when nothing clean is left.
    let (limit_bytes, dirty_permille_max) = (4 << 20, 1000);
    let options = Options { databases: DBS, limit_bytes, dirty_permille_max, ..Options::default() };
    let mut w = World::new(options, 1, 80);
    for (db, k) in (0..3).flat_map(|db| (8..40).map(move |k| (db, k))) {
        w.act(Action::Send(0, Command::Set(db, k, vec![k; 60_000])));
        sync(&mut w);
    }
    assert!(w.waits(0), "all is dirty or being saved, and the first commit has not ended");
    assert!(in_flight(&w) * 60_000 > limit_bytes * 15 / 100, "{}: two batches", in_flight(&w));
    let peak = w.cache.ledger().peak();
    assert!(peak <= limit_bytes + 64 * 1024, "{peak}: what a turn may add above the limit");
    w.verify();
}

#[test]
fn the_map_of_a_batch_that_fails_goes_with_another() {
    let mut w = committing(10);
    w.run_all();
    w.deliver_all();
    w.settle();
    w.store.set_faults(Faults { commit: 1000, unclear: 0, read: 0 });
    w.act(Action::Send(0, Command::Swap(0, 1)));
    w.act(Action::Drain);
    w.until_commit();
    w.run_all();
    w.store.set_faults(Faults::default());
    w.deliver_all();
    w.turn_while_more();
    let batches = w.cache.stats().batches;
    w.act(Action::Wait(20_000));
    w.until_commit();
    w.run_all();
    w.deliver_all();
    assert_eq!(w.cache.stats().batches, batches + 1, "though no key is to be saved");
    w.verify();
}

#[test]
fn a_drain_ends_though_what_it_waited_for_needed_no_write_and_younger_keys_are_queued() {
    let mut w = committing(10);
    w.act(Action::Send(0, Command::Set(0, 30, vec![1])));
    w.act(Action::Send(0, Command::Del(0, 30)));
    w.act(Action::Drain);
    w.act(Action::Send(0, Command::Set(0, 31, vec![2])));
    for _ in 0..10 {
        w.turn_while_more();
        w.run_all();
        w.deliver_all();
    }
    assert!(w.cache.watermark().0 >= 4, "{:?}: up to the delete", w.cache.watermark());
    assert_eq!(w.cache.gauges().saves_queued, 1, "the younger key has its own time");
    w.verify();
}

#[test]
fn the_smallest_limit_saves_what_is_dirty() {
    for limit_bytes in [1, 9, 10] {
        let mut w = committing(10);
        w.act(Action::Send(0, Command::Set(0, 20, vec![1])));
        w.cache.set_options(Options { limit_bytes, ..w.cache.options().clone() });
        for _ in 0..200 {
            w.act(Action::Turn);
            w.run_all();
            w.deliver_all();
        }
        assert_eq!(w.in_engine(0, 20), Some(vec![1]), "under a limit of {limit_bytes}");
        w.verify();
    }
}

#[test]
fn an_engine_that_cannot_say_what_it_holds_is_asked_at_growing_intervals() {
    let mut w = committing(17);
    sync(&mut w);
    w.store.set_faults(Faults { commit: 1000, unclear: 1000, read: 1000 });
    for _ in 0..2000 {
        w.act(Action::Wait(5));
        w.turn_while_more();
        w.run_all();
        w.deliver_all();
    }
    let failures = w.cache.stats().batch_failures;
    assert!((8..15).contains(&failures), "{failures} in 10 s: 10 ms, doubling to 5 s");
    assert_eq!(in_flight(&w), 8, "nothing is known of either batch");
    w.store.set_faults(Faults::default());
    w.verify();
    for k in 10..=17 {
        assert_eq!(w.in_engine(0, k), Some(vec![k]));
    }
}
