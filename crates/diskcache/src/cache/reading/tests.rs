//! Every state that the load of one key can be in, with every event: what happens is what a twin of
//! plain fields says.
//!
//! The states are found by walking: from each one reached, every event is tried on a fresh cache
//! that is brought there by the shortest way. The twin is the specification; it knows no tables,
//! chains or queues.

mod expired;
mod full;

use std::sync::Arc;

use super::*;
use crate::cache::home::Candidate;
use crate::cache::map::MapHome;
use crate::cache::{Completion, Now, Options};
use crate::journal::sim::SimDir;
use crate::journal::{Depth, EngineAt, StoreId, Writer, WriterOptions, scan};
use crate::key::KeyBuf;
use crate::storage::{ErrorKind, Meta};

const SPACE: Space = Space(1);
const KEY: KeyRef<'static> = KeyRef { space: SPACE, hash: 7, key: b"key" };
const OTHER: KeyRef<'static> = KeyRef { space: SPACE, hash: 8, key: b"other" };
const OTHERS_TAG: u64 = 99;
const BROKEN: Failure = Failure { kind: ErrorKind::Corrupt, what: "a test" };
const ROOM: u64 = 1 << 20;
const WAITING_MAX: usize = 2;

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Event {
    /// A client needs the key.
    Begin,
    /// Somebody will need it soon.
    Preload,
    /// The client that waits longest, or shortest, is gone.
    Leave(Which),
    /// The same, but it is told.
    Cancel(Which),
    Write,
    Delete,
    /// Memory is short; the key is the candidate.
    Evict,
    /// Its space dies.
    Flush,
    Turn(Memory),
    /// The read comes back.
    Comes(Read),
    /// The client in front of all others, who needs another key, has it.
    OtherComes,
    Close,
}

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Which {
    Oldest,
    Newest,
}

/// Room for more reads.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Memory {
    Free,
    /// No memory but for the client first in line.
    Tight,
    /// As many reads as there may be.
    Full,
}

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
enum Read {
    Found,
    Absent,
    Expired,
    Fails,
}

const EVENTS: [Event; 19] = {
    use Event::*;
    [
        Begin,
        Preload,
        Leave(Which::Oldest),
        Leave(Which::Newest),
        Cancel(Which::Oldest),
        Cancel(Which::Newest),
        Write,
        Delete,
        Evict,
        Flush,
        Turn(Memory::Free),
        Turn(Memory::Tight),
        Turn(Memory::Full),
        Comes(Read::Found),
        Comes(Read::Absent),
        Comes(Read::Expired),
        Comes(Read::Fails),
        OtherComes,
        Close,
    ]
};

/// What an event is seen to do.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
struct Seen {
    /// Clients told that their wait is over, and with which error.
    told: usize,
    failure: Option<ErrorKind>,
    /// A new client waits, or a candidate was forgotten.
    done: bool,
    joined: u64,
    wished: u64,
    dropped: u64,
    discarded: u64,
    found: u64,
    absent: u64,
    expired: u64,
    failed: u64,
}

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
struct TwinLoad {
    phase: LoadPhase,
    ahead: bool,
    stale: bool,
}

#[derive(Copy, Clone, Eq, PartialEq, Debug)]
struct Twin {
    known: Known,
    dirty: bool,
    /// The space of the key lives.
    alive: bool,
    load: Option<TwinLoad>,
    /// Clients that wait for the key.
    waiting: usize,
    /// Another client, whose key is being read, came before all of them.
    other: bool,
    closed: bool,
}

impl Twin {
    fn start(other: bool) -> Self {
        Self {
            known: Known::Unknown,
            dirty: false,
            alive: true,
            load: None,
            waiting: 0,
            other,
            closed: false,
        }
    }

    fn is_pinned(&self) -> bool {
        self.load.is_some() || self.waiting > 0
    }

    fn tell_all(&mut self, failure: Option<ErrorKind>, seen: &mut Seen) {
        seen.told = std::mem::take(&mut self.waiting);
        seen.failure = failure.filter(|_| seen.told > 0);
    }

