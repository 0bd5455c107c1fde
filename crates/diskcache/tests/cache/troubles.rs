//! Disks that fail for longer: who waits, who is told, and what is bounded meanwhile.

use flintlock_diskcache::cache::home::Known;
use flintlock_diskcache::cache::job::JobKind;
use flintlock_diskcache::cache::recover::RecoverError;
use flintlock_diskcache::cache::{Durability, JOURNAL_MULTIPLE_MAX, Now, Options, Refusal};
use flintlock_diskcache::journal::sim::{Kept, SimDir};
use flintlock_diskcache::journal::{Depth, EngineAt, Verdict, scan};
use flintlock_diskcache::key::KeyRef;
use flintlock_diskcache::storage::ErrorKind;

use crate::sim::store::Faults;
use crate::sim::{Action, Command, DBS, STORE, World, key_in, name_of, try_open};

fn world(options: Options) -> World {
    World::new(Options { databases: DBS, ..options }, 1, 80)
}

fn v(text: &str) -> Vec<u8> {
    text.as_bytes().to_vec()
}

const NO_COMMITS: Faults = Faults { commit: 1000, read: 0, unclear: 0 };

#[test]
fn the_journal_has_an_end_while_the_engine_takes_nothing() {
    // Memory holds one value, so it never fills; the journal holds each that there was.
    let journal_bytes_max = 10_000;
    let mut w = world(Options { journal_bytes_max, ..Options::default() });
    w.done(Command::Set(0, 20, vec![0; 100]));
    w.store.set_faults(NO_COMMITS);
    for _ in 0..5_000 {
        w.act(Action::Send(0, Command::Set(0, 20, vec![1; 100])));
        w.after(10);
    }
    assert!(matches!(w.cache.refusing(), Some(Refusal::Engine(_))), "{:?}", w.cache.gauges());
    let bytes = w.cache.gauges().journal_bytes;
    assert!(bytes > journal_bytes_max * JOURNAL_MULTIPLE_MAX / 2, "{bytes}: not at once");
    assert!(bytes < journal_bytes_max * (JOURNAL_MULTIPLE_MAX + 2), "{bytes}: it has an end");
    w.store.set_faults(Faults::default());
    w.after(5_000);
    assert_eq!(w.cache.refusing(), None, "the engine took what there was");
    w.verify();
}

#[test]
fn the_journal_has_an_end_while_the_engine_hangs() {
    let journal_bytes_max = 10_000;
    let mut w = world(Options { journal_bytes_max, ..Options::default() });
    w.done(Command::Set(0, 20, vec![0; 100]));
    for n in 0..2_000 {
        w.act(Action::Send(n % 80, Command::Set(0, 20, vec![n as u8; 100])));
        w.act(Action::Wait(1));
        w.act(Action::Turn);
        w.run_kind(JobKind::Journal);
        w.deliver_all();
    }
    let bytes = w.cache.gauges().journal_bytes;
    let end = journal_bytes_max * JOURNAL_MULTIPLE_MAX;
    assert!((end / 2..end * 3 / 2).contains(&bytes), "{bytes}");
    assert!((0..80).all(|client| w.waits(client)), "nobody is refused");
    w.after(1_000);
    assert!(!(0..80).any(|client| w.waits(client)), "they go on when the engine does");
    assert_eq!(w.errors, 0);
    w.verify();
}

#[test]
fn a_writer_that_waits_for_room_is_told_when_the_journal_fails() {
    let durability = Durability::EveryMs(10);
    let mut w = world(Options { limit_bytes: 40 << 10, durability, ..Options::default() });
    w.act(Action::Capacity(Some(0)));
    let errors = w.errors;
    for client in 0..40 {
        w.act(Action::Send(client, Command::Set(0, client as u8, vec![7; 2_000])));
    }
    assert!((0..40).any(|client| w.waits(client)), "memory is full of what is not written");
    w.after(100);
    assert!(w.errors > errors && !(0..40).any(|client| w.waits(client)), "nobody waits for ever");
    w.verify();
}

