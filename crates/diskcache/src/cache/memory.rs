//! The byte ledger: every byte that counts against the limit, by account. Pure; main thread.
//!
//! The limit covers what the cache makes grow: values and keys, absent entries, the dirty queue,
//! journal buffers, the batches in flight, loads in flight, waiting clients' records and the
//! engine's own caches. A limit on values alone is how a tier runs out of memory while its
//! figures look fine.
//!
//! Source: fjall, measured: 124 to 292 MiB of memory for a cache of 64 MiB.

/// Where bytes are.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Account {
    /// Values, keys and absent entries, as the home counts them.
    Home,
    /// Nodes of dirty keys and, while few are clean, of those saved last.
    DirtyQueue,
    /// Operations not yet written, and buffers kept for them.
    Journal,
    /// The batches being built and committed.
    Batch,
    /// Keys and stretches being read, and what was read and not taken in yet.
    Loads,
    /// Records of waiting clients.
    Waiters,
    /// Caches and tables of the engine.
    Engine,
}

impl Account {
    /// All accounts, with the names that INFO shows.
    pub const ALL: [(Self, &'static str); 7] = [
        (Self::Home, "home"),
        (Self::DirtyQueue, "dirty_queue"),
        (Self::Journal, "journal"),
        (Self::Batch, "batch"),
        (Self::Loads, "loads"),
        (Self::Waiters, "waiters"),
        (Self::Engine, "engine"),
    ];
}

/// Bytes by account, and the limit.
#[derive(Clone, Debug)]
pub struct Ledger {
    bytes: [u64; Account::ALL.len()],
    limit: u64,
    peak: u64,
}

impl Ledger {
    /// An empty ledger; a `limit` of 0 is no limit.
    #[must_use]
    pub const fn new(limit: u64) -> Self {
        Self { bytes: [0; Account::ALL.len()], limit, peak: 0 }
    }

    /// Sets one account.
    pub fn set(&mut self, account: Account, bytes: u64) {
        self.bytes[account as usize] = bytes;
    }

    /// Bytes in one account.
    #[must_use]
    pub const fn get(&self, account: Account) -> u64 {
        self.bytes[account as usize]
    }

    /// Bytes in all accounts.
    #[must_use]
    pub fn used(&self) -> u64 {
        self.bytes.iter().sum()
    }

    /// Notes the high-water mark.
    pub fn note_peak(&mut self) {
        self.peak = self.peak.max(self.used());
    }

    /// The most that was ever noted.
    #[must_use]
    pub const fn peak(&self) -> u64 {
        self.peak
    }

    /// The limit, 0 for none.
    #[must_use]
    pub const fn limit(&self) -> u64 {
        self.limit
    }

    /// Changes the limit.
    pub const fn set_limit(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// Bytes above the limit.
    #[must_use]
    pub fn excess(&self) -> u64 {
        if self.limit == 0 { 0 } else { self.used().saturating_sub(self.limit) }
    }

    /// Bytes left below the limit.
    #[must_use]
    pub fn room(&self) -> u64 {
        if self.limit == 0 { u64::MAX } else { self.limit.saturating_sub(self.used()) }
    }

    /// `permille` thousandths of the limit; everything when there is none.
    #[must_use]
    pub const fn share(&self, permille: u64) -> u64 {
        if self.limit == 0 { u64::MAX } else { self.limit / 1000 * permille }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_add_up_against_the_limit() {
        let mut ledger = Ledger::new(1000);
        for (at, (account, _)) in Account::ALL.iter().enumerate() {
            assert_eq!(*account as usize, at, "ALL is in order");
            ledger.set(*account, 150);
        }
        ledger.note_peak();
        assert_eq!((ledger.used(), ledger.excess(), ledger.room()), (1050, 50, 0));
        ledger.set(Account::Home, 0);
        assert_eq!((ledger.used(), ledger.excess(), ledger.room()), (900, 0, 100));
        assert_eq!((ledger.peak(), ledger.share(250)), (1050, 250));
        ledger.set_limit(0);
        assert_eq!((ledger.excess(), ledger.room()), (0, u64::MAX));
    }
}
