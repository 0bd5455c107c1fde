//! MEMORY: what a key takes.

use crate::resp::encode::Reply;
use crate::types::number::parse_i64;

use super::{Command, Ctx, Error, Flags, Keys, Request};

/// Bytes of a slot of the table, which each key has besides its entry.
const SLOT_BYTES: usize = 8;

/// The rows of this family.
pub(super) fn commands() -> Vec<Command> {
    let help = &[Flags::LOADING, Flags::STALE];
    vec![
        Command::new("memory", super::container, -2, &[Flags::CONTAINER], Keys::NONE),
        Command::new("memory|usage", usage, -3, &[Flags::READONLY], Keys::SECOND),
        Command::new("memory|help", super::help, 2, help, Keys::NONE),
    ]
}

/// The bytes of a key with its value, of a collection with all of its elements: its memory is
/// counted as it grows, so SAMPLES is checked and not needed.
fn usage(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let mut words = request.from(3);
    while let Some(word) = words.next() {
        let samples = words.next().filter(|_| word.eq_ignore_ascii_case(b"samples"));
        let samples = parse_i64(samples.ok_or(Error::SYNTAX)?).ok_or(Error::NOT_INTEGER)?;
        if samples < 0 {
            return Err(Error::SYNTAX);
        }
    }
    match ctx.find_untouched(ctx.key(request, 2)) {
        Some(loc) => reply.count(ctx.entry(loc).memory_bytes() + SLOT_BYTES),
        None => reply.null(),
    }
    Ok(())
}