#[test]
fn the_log_has_an_end_while_the_disk_hangs_whatever_the_memory() {
    for limit_bytes in [0, 1 << 30] {
        let unwritten_bytes_max = 10_000;
        let mut w = world(Options { limit_bytes, unwritten_bytes_max, ..Options::default() });
        for n in 0..500 {
            // Nothing is run: a disk that hangs.
            w.act(Action::Send(n % 80, Command::Set(0, (n % 40) as u8, vec![n as u8; 500])));
            w.act(Action::Wait(1));
            w.act(Action::Turn);
        }
        let bytes = w.cache.gauges().unwritten_bytes;
        assert!((8_000..12_000).contains(&bytes), "{bytes} with a limit of {limit_bytes}");
        assert!((0..80).all(|client| w.waits(client)), "nobody is refused");
        w.after(1_000);
        assert!(!(0..80).any(|client| w.waits(client)), "they go on when the disk does");
        assert_eq!(w.errors, 0);
        w.verify();
    }
}

#[test]
fn a_small_memory_makes_nobody_wait_for_a_log_that_is_due_later() {
    // A hundredth of the limit at a time, far less than what is usually handed over at once.
    let mut w = world(Options { limit_bytes: 400 << 10, ..Options::default() });
    for n in 0..200_u32 {
        w.act(Action::Send(0, Command::Set(0, 20, n.to_le_bytes().repeat(1_000))));
        w.act(Action::Turn);
        w.after(0);
        assert!(!w.waits(0), "write {n}");
    }
    w.verify();
}

#[test]
fn a_disk_that_is_low_takes_what_there_is_and_is_looked_at_until_it_is_not() {
    let mut w = world(Options::default());
    w.done(Command::Set(0, 20, b"old".to_vec()));
    w.act(Action::Send(0, Command::Set(0, 21, b"unsaved".to_vec())));
    w.store.set_low(true);
    assert_eq!(w.cache.refusing(), None, "nobody has looked");
    w.act(Action::Drain);
    w.after(1);
    assert_eq!(w.cache.refusing(), Some(Refusal::Space));
    assert_eq!((w.cache.trouble(), w.cache.unsaved_keys()), (None, 0), "nothing fails");
    assert_eq!(w.in_engine(0, 21), Some(b"unsaved".to_vec()));
    for _ in 0..5 {
        w.after(500);
        assert_eq!(w.cache.refusing(), Some(Refusal::Space));
    }
    let looks = w.cache.stats().jobs[JobKind::Look as usize].count();
    assert!((1..=3).contains(&looks), "{looks} looks: once a second");
    w.store.set_low(false);
    w.after(500);
    w.after(500);
    assert_eq!(w.cache.refusing(), None, "although nothing else was to be done");
    w.store.set_low(true);
    let options = Options { free_bytes_min: 0, ..w.cache.options().clone() };
    w.cache.set_options(options);
    w.done(Command::Set(0, 20, b"new".to_vec()));
    assert_eq!(w.cache.refusing(), None, "nobody wants to know");
    w.verify();
}

