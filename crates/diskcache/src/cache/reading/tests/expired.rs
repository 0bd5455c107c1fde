//! Keys that the engine names as expired are read when nobody needs reads, and deleted if they are.

use super::*;
use crate::cache::KeyCount;
use crate::cache::job::{Done, JobKind, Outcome};

fn named(n: u64) -> KeyBuf {
    KeyRef { space: SPACE, hash: n << 40, key: &n.to_be_bytes() }.to_buf()
}

/// Maintenance comes back with `keys`.
fn found(rig: &mut Rig, keys: impl IntoIterator<Item = KeyBuf>) {
    let outcome = Outcome::Maintain { result: Ok(false), expired: keys.into_iter().collect() };
    let done = Done { outcome, kind: JobKind::Maintain, took_us: 0, stats: None };
    rig.cache.complete_job(done, &mut rig.home, NOW);
}

const NOW: Now = Now { mono_ms: 1, unix_ms: 1_000 };

#[test]
fn an_expired_key_that_nobody_reads_is_deleted() {
    let mut rig = Rig::new(false);
    found(&mut rig, [named(1), named(2), named(3)]);
    rig.cache.turn(&mut rig.home, NOW);
    rig.turn();
    assert_eq!(rig.reads.len(), 3);
    let before = rig.cache.last_seq();
    assert_eq!(rig.cache.key_count(0), KeyCount::Exact(10));
    rig.comes(named(1).as_ref(), Read::Expired);
    rig.comes(named(2).as_ref(), Read::Found);
    rig.comes(named(3).as_ref(), Read::Fails);
    assert_eq!(rig.cache.last_seq(), before.next(), "one was deleted, in the journal too");
    assert_eq!(rig.cache.key_count(0), KeyCount::Exact(9));
    let known = |rig: &Rig, n| rig.cache.known(&rig.home, named(n).as_ref());
    assert_eq!(known(&rig, 1), Known::Absent);
    assert_eq!(known(&rig, 2), Known::Value, "it lives longer than the record that was seen");
    assert_eq!(known(&rig, 3), Known::Unknown, "an error is no miss");
    rig.end(&[]);
}

#[test]
fn what_is_known_or_dead_is_not_read() {
    let mut rig = Rig::new(false);
    rig.set(Some(vec![2]));
    let dead = KeyRef { space: Space(9), hash: 1, key: b"flushed" }.to_buf();
    found(&mut rig, [KEY.to_buf(), dead]);
    rig.cache.turn(&mut rig.home, NOW);
    rig.turn();
    assert_eq!(rig.reads, []);
    assert_eq!(rig.cache.expired.memory_bytes(), 0);
    rig.end(&[]);
}

#[test]
fn they_wait_until_there_is_room_and_for_those_who_are_waited_for() {
    let mut rig = Rig::new(false);
    rig.cache.options.loads_max = 8;
    found(&mut rig, (0..100).map(named));
    rig.cache.ledger.set_limit(1);
    rig.cache.expire_turn(&rig.home);
    assert_eq!(rig.cache.loads.queued(), 0, "memory is full");
    rig.cache.ledger.set_limit(0);
    rig.cache.expire_turn(&rig.home);
    assert_eq!(rig.cache.loads.queued(), 2, "a share of the reads");
    rig.tokens.extend(rig.cache.begin_load(&rig.home, [KEY], 1));
    rig.cache.options.loads_max = 1;
    rig.turn();
    assert_eq!(rig.reads.iter().map(|(_, key)| key.as_ref()).collect::<Vec<_>>(), [KEY]);
    rig.tokens.drain(..).for_each(|token| rig.cache.abandon(token));
}

#[test]
fn the_engine_is_asked_again_when_all_were_looked_at() {
    let mut rig = Rig::new(false);
    rig.cache.turn(&mut rig.home, NOW);
    rig.turn();
    found(&mut rig, [named(1)]);
    assert!(!rig.cache.maintenance.wanted);
    rig.cache.expire_turn(&rig.home);
    assert!(rig.cache.maintenance.wanted);
    rig.cache.turn(&mut rig.home, NOW);
    found(&mut rig, []);
    rig.cache.expire_turn(&rig.home);
    assert!(!rig.cache.maintenance.wanted, "not for ever");
}

#[test]
fn none_is_deleted_while_they_are_held() {
    let mut rig = Rig::new(false);
    rig.cache.hold_expired(true);
    rig.cache.turn(&mut rig.home, NOW);
    found(&mut rig, [named(1)]);
    let before = rig.cache.last_seq();
    rig.tokens.extend(rig.cache.begin_load(&rig.home, [named(2).as_ref()], 1));
    rig.turn();
    assert_eq!(rig.reads.len(), 1, "nothing is read only to be deleted");
    rig.comes(named(2).as_ref(), Read::Expired);
    assert_eq!(rig.cache.known(&rig.home, named(2).as_ref()), Known::Value, "with its expiry");
    assert_eq!((rig.cache.last_seq(), rig.cache.key_count(0)), (before, KeyCount::Exact(10)));
    rig.cache.hold_expired(false);
    rig.cache.turn(&mut rig.home, NOW);
    rig.turn();
    rig.comes(named(1).as_ref(), Read::Expired);
    assert_eq!((rig.cache.last_seq(), rig.cache.key_count(0)), (before.next(), KeyCount::Exact(9)));
    rig.tokens.drain(..).for_each(|token| rig.cache.abandon(token));
}
