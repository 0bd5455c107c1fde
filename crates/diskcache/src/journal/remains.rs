//! Every good group of a journal, whatever lies between them: for reading out a damaged store.
//!
//! Worker. Nothing is decided here: whoever reads sees from the positions what is missing. Memory:
//! the largest group.

use std::io;

use crate::journal::StoreId;
use crate::journal::files::{Dir, read_full_at};
use crate::journal::record::{SEGMENT_HEADER_LEN, SegmentHeader, parse_segment_name};
use crate::journal::replay::Ops;
use crate::journal::search::{Frames, Step};
use crate::key::Seq;
use crate::storage::StoreError;

/// What is found, from front to back.
#[derive(Debug)]
pub(crate) enum Piece<'a> {
    /// A segment begins.
    Segment(SegmentHeader),
    /// A good group.
    Group {
        /// Position of its first operation.
        first: Seq,
        /// Its operations.
        ops: Ops<'a>,
    },
    /// Bytes that are no good group.
    Unreadable {
        /// Name of the file.
        segment: &'a str,
        /// The first of them.
        from: u64,
        /// The first behind them.
        to: u64,
    },
}

/// Shows `each` every piece of the journal in `dir` but groups that a later segment repeats.
///
/// # Errors
/// The directory cannot be listed, or the error of `each`. What cannot be read of a file is a
/// piece.
pub(crate) fn read(
    dir: &dyn Dir,
    store: &StoreId,
    each: &mut dyn FnMut(Piece<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let names = match dir.list() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
        names => names.map_err(|e| StoreError::from_io("listing the journal", e))?,
    };
    let mut named: Vec<(Seq, String)> =
        names.into_iter().filter_map(|name| Some((parse_segment_name(&name)?, name))).collect();
    named.sort();
    let headers: Vec<Option<SegmentHeader>> =
        named.iter().map(|(_, name)| header(dir, name, store).ok().flatten()).collect();
    for (i, (_, name)) in named.iter().enumerate() {
        if let Some(header) = headers[i] {
            each(Piece::Segment(header))?;
        }
        let follows = headers[i + 1..].iter().flatten().map(|header| header.follows).next();
        segment(dir, name, store, follows.unwrap_or(Seq(u64::MAX)), each)?;
    }
    Ok(())
}

fn header(dir: &dyn Dir, name: &str, store: &StoreId) -> io::Result<Option<SegmentHeader>> {
    let mut bytes = [0; SEGMENT_HEADER_LEN];
    let got = read_full_at(&*dir.open(name)?, 0, &mut bytes)?;
    Ok(SegmentHeader::decode(&bytes[..got], store).ok())
}

fn segment(
    dir: &dyn Dir,
    name: &str,
    store: &StoreId,
    limit: Seq,
    each: &mut dyn FnMut(Piece<'_>) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let unreadable = |from, to, each: &mut dyn FnMut(Piece<'_>) -> Result<(), StoreError>| {
        each(Piece::Unreadable { segment: name, from, to })
    };
    let begin = SEGMENT_HEADER_LEN as u64;
    let opened = dir.open(name).and_then(|file| Ok((file.len_bytes()?, file)));
    let Ok((len, file)) = opened else { return unreadable(0, 0, each) };
    let Ok(mut frames) = Frames::new(file, *store, begin) else {
        return unreadable(0, len, each);
    };
    loop {
        let at = frames.offset();
        match frames.step() {
            Ok(Step::Good(header)) if header.last() > limit => {}
            Ok(Step::Good(header)) => {
                let ops = Ops::of(header, frames.body(&header));
                each(Piece::Group { first: header.first, ops })?;
            }
            Ok(Step::End) => return Ok(()),
            Ok(Step::Bad) => match frames.find() {
                Ok(Some(_)) => unreadable(at, frames.offset(), each)?,
                Ok(None) | Err(_) => return unreadable(at, len, each),
            },
            Err(_) => return unreadable(at, len, each),
        }
    }
}