#[test]
fn a_change_whose_base_cannot_be_read_is_neither_lost_nor_in_the_way() {
    let mut w = world(Options::default());
    let bytes = |text: &str| text.as_bytes().to_vec();
    w.done(Command::Set(0, 20, bytes("base")));
    w.done(Command::Set(0, 21, bytes("other")));
    let mut append = |k, text: &str| {
        w.act(Action::Send(0, Command::Append(0, k, bytes(text))));
        w.act(Action::Sync);
        w.after(1);
    };
    append(20, "+1");
    append(21, "+1");
    append(20, "+2");
    for k in [21, 22, 23] {
        w.act(Action::Send(0, Command::Set(0, k, vec![k; 500])));
        w.act(Action::Sync);
        w.after(1);
    }
    let space = w.cache.space(0).unwrap();
    let key = |k| key_in(space, k, &name_of(k)).to_buf();
    let dir = w.dir.crash(Kept::Nothing);
    w.store.damage([key(20), key(21)]);
    let usual = Options { databases: DBS, ..Options::default() };
    // So that replay would commit after each group, and free the journal before it.
    let options = Options { dirty_permille_max: 0, ..usual.clone() };
    let start = |options: &Options, dir: &SimDir| try_open(options, dir, &w.store, Now::default());
    for _ in 0..2 {
        // What was written whole later needs no base.
        match start(&options, &dir) {
            Err(RecoverError::BaseUnreadable { key: named, failure, .. }) => {
                assert_eq!((named, failure.kind), (key(20), ErrorKind::Corrupt));
            }
            other => panic!("{:?}", other.map(|(_, recovered)| recovered)),
        }
    }
    let accepting = Options { accept_loss: true, ..usual };
    let ((mut cache, home, ..), recovered) = start(&accepting, &dir.crash(Kept::All)).unwrap();
    assert_eq!(recovered.given_up, [key(20)]);
    assert_eq!(cache.known(&home, key(20).as_ref()), Known::Unknown, "and a read is an error");
    assert_eq!(home.peek(key(22).as_ref()).map(|(value, _)| value.clone()), Some(vec![22; 500]));
    cache.close();
    w.store.damage([]);
    let ((mut cache, home, ..), recovered) = start(&options, &dir).unwrap();
    assert_eq!(recovered.given_up, []);
    let value = home.peek(key(20).as_ref()).map(|(value, _)| value.clone());
    assert_eq!(value, Some(bytes("base+1+2")), "nothing was lost by the attempts");
    cache.close();
}

#[test]
fn a_segment_that_cannot_be_dropped_makes_nothing_less_durable() {
    let durability = Durability::EveryMs(10);
    let mut w = world(Options { durability, flush_delay_ms: 20, ..Options::default() });
    w.dir.keep_files(true);
    for n in 0..500_u32 {
        w.act(Action::Send(0, Command::Set(0, 20, n.to_le_bytes().repeat(50))));
        w.after(15);
        assert_eq!(w.cache.gauges().durable_lag_ops, 0, "after {n} writes");
    }
    assert!(w.cache.stats().journal_failures > 5, "trims were tried");
    assert!(w.cache.stats().journal_failures < 50, "with pauses in between");
    assert_eq!(w.cache.refusing(), None);
    w.dir.keep_files(false);
    w.after(5_000);
    assert!(w.cache.gauges().journal_bytes < 20_000, "they are gone in the end");
    w.verify();
}

#[test]
fn a_clean_end_is_known_to_the_next_start() {
    // What was synced last is proven by no frame behind it.
    let mut w = world(Options::default());
    w.done(Command::Set(0, 20, b"value".to_vec()));
    w.act(Action::Send(0, Command::Set(0, 21, b"the last".to_vec())));
    w.act(Action::End);
    w.after(1);
    assert!(w.cache.is_ended());
    let last = w.cache.last_seq();
    let names = w.dir.crash(Kept::Nothing);
    let mut segments = (1..100).map(|n| format!("journal-{n:020}.log"));
    let name = segments.rfind(|name| names.bytes(name).is_some()).unwrap();
    let len = names.bytes(&name).unwrap().len();
    for cut in (64..len).rev() {
        let dir = w.dir.crash(Kept::Nothing);
        dir.cut(&name, cut);
        let report = scan(&dir, &STORE, EngineAt::default(), Depth::Needed).unwrap();
        assert!(matches!(report.verdict, Verdict::Refused(_)), "cut at {cut} of {len}");
    }
    let report = scan(&names, &STORE, EngineAt::default(), Depth::Needed).unwrap();
    assert_eq!((report.end, report.proof), (last, last));
}

