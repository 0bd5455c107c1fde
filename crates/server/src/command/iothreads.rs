//! FLINT.IOTHREADS: what the network workers' pool decided, and why.
//!
//! Not a command of Redis. Reading the log wakes nobody and activates nothing.

use crate::offload::Offload;
use crate::resp::encode::Reply;
use crate::types::number::parse_i64;

use super::{Command, Ctx, Error, Flags, Keys, Request};

const ANY: Flags = Flags::LOADING.or(Flags::STALE);
const LOG: [Flags; 3] = [ANY, Flags::ADMIN, Flags::NOSCRIPT];

/// The rows of this family.
pub(super) fn commands() -> Vec<Command> {
    vec![
        Command::new("flint.iothreads", super::container, -2, &[Flags::CONTAINER], Keys::NONE),
        Command::new("flint.iothreads|log", log, -2, &LOG, Keys::NONE),
        Command::new("flint.iothreads|help", super::help, 2, &[ANY], Keys::NONE),
    ]
}

/// Decisions that changed the number of active workers, the newest first; at most `count`.
fn log(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let most = match request.len() {
        2 => usize::MAX,
        3 => {
            let count = parse_i64(request.arg(2)).ok_or(Error::NOT_INTEGER)?;
            usize::try_from(count).map_err(|_| Error::fixed("ERR count must not be negative"))?
        }
        _ => return Err(Error::arity(request.command.name)),
    };
    let decisions: Vec<_> =
        ctx.server.offload.iter().flat_map(Offload::decisions).take(most).collect();
    reply.array(decisions.len());
    for logged in decisions {
        let (change, sample) = (logged.change, &logged.change.sample);
        let reason = change.reason.to_string();
        // Minus one: the system does not tell.
        let known = |value: Option<u32>| value.map_or(-1, i64::from);
        let numbers = [
            ("unix-time-ms", i64::try_from(logged.unix_ms).unwrap_or(i64::MAX)),
            ("active-before", change.from as i64),
            ("active-after", change.to as i64),
            ("main-busy-permille", known(sample.main_busy_permille)),
            ("main-waited-permille", i64::from(sample.main_waited_permille)),
            ("workers-busy-permille", i64::from(sample.workers_busy_permille)),
            ("spare-permille", known(sample.spare_permille)),
            ("jobs-per-turn", i64::from(sample.jobs_per_turn)),
            ("depth", i64::from(sample.depth)),
            ("usable-cpus", sample.usable_cpus as i64),
        ];
        reply.map(numbers.len() + 1);
        reply.bulk(b"reason");
        reply.bulk(reason.as_bytes());
        for (name, number) in numbers {
            reply.bulk(name.as_bytes());
            reply.int(number);
        }
    }
    Ok(())
}
