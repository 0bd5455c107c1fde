//! What clients ask for and what happens around them, and how both are drawn.

use flintlock_diskcache::cache::rng::Rng;
use flintlock_diskcache::key::{KeyRef, Space};

pub(crate) const KEYS: u8 = 40;
pub(crate) const DBS: usize = 3;
/// Limits of the memory.
pub(crate) const LIMITS: [u64; 5] = [0, 1, 28 << 10, 40 << 10, 1 << 20];
/// The longest life of a key that has an expiry.
pub(super) const EXPIRY_MAX_MS: u64 = 2000;

/// A command of a client.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Command {
    Get(usize, u8),
    MGet(usize, Vec<u8>),
    Set(usize, u8, Vec<u8>),
    SetExpiring(usize, u8, Vec<u8>, u64),
    Del(usize, u8),
    Append(usize, u8, Vec<u8>),
    /// Moves one unit from one counter to another: an EXEC.
    Transfer(usize, u8, u8),
    Rename(usize, u8, u8),
    Move(usize, usize, u8),
    Flush(usize),
    Swap(usize, usize),
}

/// What happens next.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// A client, if idle, sends a command.
    Send(usize, Command),
    /// A client goes away while it waits, and comes back as a new one.
    Leave(usize),
    /// A client's wait is cancelled.
    Cancel(usize),
    /// A key is asked for ahead of need.
    Preload(usize, u8),
    /// Time passes.
    Wait(u64),
    /// A turn of the loop.
    Turn,
    /// Some queued job runs.
    Run(u64),
    /// Some finished job comes back.
    Deliver(u64),
    /// Somebody asks for a drain.
    Drain,
    /// Somebody asks for a sync.
    Sync,
    /// Somebody asks for a clean end, which then does not come.
    End,
    /// Somebody reads a stretch of keys of a database, from a hash on.
    Scan(usize, u64, usize),
    /// The limits change: the memory, and how long a key may be dirty.
    Limits(u64, u64),
    /// Somebody wants to know now whether the disk can be written.
    Retry,
    /// Faults from now on.
    Faults(u64, u64, u64),
    /// The journal's disk has this many bytes from now on.
    Capacity(Option<u64>),
    /// Little is free on the disk, or enough.
    Low(bool),
    /// The next operation but so many on the journal's disk fails.
    JournalFault(u64, bool),
    /// The process dies; what was not synced survives by chance.
    Crash(u64),
}
pub(crate) fn name_of(key: u8) -> [u8; 4] {
    [b'k', b'e', b'y', key]
}

pub(super) fn hash_of(key: u8) -> u64 {
    // The first keys collide in pairs: a hash is not an identity.
    Rng::new(u64::from(if key < 8 { key / 2 } else { key })).next_u64()
}

pub(crate) fn key_in(space: Space, key: u8, name: &[u8; 4]) -> KeyRef<'_> {
    KeyRef { space, hash: hash_of(key), key: name }
}

impl Command {
    pub(super) fn keys(&self) -> Vec<(usize, u8)> {
        match self {
            Self::Get(db, k) | Self::Del(db, k) | Self::Append(db, k, _) => vec![(*db, *k)],
            Self::MGet(db, ks) => ks.iter().map(|k| (*db, *k)).collect(),
            Self::Transfer(db, a, b) | Self::Rename(db, a, b) => vec![(*db, *a), (*db, *b)],
            Self::Move(from, to, k) => vec![(*from, *k), (*to, *k)],
            // Blind: these need no value.
            Self::Set(..) | Self::SetExpiring(..) | Self::Flush(_) | Self::Swap(..) => Vec::new(),
        }
    }

    pub(super) fn writes(&self) -> bool {
        !matches!(self, Self::Get(..) | Self::MGet(..))
    }
}
/// Draws the next action; the mix makes every state meet every other.
pub(crate) fn draw(rng: &mut Rng, clients: usize) -> Action {
    let client = rng.below(clients as u64) as usize;
    match rng.below(1000) {
        0..=399 => Action::Send(client, draw_command(rng)),
        400..=599 => Action::Turn,
        600..=749 => Action::Run(rng.next_u64()),
        750..=899 => Action::Deliver(rng.next_u64()),
        900..=963 => Action::Wait(rng.below(30)),
        964..=966 => {
            Action::Scan(rng.below(DBS as u64) as usize, rng.next_u64(), 1 + rng.below(9) as usize)
        }
        967 => Action::Retry,
        // From far too small for the keys to far more than they take.
        968 => Action::Limits(LIMITS[rng.below(5) as usize], rng.below(300)),
        969 => Action::Wait(100),
        970..=974 => Action::Leave(client),
        975..=978 => Action::Cancel(client),
        979..=980 => Action::Drain,
        981..=982 => Action::Preload(rng.below(DBS as u64) as usize, rng.below(KEYS.into()) as u8),
        983..=985 => Action::Sync,
        986 => Action::End,
        987..=989 => Action::Faults(rng.below(300), rng.below(500), rng.below(1000)),
        990..=993 => Action::Faults(0, 0, 0),
        994 => Action::JournalFault(rng.below(6), rng.below(2) == 0),
        995 => Action::Capacity(Some(rng.below(20_000))),
        996..=997 => Action::Capacity(None),
        998 if rng.below(2) == 0 => Action::Low(rng.below(3) == 0),
        998 => Action::Wait(500),
        // Rarely, so that lives are long enough for everything to meet everything.
        _ if rng.below(3) == 0 => Action::Crash(rng.next_u64()),
        _ => Action::Turn,
    }
}

pub(crate) fn draw_command(rng: &mut Rng) -> Command {
    // Some keys are hotter than others.
    let db = rng.below(DBS as u64) as usize;
    let span = u64::from(KEYS);
    let k = rng.below(1 + rng.clone().below(span)) as u8;
    let other = rng.below(span) as u8;
    let value: Vec<u8> = (0..=rng.below(100)).map(|_| rng.next_u64() as u8).collect();
    match rng.below(100) {
        0..=34 => Command::Get(db, other),
        35..=41 => Command::MGet(db, (0..5).map(|i| (other + i * 7) % KEYS).collect()),
        42..=59 => Command::Set(db, k, value),
        60..=64 => Command::SetExpiring(db, k, value, 1 + rng.below(EXPIRY_MAX_MS)),
        65..=76 => Command::Del(db, other),
        77..=84 => Command::Append(db, k, value[..value.len().min(9)].to_vec()),
        85..=90 => Command::Transfer(db, k, other),
        91..=93 => Command::Rename(db, k, other),
        94..=97 => Command::Move(db, (db + 1) % DBS, other),
        98 => Command::Flush(db),
        _ => Command::Swap(db, (db + 1) % DBS),
    }
}
