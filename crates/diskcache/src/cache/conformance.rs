//! Checks that a home keeps its side of the contract. Any thread; panics on the first breach.
//!
//! The cache's promises rest on what a home does with entries that it does not understand: it
//! must keep absent ones, must not forget dirty ones, must find entries by hash alone. This is
//! the contract of [`super::home`] as code; whoever writes a home runs it on theirs.
//!
//! Source: Redis's diskstore cache (dscache.c, 2010 to 2011) and its open races.

use super::flags::{HandOver, KeyState};
use super::home::{Candidate, Home, Known, Loaded};
use super::job::Decode;
use super::recover::{Change, Replayed};
use crate::key::{KeyRef, Seq, Space};
use crate::storage::{Before, Record};

/// How a home hashes a name.
pub type OwnHash<'a> = &'a dyn Fn(&[u8]) -> u64;

/// Checks `make`'s homes. `payload` gives the stored form of some value for each number, of at
/// least 100 bytes for numbers from 100 on; `decode` makes values of them as on a worker.
///
/// `own_hash` is how the homes hash a name, if they do: the hash that comes with a key is then
/// always that one, and keys of one hash cannot be made up.
///
/// # Panics
/// On the first breach of the contract, saying which.
pub fn check<H, D>(
    make: impl Fn() -> H,
    payload: impl Fn(u64) -> Vec<u8>,
    decode: &D,
    own_hash: Option<OwnHash<'_>>,
) where
    H: Replayed,
    D: Decode<Value = H::Value>,
{
    let subject = Subject { make, payload, decode, own_hash };
    subject.absent_entries_stay();
    subject.only_clean_entries_are_forgotten();
    if own_hash.is_none() {
        subject.collisions_are_all_reached();
    }
    subject.values_survive_the_way_to_the_engine_and_back();
    subject.asking_ahead_changes_nothing();
    subject.samples_are_clean_and_bounded();
    subject.memory_is_accounted();
    subject.spaces_are_apart();
}

struct Subject<'a, M, P, D> {
    make: M,
    payload: P,
    decode: &'a D,
    own_hash: Option<OwnHash<'a>>,
}

const SPACE: Space = Space(3);

fn key(hash: u64, name: &[u8]) -> KeyRef<'_> {
    KeyRef { space: SPACE, hash, key: name }
}

/// A hash as good as a keyed one.
fn spread(n: u64) -> u64 {
    super::rng::Rng::new(n).next_u64()
}