    /// Makes the event happen; `None` if it cannot.
    fn apply(&mut self, event: Event) -> Option<Seen> {
        let mut seen = Seen::default();
        match event {
            Event::Begin if self.waiting == WAITING_MAX => return None,
            Event::Begin => self.begin(&mut seen),
            Event::Preload => {
                if self.known == Known::Unknown && self.load.is_none() && !self.closed {
                    let phase = LoadPhase::Queued;
                    self.load = Some(TwinLoad { phase, ahead: true, stale: false });
                    seen.wished = 1;
                }
            }
            Event::Leave(_) => self.waiting = self.waiting.checked_sub(1)?,
            Event::Cancel(_) => {
                self.waiting = self.waiting.checked_sub(1)?;
                (seen.told, seen.failure) = (1, Some(ErrorKind::Cancelled));
            }
            Event::Write | Event::Delete | Event::Flush if !self.alive => return None,
            Event::Write | Event::Delete => {
                let is_write = event == Event::Write;
                let known = if is_write { Known::Value } else { Known::Absent };
                (self.known, self.dirty) = (known, true);
                self.tell_all(None, &mut seen);
            }
            Event::Evict => {
                let there = self.alive && self.known != Known::Unknown;
                seen.done = there && !self.dirty && !self.is_pinned();
                if seen.done {
                    self.known = Known::Unknown;
                }
            }
            Event::Flush => {
                (self.alive, self.known, self.dirty) = (false, Known::Absent, false);
                self.load = self.load.map(|load| TwinLoad { stale: true, ..load });
                self.tell_all(None, &mut seen);
            }
            Event::Turn(room) => self.turn(room, &mut seen),
            Event::Comes(read) => {
                let load = self.load.filter(|load| load.phase == LoadPhase::Loading)?;
                self.load = None;
                self.comes(load, read, &mut seen);
            }
            Event::OtherComes => {
                if !std::mem::take(&mut self.other) {
                    return None;
                }
                (seen.found, seen.discarded) = (u64::from(self.alive), u64::from(!self.alive));
            }
            Event::Close if self.closed => return None,
            Event::Close => {
                self.closed = true;
                self.tell_all(Some(ErrorKind::Closed), &mut seen);
            }
        }
        Some(seen)
    }

    fn begin(&mut self, seen: &mut Seen) {
        if self.known != Known::Unknown {
            return;
        }
        seen.done = true;
        seen.joined = u64::from(self.load.is_some());
        let fresh = TwinLoad { phase: LoadPhase::Queued, ahead: false, stale: false };
        self.load.get_or_insert(fresh).ahead = false;
        if self.closed {
            (seen.told, seen.failure) = (1, Some(ErrorKind::Closed));
        } else {
            self.waiting += 1;
        }
    }

    fn turn(&mut self, room: Memory, seen: &mut Seen) {
        let Some(load) = self.load.filter(|load| load.phase == LoadPhase::Queued) else { return };
        let needless = load.stale || self.known != Known::Unknown;
        let unwanted = self.waiting == 0 && !load.ahead;
        let is_first = self.waiting > 0 && !self.other;
        match room {
            Memory::Full => {}
            _ if needless || unwanted => {
                self.load = None;
                seen.dropped = 1;
                self.tell_all(None, seen);
            }
            Memory::Tight if self.waiting == 0 => {
                self.load = None;
                seen.dropped = 1;
            }
            Memory::Tight if !is_first => {}
            Memory::Free | Memory::Tight => {
                self.load = Some(TwinLoad { phase: LoadPhase::Loading, ..load });
            }
        }
    }

