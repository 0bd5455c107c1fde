use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use flintlock_diskcache::key::Seq;
use flintlock_diskcache::storage::{Record, Scanned};
use proptest::prelude::*;

use super::*;
use crate::keyspace::entry::NewValue;
use crate::keyspace::{Hasher, Key};
use crate::types::{Hash, Object};

const NOW_MS: u64 = 1_000_000;

/// Where a key of the model is.
#[derive(Copy, Clone, Debug)]
enum Place {
    /// In memory only: never saved.
    Memory,
    /// On disk only.
    Disk,
    /// In both.
    Both,
    /// On disk, but deleted in memory.
    Deleted,
    /// On disk, but out of time.
    Expired,
}

fn place() -> impl Strategy<Value = Place> {
    prop_oneof![
        Just(Place::Memory),
        Just(Place::Disk),
        Just(Place::Both),
        Just(Place::Deleted),
        Just(Place::Expired),
    ]
}

struct World {
    keyspace: Keyspace,
    disk: BTreeMap<KeyBuf, Record>,
    /// Records that one read returns at most, as if they were big.
    read_max: usize,
}

impl World {
    fn new(places: &[Place], read_max: usize) -> Self {
        let hasher = Hasher::new(b"a secret of 16 b");
        let mut world =
            Self { keyspace: Keyspace::new(1, hasher), disk: BTreeMap::new(), read_max };
        for (i, place) in places.iter().enumerate() {
            let name = format!("key{i}");
            let key = hasher.key(name.as_bytes());
            let on_disk = !matches!(place, Place::Memory);
            if on_disk {
                let expired = matches!(place, Place::Expired);
                world.save(key, expired.then_some(NOW_MS - 1));
            }
            let table = &mut world.keyspace.dbs[0].table;
            match place {
                Place::Memory | Place::Both => drop(table.insert(key, NewValue::Int(1), None)),
                Place::Deleted => drop(table.insert(key, NewValue::Absent, None)),
                Place::Disk | Place::Expired => {}
            }
        }
        world
    }

    fn save(&mut self, key: Key<'_>, expires_at_ms: Option<u64>) {
        let space = self.keyspace.dbs[0].space;
        let at = KeyRef { space, hash: key.hash, key: key.bytes }.to_buf();
        let payload: Arc<[u8]> = codec::encode_to_vec(codec::Value::Integer(1)).into();
        self.disk.insert(at, Record { seq: Seq(1), expires_at_ms, payload });
    }

    /// What DEL leaves in memory until the delete is saved.
    fn delete(&mut self, name: &[u8]) {
        let key = self.keyspace.hasher().key(name);
        let table = &mut self.keyspace.dbs[0].table;
        if let Some(loc) = table.find(key) {
            drop(table.remove(loc));
        }
        table.insert(key, NewValue::Absent, None);
    }

    /// Memory forgets a key whose state is saved.
    fn forget(&mut self, name: &[u8]) {
        let key = self.keyspace.hasher().key(name);
        let db = &mut self.keyspace.dbs[0];
        let loc = db.table.find(key).expect("memory knows it");
        let entry = db.table.remove(loc);
        let type_name = (!entry.get().is_absent()).then_some("string");
        let fact = Fact { type_name, expires_at_ms: None };
        self.keyspace.followers.tell(db.space, name, fact);
    }

    fn read(&self, stretch: &Stretch) -> op::Stretch {
        let all = self.disk.range(stretch.from.clone()..);
        let most = stretch.limit.min(self.read_max);
        let records = all.clone().take(most);
        let scanned = |(k, r): (&KeyBuf, &Record)| Scanned { key: k.clone(), record: r.clone() };
        op::Stretch { records: records.map(scanned).collect(), more: all.count() > most }
    }

    fn walk(&self, goal: Goal, position: u64) -> Walk {
        let plan = WalkPlan { goal, position, pattern: None, type_name: None };
        Walk::new(&self.keyspace, 0, plan, NOW_MS)
    }

    fn run(&self, walk: &mut Walk) {
        while let Some(stretch) = walk.begin(&self.keyspace) {
            let records = self.read(&stretch);
            walk.merge(&records, &self.keyspace);
        }
    }