impl<H, M, P, D> Subject<'_, M, P, D>
where
    H: Replayed,
    M: Fn() -> H,
    P: Fn(u64) -> Vec<u8>,
    D: Decode<Value = H::Value>,
{
    /// The key `name`, with a hash as good as a keyed one.
    fn key<'k>(&self, name: &'k [u8]) -> KeyRef<'k> {
        let spread = |name: &[u8]| {
            spread(name.iter().fold(7, |n: u64, b| n.wrapping_mul(31).wrapping_add((*b).into())))
        };
        key(self.own_hash.map_or_else(|| spread(name), |hash| hash(name)), name)
    }

    fn put(&self, home: &mut H, key: KeyRef<'_>, n: u64, state: KeyState) {
        let payload = (self.payload)(n);
        let change = Change::Put { expires_at_ms: None, payload: &payload };
        home.replay(key, change, state).expect("a payload that was encoded decodes");
    }

    fn delete(&self, home: &mut H, key: KeyRef<'_>, state: KeyState) {
        home.replay(key, Change::Delete, state).expect("a delete needs nothing");
    }

    fn load(&self, home: &mut H, key: KeyRef<'_>, n: u64) {
        let record =
            Record { seq: Seq(1), expires_at_ms: Some(n + 1), payload: (self.payload)(n).into() };
        let value = self.decode.decode(key, &record).expect("a stored payload decodes");
        let loaded = Loaded { value, expires_at_ms: record.expires_at_ms };
        home.insert(key, Some(loaded), KeyState::new(Before::Present));
    }

    fn absent_entries_stay(&self) {
        let mut home = (self.make)();
        let k = self.key(b"k");
        assert_eq!(home.known(k), Known::Unknown, "an empty home knows nothing");
        self.put(&mut home, k, 1, dirty());
        assert_eq!(home.known(k), Known::Value);
        self.delete(&mut home, k, dirty());
        assert_eq!(home.known(k), Known::Absent, "a deleted key keeps its entry");
        assert_eq!(home.entry_count(), 1, "absent entries are counted");
        assert!(home.absent_count().is_none_or(|count| count == 1));
        self.put(&mut home, k, 2, dirty());
        assert!(home.absent_count().is_none_or(|count| count == 0));
        assert_eq!((home.known(k), home.entry_count()), (Known::Value, 1), "and takes it again");
        let other = self.key(b"o");
        home.insert(other, None, KeyState::new(Before::Absent));
        assert_eq!(home.known(other), Known::Absent, "a miss leaves an absent entry");
    }

    fn only_clean_entries_are_forgotten(&self) {
        for before in [Before::Absent, Before::Present, Before::Unknown] {
            let mut home = (self.make)();
            let k = self.key(b"key");
            let mut state = KeyState::new(before);
            state.mark_dirty();
            self.put(&mut home, k, 1, state);
            assert_eq!(home.forget(SPACE, k.hash).entries, 0, "SAVE holds an entry");
            let handed = set_state(&mut home, k, |s| s.hand_over(true));
            assert_eq!(handed, HandOver::Write(before), "the state is kept as given");
            assert_eq!(home.forget(SPACE, k.hash).entries, 0, "SAVING holds an entry");
            set_state(&mut home, k, |s| s.settle(true));
            let bytes = home.memory_bytes();
            let forgot = home.forget(SPACE, k.hash);
            assert_eq!(forgot.entries, 1, "a clean entry goes");
            assert!(home.memory_bytes() <= bytes - forgot.bytes, "and its bytes with it");
            assert_eq!((home.known(k), home.entry_count()), (Known::Unknown, 0), "unknown again");
        }
    }

    fn collisions_are_all_reached(&self) {
        let mut home = (self.make)();
        let hash = spread(9);
        let names: [&[u8]; 4] = [b"", b"a", b"b", b"ab"];
        for (n, name) in names.iter().enumerate() {
            self.put(&mut home, key(hash, name), n as u64, dirty());
        }
        for n in 0..2000 {
            self.put(&mut home, key(spread(100 + n), b"another"), n, dirty());
        }
        let mut seen: Vec<Vec<u8>> = Vec::new();
        home.visit(SPACE, hash, &mut |entry| seen.push(entry.key().to_vec()));
        seen.sort();
        assert_eq!(seen, [&b""[..], b"a", b"ab", b"b"], "visit reaches every entry of a hash");
        set_state(&mut home, key(hash, b"b"), |s| *s = KeyState::new(Before::Present));
        assert_eq!(home.forget(SPACE, hash).entries, 1, "one of them is clean");
        let known = names.map(|name| home.known(key(hash, name)));
        assert_eq!(known, [Known::Value, Known::Value, Known::Unknown, Known::Value]);
    }

    fn values_survive_the_way_to_the_engine_and_back(&self) {
        let mut home = (self.make)();
        for n in [0, 1, 100, 1000] {
            let name = format!("round trip {n}");
            let k = self.key(name.as_bytes());
            self.load(&mut home, k, n);
            assert_eq!(home.known(k), Known::Value, "a loaded value is there");
            let mut seen = None;
            home.visit(SPACE, k.hash, &mut |entry| {
                assert!(entry.exists() && entry.state() == KeyState::new(Before::Present));
                seen = Some((entry.encode().into_bytes(), entry.expires_at_ms()));
            });
            let (bytes, expires_at_ms) = seen.expect("visit finds what was inserted");
            assert_eq!(expires_at_ms, Some(n + 1), "the expiry travels with the value");
            assert_eq!(*bytes, *(self.payload)(n), "and comes out as it went in");
        }
    }

    fn asking_ahead_changes_nothing(&self) {
        let mut home = (self.make)();
        let (clean, saving) = (self.key(b"clean"), self.key(b"saving"));
        let names: Vec<_> = (0..40).map(|n| format!("ahead {n}")).collect();
        let keys = names.iter().map(|name| (SPACE, self.key(name.as_bytes()).hash));
        let gone = [(SPACE, clean.hash), (SPACE, saving.hash), (Space(99), clean.hash)];
        let keys: Vec<_> = keys.chain(gone).collect();
        home.prefetch(&keys);
        assert_eq!(home.entry_count(), 0);
        self.load(&mut home, clean, 1);
        self.put(&mut home, saving, 2, dirty());
        let before = set_state(&mut home, saving, |state| {
            let _ = state.hand_over(true);
            *state
        });
        let bytes = home.memory_bytes();
        home.prefetch(&keys);
        home.prefetch(&[]);
        assert_eq!((home.memory_bytes(), home.entry_count()), (bytes, 2));
        assert_eq!(set_state(&mut home, saving, |state| *state), before);
        assert!(set_state(&mut home, clean, |state| state.is_clean()));
    }

    fn samples_are_clean_and_bounded(&self) {
        let mut home = (self.make)();
        let mut out: Vec<Candidate> = Vec::new();
        home.sample(5, 5, &mut out);
        assert!(out.is_empty(), "an empty home has no candidates");
        for n in 0..3000 {
            let name = format!("sampled {n}");
            let k = self.key(name.as_bytes());
            if n % 2 == 0 {
                self.load(&mut home, k, n);
            } else {
                self.put(&mut home, k, n, dirty());
            }
        }
        for n in 0..3000 {
            let name = format!("sampled {n}");
            let hash = self.key(name.as_bytes()).hash;
            let candidate = home.candidate(SPACE, hash);
            assert_eq!(candidate.is_some(), n % 2 == 0, "only clean entries are candidates");
            assert!(candidate.is_none_or(|c| (c.space, c.hash) == (SPACE, hash)));
        }
        assert_eq!(home.candidate(SPACE, self.key(b"unknown").hash), None);
        assert_eq!(home.candidate(Space(99), self.key(b"sampled 0").hash), None);
        let mut distinct = std::collections::BTreeSet::new();
        for round in 0..200 {
            out.clear();
            home.sample(spread(round), 5, &mut out);
            assert!(out.len() <= 5, "no more than asked for");
            for candidate in &out {
                assert_eq!(candidate.space, SPACE);
                distinct.insert(candidate.hash);
                let mut clean = 0;
                home.visit(SPACE, candidate.hash, &mut |e| {
                    clean += usize::from(e.state().is_clean());
                });
                assert_eq!(clean, 1, "only clean entries are candidates");
            }
        }
        assert!(distinct.len() > 300, "samples come from all over: {}", distinct.len());
    }

    fn memory_is_accounted(&self) {
        let mut home = (self.make)();
        let empty = home.memory_bytes();
        let payload = (self.payload)(100).len() as u64;
        for n in 0..4000 {
            self.put(&mut home, self.key(&sixteen(n)), 100, dirty());
        }
        let full = home.memory_bytes();
        assert!(full - empty >= 4000 * (payload / 2 + 16), "values and keys are counted");
        for n in 0..4000 {
            self.delete(&mut home, self.key(&sixteen(n)), dirty());
        }
        let absent = home.memory_bytes();
        assert!(absent < full, "a deleted value is given back");
        assert!(absent - empty >= 4000 * 16, "absent entries are counted");
        for n in 0..4000 {
            let name = sixteen(n);
            let k = self.key(&name);
            set_state(&mut home, k, |s| *s = KeyState::new(Before::Absent));
            assert_eq!(home.forget(SPACE, k.hash).entries, 1);
        }
        assert_eq!(home.entry_count(), 0);
        assert!(home.memory_bytes() < absent, "forgotten entries are given back");
    }

    fn spaces_are_apart(&self) {
        let mut home = (self.make)();
        let here = self.key(b"same");
        let there = KeyRef { space: Space(4), ..here };
        self.put(&mut home, here, 1, KeyState::new(Before::Present));
        self.put(&mut home, there, 2, KeyState::new(Before::Present));
        assert_eq!(home.entry_count(), 2);
        assert_eq!(home.forget(Space(4), here.hash).entries, 1);
        assert_eq!((home.known(here), home.known(there)), (Known::Value, Known::Unknown));
        self.put(&mut home, there, 2, dirty());
        home.drop_space(SPACE);
        assert_eq!((home.known(here), home.known(there)), (Known::Unknown, Known::Value));
        let mut seen = 0;
        home.visit(SPACE, here.hash, &mut |_| seen += 1);
        assert_eq!((seen, home.entry_count()), (0, 1), "a dropped space is empty, dirty or not");
        assert_eq!(home.forget(SPACE, here.hash).entries, 0);
    }
}

/// A name of sixteen bytes.
fn sixteen(n: u64) -> [u8; 16] {
    u128::from(n).to_be_bytes()
}

fn dirty() -> KeyState {
    let mut state = KeyState::new(Before::Absent);
    state.mark_dirty();
    state
}

/// Changes the state of one entry and returns what `change` returned.
fn set_state<H: Home, T>(
    home: &mut H,
    key: KeyRef<'_>,
    change: impl FnOnce(&mut KeyState) -> T,
) -> T {
    let mut change = Some(change);
    let mut result = None;
    home.visit(key.space, key.hash, &mut |entry| {
        if entry.key() == key.key {
            let mut state = entry.state();
            result = change.take().map(|change| change(&mut state));
            entry.set_state(state);
        }
    });
    result.expect("visit finds the entry")
}