    fn comes(&mut self, load: TwinLoad, read: Read, seen: &mut Seen) {
        let mut failure = None;
        match read {
            Read::Fails => {
                seen.failed = 1;
                failure = Some(BROKEN.kind);
            }
            _ if load.stale || self.known != Known::Unknown => seen.discarded = 1,
            Read::Found => {
                seen.found = 1;
                (self.known, self.dirty) = (Known::Value, false);
            }
            Read::Absent => {
                seen.absent = 1;
                (self.known, self.dirty) = (Known::Absent, false);
            }
            Read::Expired => {
                seen.expired = 1;
                // It is deleted as any other key is.
                (self.known, self.dirty) = (Known::Absent, true);
            }
        }
        self.tell_all(failure, seen);
    }
}

/// A cache, with what its clients and workers hold.
struct Rig {
    cache: Cache,
    home: MapHome<Vec<u8>>,
    /// Oldest first.
    tokens: Vec<Token<Load>>,
    other: Option<Token<Load>>,
    /// Reads that a worker has.
    reads: Vec<(TokenId, KeyBuf)>,
}

impl Rig {
    fn new(other: bool) -> Self {
        let meta = Meta {
            spaces: vec![SPACE],
            next_space: 2,
            counts: [(SPACE, 10)].into(),
            ..Meta::default()
        };
        let options =
            Options { limit_bytes: 0, databases: 1, load_bytes_max: ROOM, ..Options::default() };
        let now = Now { mono_ms: 1, unix_ms: 1_000 };
        let mut rig = Self {
            cache: Cache::new(options, &meta, writer(), now),
            home: MapHome::default(),
            tokens: Vec::new(),
            other: None,
            reads: Vec::new(),
        };
        if other {
            rig.other = rig.cache.begin_load(&rig.home, [OTHER], OTHERS_TAG);
            rig.turn();
            assert_eq!(rig.reads.len(), 1);
        }
        rig
    }

    fn turn(&mut self) {
        self.cache.load_turn(&mut self.home);
        while let Some(job) = self.cache.next_job() {
            match job.0 {
                Work::Load(job) => self.reads.extend(job.loads.into_iter().zip(job.keys)),
                // A store that was opened is seen to.
                Work::Maintain { .. } => {}
                other => panic!("nothing else was asked for: {other:?}"),
            }
        }
    }

    /// A read of `key` comes back.
    fn comes(&mut self, key: KeyRef<'_>, read: Read) {
        let at = self.reads.iter().position(|(_, read)| read.as_ref() == key);
        let (load, _) = self.reads.remove(at.expect("a worker has it"));
        let loaded = |expires_at_ms| Ok(Some(Loaded { value: vec![1], expires_at_ms }));
        let result = match read {
            Read::Found => loaded(None),
            Read::Expired => loaded(Some(1)),
            Read::Absent => Ok(None),
            Read::Fails => Err(BROKEN),
        };
        let outcome = LoadOutcome { load, result, payload_bytes: 1 };
        self.cache.load_done(vec![outcome], &mut self.home);
    }

    fn set(&mut self, value: Option<Vec<u8>>) {
        let (was, exists) = (self.cache.known(&self.home, KEY), value.is_some());
        let seq = match &value {
            Some(value) => self.cache.put(KEY, None, |out| out.extend(value)),
            None => self.cache.delete(KEY),
        };
        let seq = seq.expect("a short key and value");
        let fresh = self.cache.fresh_state(SPACE);
        let (_, state) = self.home.set(KEY, value, None, fresh);
        let mut now = *state;
        self.cache.changed(KEY, seq, was, exists, &mut now);
        *self.home.set(KEY, exists.then(|| vec![2]), None, fresh).1 = now;
    }

    fn take(&mut self, which: Which) -> Token<Load> {
        match which {
            Which::Oldest => self.tokens.remove(0),
            Which::Newest => self.tokens.pop().expect("somebody waits"),
        }
    }