    fn expected(places: &[Place]) -> HashSet<Box<[u8]>> {
        let live = |p: &Place| !matches!(p, Place::Deleted | Place::Expired);
        let names = places.iter().enumerate().filter(|(_, p)| live(p));
        names.map(|(i, _)| format!("key{i}").into_bytes().into()).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn memory_and_disk_together_give_every_key_once(
        places in prop::collection::vec(place(), 0..600),
        count in 1usize..50,
        read_max in 1usize..100,
    ) {
        let world = World::new(&places, read_max);
        let expected = World::expected(&places);
        let mut all = world.walk(Goal::All, 0);
        world.run(&mut all);
        prop_assert_eq!(&all.into_found().0, &expected);

        let (mut seen, mut position) = (HashSet::new(), Some(0));
        while let Some(at) = position {
            let mut step = world.walk(Goal::Stretch(count), at);
            world.run(&mut step);
            step.catch_up(&world.keyspace, 0);
            let (found, next) = step.into_found();
            prop_assert!(next.is_none_or(|next| next > at));
            prop_assert!(found.is_disjoint(&seen), "a key comes in one step only");
            seen.extend(found);
            position = next;
        }
        prop_assert_eq!(&seen, &expected);

        let mut any = world.walk(Goal::Any, u64::MAX << POSITION_BITS);
        world.run(&mut any);
        let found = any.into_found().0;
        prop_assert_eq!(found.is_empty(), expected.is_empty());
        prop_assert!(found.is_subset(&expected));
    }

    /// A key that is saved and evicted between the two looks is in neither alone.
    #[test]
    fn a_key_evicted_during_the_walk_is_found(count in 1usize..300, victim in 0usize..300) {
        let count = count.max(victim + 1);
        let mut world = World::new(&vec![Place::Memory; count], usize::MAX);
        let mut walk = world.walk(Goal::All, 0);
        let stretch = walk.begin(&world.keyspace).unwrap();
        let records = world.read(&stretch);
        let name = format!("key{victim}");
        let key = world.keyspace.hasher().key(name.as_bytes());
        world.save(key, None);
        let loc = world.keyspace.dbs[0].table.find(key).unwrap();
        drop(world.keyspace.dbs[0].table.remove(loc));
        walk.merge(&records, &world.keyspace);
        world.run(&mut walk);
        prop_assert!(walk.into_found().0.contains(name.as_bytes()));
    }
}

/// The disk was read before the delete was saved, and memory has forgotten the key since.
#[test]
fn a_key_whose_delete_is_forgotten_during_the_walk_is_not_found() {
    let mut world = World::new(&[Place::Deleted], usize::MAX);
    let mut walk = world.walk(Goal::All, 0);
    let stretch = walk.begin(&world.keyspace).unwrap();
    let records = world.read(&stretch);
    assert_eq!(records.records.len(), 1);
    let key = world.keyspace.hasher().key(b"key0");
    let table = &mut world.keyspace.dbs[0].table;
    let loc = table.find(key).unwrap();
    drop(table.remove(loc));
    walk.merge(&records, &world.keyspace);
    world.run(&mut walk);
    assert!(walk.into_found().0.is_empty());
}

/// What changed behind the walk, in stretches it has read, and is forgotten before it ends.
#[test]
fn what_memory_knew_and_forgot_during_the_walk_counts() {
    for (renamed, in_pattern) in [("new", true), ("other", false)] {
        let mut world = World::new(&[Place::Disk; 300], 100);
        let plan = WalkPlan {
            goal: Goal::All,
            position: 0,
            pattern: Some(b"[kn]e*".to_vec()),
            type_name: None,
        };
        let mut walk = Walk::new(&world.keyspace, 0, plan, NOW_MS).following(&world.keyspace);
        let stretch = walk.begin(&world.keyspace).unwrap();
        let records = world.read(&stretch);
        walk.merge(&records, &world.keyspace);
        let old = walk.found.iter().next().expect("a stretch of keys").clone();
        world.delete(&old);
        world.forget(&old);
        let key = world.keyspace.hasher().key(renamed.as_bytes());
        world.keyspace.dbs[0].table.insert(key, NewValue::Int(1), None);
        world.forget(renamed.as_bytes());
        world.run(&mut walk);
        walk.catch_up(&world.keyspace, 0);
        let (found, _) = walk.into_found();
        assert!(!found.contains(&old), "it was deleted");
        assert_eq!(found.contains(renamed.as_bytes()), in_pattern, "it was made");
        assert_eq!(found.len(), 299 + usize::from(in_pattern));
    }
}

/// RANDOMKEY ends at the first key found: had it found deleted ones only, it would answer that
/// there is no key.
#[test]
fn keys_deleted_while_their_stretch_is_read_do_not_end_the_search_for_any() {
    for place in [Place::Disk, Place::Memory] {
        let mut world = World::new(&[place; 200], usize::MAX);
        let mut walk = world.walk(Goal::Any, 0);
        let stretch = walk.begin(&world.keyspace).unwrap();
        let records = world.read(&stretch);
        let resident = walk.resident.iter().map(|(_, key)| key.to_vec());
        let read = records.records.iter().map(|scanned| scanned.key.as_ref().key.to_vec());
        let deleted: HashSet<Vec<u8>> = resident.chain(read).collect();
        assert!((1..200).contains(&deleted.len()), "some of them: {}", deleted.len());
        deleted.iter().for_each(|name| world.delete(name));
        walk.merge(&records, &world.keyspace);
        world.run(&mut walk);
        walk.catch_up(&world.keyspace, 0);
        let (found, _) = walk.into_found();
        assert!(!found.is_empty(), "{place:?}");
        assert!(found.iter().all(|key| !deleted.contains(&**key)), "{place:?}");
    }
}

/// A key that is not saved yet is what memory says, not what its old record says.
#[test]
fn an_old_record_says_nothing_of_type_and_expiry() {
    let expired = (NewValue::Int(1), Some(NOW_MS - 1));
    let other = (NewValue::Object(Arc::new(Object::Hash(Hash::default()))), None);
    for (value, expires_at_ms) in [expired, other] {
        let mut world = World::new(&[Place::Disk], usize::MAX);
        let key = world.keyspace.hasher().key(b"key0");
        world.keyspace.dbs[0].table.insert(key, value, expires_at_ms);
        let mut walk = world.walk(Goal::All, 0);
        walk.type_name = Some(b"string".to_vec());
        world.run(&mut walk);
        assert!(walk.into_found().0.is_empty());
    }
}
