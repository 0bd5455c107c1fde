//! The journal's decoders: forged operations, forged segments, and damage to a real journal.

use std::collections::BTreeMap;
use std::sync::Arc;

use flintlock_diskcache::journal::record::{self, segment_name, take_op};
use flintlock_diskcache::journal::sim::SimDir;
use flintlock_diskcache::journal::{
    Depth, Dir, EngineAt, Group, StoreId, Writer, WriterOptions, scan,
};
use flintlock_diskcache::key::{KeyRef, Seq, Space};

const STORE: StoreId = StoreId(*b"0123456789abcdef");
/// Small, so that a short input fills several segments.
const OPTIONS: WriterOptions = WriterOptions { segment_bytes: 512, unsynced_bytes_max: 1 << 16 };

/// Whatever the bytes: no panic, no allocation beyond the input, and of a damaged journal only what
/// was written, as it was written, in order and without a gap.
///
/// # Panics
/// When one of these is not so.
pub fn journal_decode(data: &[u8]) {
    forged_operations(data);
    forged_segment(data);
    damaged_journal(data);
}

/// Decoding makes progress and ends.
fn forged_operations(data: &[u8]) {
    let mut rest = data;
    let mut seq = Seq(1);
    loop {
        let before = rest.len();
        let Some(op) = take_op(&mut rest, seq) else {
            assert_eq!(rest.len(), before, "a refusal takes nothing");
            break;
        };
        assert!(rest.len() < before, "an operation has bytes");
        assert_eq!(op.seq, seq);
        seq = seq.next();
    }
    if let Some(header) = data.first_chunk::<{ record::FRAME_HEADER_LEN }>()
        && let Some(decoded) = record::FrameHeader::decode(header, &STORE)
    {
        assert_eq!(&decoded.encode(&STORE), header, "a header has one form");
    }
}

/// The whole input as a segment file; then behind a header that is right.
fn forged_segment(data: &[u8]) {
    let header = record::SegmentHeader { store: STORE, first: Seq(1), follows: Seq(0) }.encode();
    for bytes in [data.to_vec(), [&header[..], data].concat()] {
        let dir = SimDir::new();
        write(&dir, &segment_name(Seq(1)), &bytes);
        let _ = replayed(&dir);
    }
}

/// A journal of operations taken from the input, then damaged where the input says.
fn damaged_journal(data: &[u8]) {
    let Some((damage, operations)) = data.split_at_checked(8) else { return };
    let dir = SimDir::new();
    let written = write_journal(&dir, operations);
    let whole = replayed(&dir).expect("an undamaged journal opens");
    assert_eq!(whole, written, "an undamaged journal is read back in full");
    let mut names = dir.list().expect("a simulated directory");
    names.sort();
    let name = &names[usize::from(damage[0]) % names.len()];
    let len = dir.bytes(name).expect("it was listed").len();
    if len == 0 {
        return;
    }
    let at = usize::from(u16::from_le_bytes([damage[1], damage[2]])) % len;
    match damage[3] % 3 {
        0 => dir.flip(name, at, damage[4] | 1),
        1 => dir.cut(name, at),
        _ => dir.zero(name, at, usize::from(damage[4])),
    }
    let Some(found) = replayed(&dir) else { return };
    let prefix: BTreeMap<_, _> =
        written.iter().take(found.len()).map(|(seq, op)| (*seq, op.clone())).collect();
    assert_eq!(found, prefix, "what is replayed is the beginning of what was written");
}

/// Position and text of each operation.
type Ops = BTreeMap<u64, String>;

/// Writes groups of operations taken from `bytes`; gives what was written.
fn write_journal(dir: &SimDir, bytes: &[u8]) -> Ops {
    let shared: Arc<dyn Dir> = Arc::new(dir.clone());
    let report = scan(&*shared, &STORE, EngineAt::default(), Depth::Full).expect("no fault");
    let accepted = report.accept(false).expect("an empty directory is clean");
    let (mut writer, _) = Writer::open(shared, STORE, OPTIONS, &accepted).expect("no fault");
    let mut written = Ops::new();
    let mut next = Seq(1);
    for chunk in bytes.chunks(40).take(64) {
        let mut group = Group::new(next);
        for op in chunk.chunks(10) {
            let (key_part, value) = op.split_at(op.len() / 2);
            let key = KeyRef { space: Space(u32::from(op[0])), hash: 7, key: key_part };
            let pushed = match op[0] % 4 {
                0 => group.push_delete(key),
                1 => group.push_delta(key, |out| out.extend_from_slice(value)),
                2 => group.push_put(key, Some(9), |out| out.extend_from_slice(value)),
                _ => group.push_put(key, None, |out| out.extend_from_slice(value)),
            };
            let seq = pushed.expect("ten bytes fit");
            let text = match op[0] % 4 {
                0 => format!("delete {key:?}"),
                1 => format!("delta {key:?} {value:?}"),
                2 => format!("put {key:?} {:?} {value:?}", Some(9)),
                _ => format!("put {key:?} {:?} {value:?}", None::<u64>),
            };
            written.insert(seq.0, text);
            next = seq.next();
        }
        writer.append(group).expect("no fault");
        if chunk[0] % 2 == 0 {
            writer.sync().expect("no fault");
        }
    }
    writer.close().expect("no fault");
    written
}

/// What a journal gives when it is opened, with losses accepted; `None` when it is refused.
fn replayed(dir: &SimDir) -> Option<Ops> {
    use flintlock_diskcache::journal::OpKind;

    let shared: Arc<dyn Dir> = Arc::new(dir.clone());
    let report = scan(&*shared, &STORE, EngineAt::default(), Depth::Full).ok()?;
    let accepted = report.accept(true).ok()?;
    let (_, mut replay) = Writer::open(shared, STORE, OPTIONS, &accepted).ok()?;
    let mut found = Ops::new();
    while let Some(group) = replay.next_group().ok()? {
        for op in group {
            let op = op.ok()?;
            let text = match &op.kind {
                OpKind::Put { key, expires_at_ms, payload } => {
                    format!("put {key:?} {expires_at_ms:?} {payload:?}")
                }
                OpKind::Delta { key, bytes } => format!("delta {key:?} {bytes:?}"),
                OpKind::Delete { key } => format!("delete {key:?}"),
                OpKind::Meta(map) => format!("meta {map:?}"),
            };
            assert_eq!(found.insert(op.seq.0, text), None, "a position comes once");
        }
    }
    Some(found)
}

fn write(dir: &SimDir, name: &str, bytes: &[u8]) {
    let file = dir.create(name).expect("no fault");
    let mut done = 0;
    while done < bytes.len() {
        done += file.write_at(done as u64, &bytes[done..]).expect("no fault");
    }
    file.sync().expect("no fault");
    dir.sync().expect("no fault");
}