    fn apply(&mut self, event: Event) -> Seen {
        let before = self.counts();
        let mut done = false;
        match event {
            Event::Begin => {
                let token = self.cache.begin_load(&self.home, [KEY], 1);
                done = token.is_some();
                self.tokens.extend(token);
            }
            Event::Preload => self.cache.preload(&self.home, KEY),
            Event::Leave(which) => {
                let token = self.take(which);
                self.cache.abandon(token);
            }
            Event::Cancel(which) => {
                let token = self.take(which);
                self.cache.cancel(&token);
                self.tokens.push(token);
            }
            Event::Write => self.set(Some(vec![2])),
            Event::Delete => self.set(None),
            Event::Evict => {
                let candidate = Candidate {
                    space: SPACE,
                    hash: KEY.hash,
                    idle_ms: 0,
                    frequency: 0,
                    expires_at_ms: None,
                };
                done = self.cache.forget(candidate, &mut self.home);
            }
            Event::Flush => {
                let old = self.cache.flush(0).expect("there is one database");
                assert_eq!(old, SPACE);
                crate::cache::recover::Replayed::drop_space(&mut self.home, old);
            }
            Event::Turn(room) => {
                let (bytes, loads) =
                    (self.cache.options.load_bytes_max, self.cache.options.loads_max);
                match room {
                    Memory::Free => {}
                    Memory::Tight => self.cache.options.load_bytes_max = 0,
                    Memory::Full => self.cache.options.loads_max = 0,
                }
                self.turn();
                self.cache.options.load_bytes_max = bytes;
                self.cache.options.loads_max = loads;
            }
            Event::Comes(read) => self.comes(KEY, read),
            Event::OtherComes => self.comes(OTHER, Read::Found),
            Event::Close => self.cache.close(),
        }
        let mut seen = difference(self.counts(), before);
        seen.done = done;
        self.hear(&mut seen);
        seen
    }

    /// Clients take what they are told; their keys are theirs until they have run.
    fn hear(&mut self, seen: &mut Seen) {
        let mut completions: Vec<Completion> = Vec::new();
        self.cache.poll_completions(&mut completions);
        for Completion { tag, token } in completions {
            let is_other = tag == OTHERS_TAG;
            let token = if is_other {
                self.other.take().expect("told once")
            } else {
                let at = self.tokens.iter().position(|waiting| waiting.id() == token);
                self.tokens.remove(at.expect("told once, and only while it waits"))
            };
            seen.told += usize::from(!is_other);
            match self.cache.complete_load(token) {
                Ok(pinned) => {
                    let key = if is_other { OTHER } else { KEY };
                    assert!(self.cache.is_pinned(key.space, key.hash), "until it has run");
                    self.cache.unpin(pinned);
                }
                Err(failure) if is_other => assert_eq!(failure.kind, ErrorKind::Closed),
                Err(failure) => seen.failure = Some(failure.kind),
            }
        }
    }

    fn counts(&self) -> Seen {
        let stats = self.cache.stats();
        Seen {
            joined: stats.loads_joined,
            wished: stats.loads_ahead,
            dropped: stats.loads_dropped,
            discarded: stats.loads_discarded,
            found: stats.loads_found,
            absent: stats.loads_absent,
            expired: stats.loads_expired,
            failed: stats.read_failures,
            ..Seen::default()
        }
    }

    fn assert_is(&self, twin: &Twin, way: &[Event]) {
        let loads = &self.cache.loads;
        let load = loads.find(KEY).and_then(|id| loads.get(id));
        let load = load.map(|l| TwinLoad { phase: l.phase, ahead: l.ahead, stale: l.stale });
        assert_eq!(load, twin.load, "{way:?}");
        assert_eq!(self.cache.known(&self.home, KEY), twin.known, "{way:?}");
        assert_eq!(self.tokens.len(), twin.waiting, "{way:?}");
        assert_eq!(self.cache.is_pinned(SPACE, KEY.hash), twin.is_pinned(), "{way:?}");
        let is = |phase| usize::from(twin.load.is_some_and(|load| load.phase == phase));
        let others = usize::from(twin.other);
        let busy = (is(LoadPhase::Queued), is(LoadPhase::Loading) + others);
        assert_eq!((loads.queued(), loads.loading()), busy, "{way:?}");
        loads.assert_whole();
        let others = usize::from(self.other.is_some());
        assert_eq!(self.cache.waiters.blocked(), twin.waiting + others, "{way:?}");
    }

