//! The journal under crashes and faults at every boundary: what was synced is always there, what
//! was not is there as a whole prefix of groups or not at all, and no torn tail is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use flintlock_diskcache::journal::sim::{Fault, Kept, SimDir};
use flintlock_diskcache::journal::{
    Depth, EngineAt, Group, OpKind, Report, StoreId, Verdict, Writer, WriterOptions, scan,
};
use flintlock_diskcache::key::{KeyRef, Seq, Space};
use flintlock_diskcache::storage::{ErrorKind, StoreError};

const STORE: StoreId = StoreId([3; 16]);
const SMALL: WriterOptions = WriterOptions { segment_bytes: 2_000, unsynced_bytes_max: 3_000 };

struct Draw(u64);

impl Draw {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 =
            self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

/// What the test knows beside the disk.
#[derive(Default)]
struct Known {
    /// First and last operation of each group that was handed over.
    groups: Vec<(Seq, Seq)>,
    /// Highest position that a call has reported as durable.
    durable: Seq,
    engine: EngineAt,
}

fn payload(seq: u64) -> Vec<u8> {
    let len = usize::try_from(seq * 37 % 600).expect("below 600");
    (0..len).map(|i| u8::try_from((seq + i as u64) % 251).expect("below 251")).collect()
}

fn group(first: Seq, count: u64) -> Group {
    let mut group = Group::new(first);
    for _ in 0..count {
        let seq = group.next_seq().0;
        let key = KeyRef { space: Space(1), hash: seq, key: b"key" };
        let body = payload(seq);
        group.push_put(key, None, |out| out.extend_from_slice(&body)).expect("small");
    }
    group
}

/// Appends, syncs and trims as drawn; the first error ends it unless `stubborn`.
fn work(writer: &mut Writer, known: &mut Known, draw: &mut Draw, steps: u64, stubborn: bool) {
    for _ in 0..steps {
        let done = match draw.below(8) {
            0..=3 => {
                let group = group(writer.next_seq(), 1 + draw.below(4));
                known.groups.push((group.first_seq(), group.last_seq()));
                writer.append(group)
            }
            4..=6 => writer.sync().map(|_| ()),
            _ => {
                let upto = Seq(known.engine.watermark.0.midpoint(writer.durable().0));
                let highest = known.engine.highest.max(writer.durable());
                known.engine = EngineAt { watermark: upto, highest };
                writer.trim(upto).map(|_| ())
            }
        };
        assert!(writer.durable() >= known.durable, "durable only rises");
        known.durable = writer.durable();
        if done.is_err() && !stubborn {
            return;
        }
    }
}

fn open(dir: &SimDir, known: &Known) -> Result<(Writer, Report), StoreError> {
    let report = scan(dir, &STORE, known.engine, Depth::Needed)?;
    let accepted = report.clone().accept(false).expect("a torn tail is never refused");
    let dir = Arc::new(dir.clone());
    let (writer, mut replay) = Writer::open(dir, STORE, SMALL, &accepted)?;
    let expected = (known.groups.iter()).flat_map(|(first, last)| first.0..=last.0);
    let mut expected = expected.filter(|seq| known.engine.watermark.0 < *seq);
    while let Some(ops) = replay.next_group()? {
        for op in ops {
            let op = op?;
            assert_eq!(Some(op.seq.0), expected.next(), "in order, none missing, none twice");
            let OpKind::Put { payload: got, .. } = op.kind else { panic!("only puts were logged") };
            assert_eq!(got, payload(op.seq.0));
        }
    }
    assert!(expected.next().is_none_or(|seq| seq > report.end.0), "to the end of what is whole");
    Ok((writer, report))
}

/// Checks what a crash left against what the test knows, and forgets what is gone.
fn check(report: &Report, known: &mut Known) {
    assert!(report.end >= known.durable, "{} lost to {}", known.durable.0, report.end.0);
    let whole = report.end == Seq(0) || known.groups.iter().any(|(_, last)| *last == report.end);
    assert!(whole || report.end == known.engine.watermark, "a group was taken in part");
    known.groups.retain(|(_, last)| *last <= report.end);
    known.durable = report.end;
}

/// One life on `dir` with a fault at operation `at`, counted from the start of the life.
fn life(dir: &SimDir, known: &mut Known, draw: &mut Draw, at: u64, fault: Fault) -> u64 {
    let before = dir.ops();
    dir.plan(before + at, fault);
    let stubborn = fault != Fault::Power;
    let writer = loop {
        match open(dir, known) {
            Ok((writer, report)) => {
                check(&report, known);
                break Some(writer);
            }
            Err(_) if stubborn => {}
            Err(_) => break None,
        }
    };
    if let Some(mut writer) = writer {
        work(&mut writer, known, draw, 24, stubborn);
        if stubborn {
            writer.close().or_else(|_| writer.close()).expect("the fault was a single one");
            known.durable = writer.durable();
        }
    }
    let used = dir.ops() - before;
    dir.mend();
    used
}

fn images(seed: u64) -> impl Iterator<Item = Kept> {
    [Kept::Nothing, Kept::All].into_iter().chain((0..3).map(move |i| Kept::Some(seed * 31 + i)))
}

#[test]
fn a_crash_at_every_boundary_loses_nothing_that_was_synced() {
    let rounds = if cfg!(debug_assertions) { 12 } else { 100 };
    for seed in 0..rounds {
        let mut total = u64::MAX;
        let mut at = 0;
        while at < total {
            for kept in images(seed * 1_000 + at) {
                let mut dir = SimDir::new();
                let mut known = Known::default();
                let mut draw = Draw(seed);
                // A first life to the end (every other time: the cut then hits the creation of the
                // journal too), then one with the power cut at `at`, then one with the power cut
                // during recovery, then one that must find everything.
                if seed % 2 == 0 {
                    life(&dir, &mut known, &mut draw, u64::MAX / 2, Fault::Power);
                    dir = dir.crash(kept);
                }
                let used = life(&dir, &mut known, &mut draw, at, Fault::Power);
                dir = dir.crash(kept);
                life(&dir, &mut known, &mut draw, at * 7 % 64, Fault::Power);
                dir = dir.crash(kept);
                let (_, report) = open(&dir, &known).unwrap_or_else(|e| panic!("seed {seed}: {e}"));
                check(&report, &mut known);
                if kept == Kept::Nothing && used < at {
                    total = 0;
                }
            }
            at += 1;
        }
    }
}

#[test]
fn a_fault_at_every_boundary_is_overcome_and_nothing_is_lost() {
    for fault in [Fault::Io, Fault::NoSpace, Fault::Short] {
        for seed in 0..3 {
            let mut at = 0;
            loop {
                let dir = SimDir::new();
                let mut known = Known::default();
                let mut draw = Draw(seed);
                life(&dir, &mut known, &mut draw, u64::MAX / 2, fault);
                let used = life(&dir, &mut known, &mut draw, at, fault);
                // Everything was synced in the end, so a crash that keeps nothing else is enough.
                let dir = dir.crash(Kept::Nothing);
                let (_, report) = open(&dir, &known).unwrap();
                assert_eq!(report.verdict, Verdict::Clean, "{fault:?} at {at}, seed {seed}");
                check(&report, &mut known);
                if used < at {
                    break;
                }
                at += 1;
            }
        }
    }
}

#[test]
fn a_failed_sync_is_never_followed_by_a_false_claim() {
    let dir = SimDir::new();
    let mut known = Known::default();
    let (mut writer, _) = open(&dir, &known).unwrap();
    writer.append(group(Seq(1), 2)).unwrap();
    assert_eq!(writer.sync().unwrap(), Seq(2));
    writer.append(group(Seq(3), 2)).unwrap();
    dir.plan(dir.ops(), Fault::Io);
    assert!(writer.sync().is_err());
    assert_eq!(writer.durable(), Seq(2));
    // The disk now claims to be well; only what is written again counts.
    assert_eq!(writer.sync().unwrap(), Seq(4));
    known.durable = Seq(4);
    known.groups = vec![(Seq(1), Seq(2)), (Seq(3), Seq(4))];
    let (_, report) = open(&dir.crash(Kept::Nothing), &known).unwrap();
    check(&report, &mut known);
}

#[test]
fn a_full_disk_is_overcome_once_there_is_room() {
    let dir = SimDir::new();
    let mut known = Known::default();
    let (mut writer, _) = open(&dir, &known).unwrap();
    writer.append(group(Seq(1), 20)).unwrap();
    writer.sync().unwrap();
    dir.set_capacity(Some(0));
    let next = writer.next_seq();
    let error = writer.append(group(next, 40)).expect_err("there is no room");
    assert_eq!(error.kind, ErrorKind::NoSpace);
    assert!(writer.sync().is_err() && writer.durable() == Seq(20));
    dir.set_capacity(None);
    assert_eq!(writer.sync().unwrap(), Seq(60));
    known.groups = vec![(Seq(1), Seq(20)), (Seq(21), Seq(60))];
    assert_eq!(open(&dir.crash(Kept::Nothing), &known).unwrap().1.end, Seq(60));
}

#[test]
fn positions_skipped_behind_a_torn_tail_are_not_taken_for_lost() {
    let dir = SimDir::new();
    let mut known = Known::default();
    let (mut writer, _) = open(&dir, &known).unwrap();
    writer.append(group(Seq(1), 3)).unwrap();
    known.groups.push((Seq(1), Seq(3)));
    known.durable = writer.sync().unwrap();
    let torn_at = usize::try_from(writer.stats().disk_bytes).expect("a small file");
    writer.append(group(Seq(4), 2)).unwrap();
    writer.append(group(Seq(6), 2)).unwrap();

    // The first of the unsynced groups did not reach the disk, the second did: its positions were
    // seen and are not given out again.
    let dir = dir.crash(Kept::All);
    dir.zero("journal-00000000000000000001.log", torn_at, 40);
    let (mut writer, report) = open(&dir, &known).unwrap();
    assert_eq!((report.end, writer.next_seq(), writer.durable()), (Seq(3), Seq(8), Seq(3)));

    // What comes next is there after a crash although nothing proves it, and is repeated.
    writer.append(group(Seq(8), 2)).unwrap();
    known.groups.push((Seq(8), Seq(9)));
    let dir = dir.crash(Kept::All);
    let (writer, report) = open(&dir, &known).unwrap();
    assert_eq!((report.end, writer.durable()), (Seq(9), Seq(9)));

    let dir = dir.crash(Kept::Nothing);
    let (writer, report) = open(&dir, &known).unwrap();
    assert_eq!((report.end, writer.durable()), (Seq(9), Seq(9)));
}

/// The group was gone, and no later one was taken, since positions must follow one another.
#[test]
fn a_value_whose_encoder_panics_holds_the_journal_up_and_loses_nothing() {
    let dir = SimDir::new();
    let mut known = Known::default();
    let (mut writer, _) = open(&dir, &known).expect("a good disk");
    let is_broken = Arc::new(AtomicBool::new(true));
    for number in 0..3 {
        let mut group = group(writer.next_seq(), 2);
        if number == 1 {
            let seq = group.next_seq().0;
            let (is_broken, body) = (Arc::clone(&is_broken), payload(seq));
            let len = body.len();
            let encode = move |out: &mut Vec<u8>| {
                out.extend_from_slice(&body[..len / 2]);
                assert!(!is_broken.load(Ordering::Relaxed), "a value that is not as it should be");
                out.extend_from_slice(&body[len / 2..]);
            };
            let key = KeyRef { space: Space(1), hash: seq, key: b"key" };
            group.push_put_later(key, None, len, Box::new(encode)).expect("small");
        }
        known.groups.push((group.first_seq(), group.last_seq()));
        let done = writer.append(group).map_err(|error| error.kind);
        assert_eq!(done, if number == 0 { Ok(()) } else { Err(ErrorKind::Corrupt) });
    }
    let ends = [0, 2].map(|number: usize| known.groups[number].1);
    for _ in 0..2 {
        let error = writer.sync().expect_err("it is no better yet");
        assert_eq!(error.kind, ErrorKind::Corrupt);
        assert_eq!(writer.durable(), ends[0], "what lies before it is safe");
    }
    is_broken.store(false, Ordering::Relaxed);
    assert_eq!(writer.sync().expect("a good disk"), ends[1]);
    drop(writer);
    let (_, report) = open(&dir.crash(Kept::Nothing), &known).expect("a good disk");
    assert_eq!(report.end, ends[1]);
}
