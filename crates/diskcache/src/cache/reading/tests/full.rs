//! Reads that begin while memory is full: room is made for them by their own turn.

use super::*;

/// A rig whose memory is full of clean keys, `excess` bytes above the limit.
fn full_by(excess: u64) -> Rig {
    let mut rig = Rig::new(true);
    for n in 0..100_u64 {
        let key = n.to_be_bytes();
        let key = KeyRef { space: SPACE, hash: n << 40, key: &key };
        let loaded = Some(Loaded { value: vec![0; 1000], expires_at_ms: None });
        rig.home.insert(key, loaded, KeyState::new(Before::Present));
    }
    rig.cache.options.load_bytes_max = 1 << 14;
    rig.cache.options.batch_bytes_max = 1 << 14;
    rig.cache.evict_for_load(&mut rig.home, 0);
    rig.cache.ledger.set_limit(1);
    let used = rig.cache.ledger_excess();
    rig.cache.ledger.set_limit(used - excess);
    rig
}

/// Others waited for a turn of somebody else, with keys around that could have been forgotten.
#[test]
fn a_read_at_the_limit_makes_room_and_begins() {
    let mut rig = full_by(5000);
    rig.tokens.extend(rig.cache.begin_load(&rig.home, [KEY], 1));
    rig.turn();
    assert_eq!(rig.reads.len(), 1, "another client is first in line");
    rig.cache.turn_loads(&mut rig.home);
    rig.turn();
    assert_eq!(rig.reads.len(), 2);
    let forgotten = 100 - rig.home.entry_count();
    let most = rig.cache.options.evictions_max as u64;
    assert!((5..most).contains(&forgotten), "as many as it takes: {forgotten}");
    rig.end(&[]);
}

/// What the waits themselves took was counted after the turn had made room, so that of a crowd
/// only the client first in line was served, in every turn anew.
#[test]
fn a_crowd_that_comes_to_a_full_memory_is_read_for_at_once() {
    let mut rig = full_by(0);
    for n in 0..10_u64 {
        let name = n.to_be_bytes();
        let key = KeyRef { space: SPACE, hash: (n << 40) + 1, key: &name };
        rig.tokens.extend(rig.cache.begin_load(&rig.home, [key], 1));
    }
    rig.cache.turn(&mut rig.home, Now::default());
    rig.turn();
    assert_eq!(rig.reads.len(), 11, "with that of the client first in line");
    assert!((90..100).contains(&rig.home.entry_count()), "a few keys make room for them");
    rig.end(&[]);
}