    /// Whatever the state: when everybody is gone and all reads are back, nothing is left.
    fn end(mut self, way: &[Event]) {
        self.tokens.drain(..).chain(self.other.take()).for_each(|t| self.cache.abandon(t));
        self.turn();
        while let Some((_, key)) = self.reads.first().cloned() {
            self.comes(key.as_ref(), Read::Found);
        }
        self.cache.poll_completions(&mut Vec::new());
        let loads = &self.cache.loads;
        assert_eq!((loads.queued(), loads.loading()), (0, 0), "{way:?}");
        assert!(loads.find(KEY).is_none() && self.cache.waiters.blocked() == 0, "{way:?}");
        for key in [KEY, OTHER] {
            assert!(!self.cache.is_pinned(key.space, key.hash), "{way:?}");
        }
    }
}

fn writer() -> Writer {
    let (dir, store) = (SimDir::new(), StoreId([7; 16]));
    let at = EngineAt::default();
    let report = scan(&dir, &store, at, Depth::Needed).expect("an empty directory");
    let accepted = report.accept(false).expect("nothing is missing");
    let opened = Writer::open(Arc::new(dir), store, WriterOptions::default(), &accepted);
    opened.expect("it does not fail").0
}

fn difference(after: Seen, before: Seen) -> Seen {
    Seen {
        joined: after.joined - before.joined,
        wished: after.wished - before.wished,
        dropped: after.dropped - before.dropped,
        discarded: after.discarded - before.discarded,
        found: after.found - before.found,
        absent: after.absent - before.absent,
        expired: after.expired - before.expired,
        failed: after.failed - before.failed,
        ..Seen::default()
    }
}

/// Every state that can be reached from `start`, with a shortest way to it. Checks every event in
/// every state on the way.
fn walk(start: Twin) -> Vec<(Twin, Vec<Event>)> {
    let mut states = vec![(start, Vec::new())];
    let mut next = 0;
    while next < states.len() {
        let (from, way) = states[next].clone();
        next += 1;
        for event in EVENTS {
            let mut twin = from;
            let Some(expected) = twin.apply(event) else { continue };
            let mut rig = Rig::new(start.other);
            for past in &way {
                rig.apply(*past);
            }
            let way = [way.as_slice(), &[event]].concat();
            assert_eq!(rig.apply(event), expected, "{way:?}");
            rig.assert_is(&twin, &way);
            rig.end(&way);
            if !states.iter().any(|(known, _)| *known == twin) {
                states.push((twin, way));
            }
        }
    }
    states
}

#[test]
fn every_event_in_every_state_does_what_the_twin_says() {
    for other in [false, true] {
        let states = walk(Twin::start(other));
        println!("{} states, {} events", states.len(), EVENTS.len());
        // The table of the module's head, and all that can come together in it.
        let is = |what: &dyn Fn(&Twin) -> bool| states.iter().any(|(twin, _)| what(twin));
        for phase in [LoadPhase::Queued, LoadPhase::Loading] {
            for (ahead, stale) in [(false, false), (false, true), (true, false), (true, true)] {
                let load = Some(TwinLoad { phase, ahead, stale });
                assert!(is(&|twin| twin.load == load), "{load:?}");
            }
            for known in [Known::Unknown, Known::Value, Known::Absent] {
                // Nobody waits for what is known.
                let waiting_max = if known == Known::Unknown { WAITING_MAX } else { 0 };
                assert!(!is(&|twin| twin.known == known && twin.waiting > waiting_max));
                for waiting in 0..=waiting_max {
                    let met = |twin: &Twin| {
                        let at = twin.load.map(|load| load.phase);
                        (at, twin.known, twin.waiting) == (Some(phase), known, waiting)
                    };
                    assert!(is(&met), "{phase:?}, {known:?}, {waiting} waiting");
                }
            }
        }
    }
}