#[test]
fn a_drain_ends_while_the_engine_takes_nothing_or_the_journal_does_not() {
    for journal in [false, true] {
        let mut w = world(Options::default());
        if journal {
            w.act(Action::Capacity(Some(0)));
        } else {
            w.store.set_faults(NO_COMMITS);
        }
        w.act(Action::Send(0, Command::Set(0, 20, b"value".to_vec())));
        w.act(Action::Drain);
        w.after(1);
        assert!(w.is_draining(), "the first failure may be the last");
        w.after(15);
        w.after(30);
        assert!(!w.is_draining(), "whoever counts keys gets an answer");
        w.verify();
    }
}

#[test]
fn a_closed_cache_keeps_nobody_waiting() {
    let mut w = world(Options::default());
    w.done(Command::Set(0, 20, b"value".to_vec()));
    w.cache.close();
    let from = KeyRef { space: w.cache.space(0).unwrap(), hash: 0, key: b"" }.to_buf();
    let (sync, end) = (w.cache.begin_sync(1), w.cache.begin_end(2));
    let (drain, room) = (w.cache.begin_drain(3), w.cache.begin_room(1, 4));
    let scan = w.cache.begin_scan(from, 10, 1000, 5);
    let mut over = Vec::new();
    w.cache.poll_completions(&mut over);
    assert_eq!(over.iter().map(|completion| completion.tag).sum::<u64>(), 1 + 2 + 3 + 4 + 5);
    let kinds = [
        w.cache.complete(sync).err(),
        w.cache.complete(end).err(),
        w.cache.complete(drain).err(),
        w.cache.complete(room).err(),
        w.cache.complete(scan).map(drop).err(),
    ];
    let closed = |failure: &Option<_>| {
        failure
            .is_some_and(|f: flintlock_diskcache::cache::job::Failure| f.kind == ErrorKind::Closed)
    };
    assert!(kinds.iter().all(closed), "{kinds:?}");
}

#[test]
fn readers_of_a_key_that_is_written_wait_for_no_read_that_hangs() {
    for command in
        [Command::Set(0, 20, b"new".to_vec()), Command::SetExpiring(0, 20, b"new".to_vec(), 90)]
    {
        let mut w = world(Options::default());
        w.done(Command::Set(0, 20, b"old".to_vec()));
        w.done(Command::Set(0, 21, b"other".to_vec()));
        w.evict_all();
        w.begin(1, Command::Get(0, 20));
        w.begin(2, Command::MGet(0, vec![20, 21]));
        assert!(w.waits(1) && w.waits(2));
        w.begin(3, command);
        assert!(!w.waits(1), "its answer is in memory");
        assert!(w.waits(2), "it needs another key too");
        w.squeeze();
        assert_eq!(w.known(0, 20), Known::Value, "the read under way keeps it there");
        w.run_all();
        w.deliver_all();
        assert!(!w.waits(2));
        w.verify();
    }
}

/// Each flush logged a map with all that the flushes before had left behind, and one of nothing
/// did too, whatever was logged already and not written.
#[test]
fn flushes_in_a_loop_do_not_fill_the_log() {
    let mut w = world(Options::default());
    let before = w.cache.last_seq();
    for db in 0..DBS {
        w.begin(0, Command::Flush(db));
    }
    assert_eq!(w.cache.last_seq(), before, "there was nothing to drop");
    let mut sizes = Vec::new();
    for _ in 0..100 {
        let before = w.cache.gauges().unwritten_bytes;
        w.begin(0, Command::Set(0, 20, v("x")));
        w.begin(0, Command::Flush(0));
        w.begin(0, Command::Flush(0));
        sizes.push(w.cache.gauges().unwritten_bytes - before);
    }
    assert_eq!(sizes[1], sizes[99], "{sizes:?}");
    w.verify();
}
