//! The types of configuration fields that are more than a number or a flag. Pure; any thread.
//!
//! Each type can only hold what the server can act on, so code that reads the configuration
//! never validates again.

use std::fmt;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::num::NonZeroU16;

/// Declares an enumeration whose variants have the names that configuration files use.
macro_rules! choices {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Copy, Clone, Eq, PartialEq, Debug)]
        pub enum $name { $($(#[$doc])* $variant,)+ }

        impl $name {
            /// Every variant, in the order in which errors list the names.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
            /// The names of [`Self::ALL`], in the same order.
            pub const NAMES: &'static [&'static str] = &[$($text),+];

            /// The name that configuration files use.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }
    };
}

choices! {
    /// What gives way when memory is full: `maxmemory-policy`.
    EvictionPolicy {
        /// Least recently used among keys with an expiry.
        VolatileLru = "volatile-lru",
        /// Least frequently used among keys with an expiry.
        VolatileLfu = "volatile-lfu",
        /// Any key with an expiry.
        VolatileRandom = "volatile-random",
        /// The key that expires soonest.
        VolatileTtl = "volatile-ttl",
        /// Least recently used among all keys.
        AllkeysLru = "allkeys-lru",
        /// Least frequently used among all keys.
        AllkeysLfu = "allkeys-lfu",
        /// Any key.
        AllkeysRandom = "allkeys-random",
        /// Nothing: writes that need memory are refused.
        NoEviction = "noeviction",
    }
}

choices! {
    /// When an acknowledged write is on the disk: `appendfsync`.
    Fsync {
        /// At the latest after `journal-sync-ms`.
        EverySec = "everysec",
        /// Before the answer.
        Always = "always",
        /// When the operating system likes.
        No = "no",
    }
}

choices! {
    /// Where the data lives: `store`.
    StoreKind {
        /// In a directory on disk, larger than memory; the default.
        Fjall = "fjall",
        /// In memory only: gone with the process.
        Memory = "memory",
    }
}

choices! {
    /// Who may use a guarded command: `enable-debug-command`.
    DebugCommand {
        /// Nobody.
        No = "no",
        /// Every client.
        Yes = "yes",
        /// Clients on this machine.
        Local = "local",
    }
}

/// A password: never shown by Debug.
///
/// # Examples
/// ```
/// use flintlock_server::config::Secret;
///
/// let secret = Secret::new(b"tulip".to_vec());
/// assert!(!format!("{secret:?}").contains("tulip"));
/// assert_eq!(secret.expose(), b"tulip");
/// ```
#[derive(Clone, Eq, PartialEq, Default)]
pub struct Secret(Vec<u8>);

impl Secret {
    /// Takes the bytes; an empty secret means that there is none.
    #[must_use]
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }

    /// Whether no secret is set.
    #[must_use]
    pub const fn is_unset(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes: for comparing in constant time and for CONFIG GET, for nothing else.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_unset() { "Secret(unset)" } else { "Secret(...)" })
    }
}

/// Most memory that all clients together may take: `maxmemory-clients`.
///
/// # Examples
/// ```
/// use flintlock_server::config::ClientMemoryLimit;
///
/// assert_eq!(ClientMemoryLimit::Bytes(0).bytes(0), None);
/// assert_eq!(ClientMemoryLimit::Percent(5).bytes(100 << 20), Some(5 << 20));
/// assert_eq!(ClientMemoryLimit::Percent(5).bytes(0), None);
/// ```
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum ClientMemoryLimit {
    /// So many bytes; 0: no limit.
    Bytes(u64),
    /// This share of `maxmemory`, in per cent; no limit without one.
    Percent(u8),
}

impl ClientMemoryLimit {
    /// A lower limit would let nobody in who could raise it.
    const MIN_BYTES: u64 = 128 * 1024;

    /// The limit in bytes, if there is one, given `maxmemory`.
    ///
    /// Source: redis-server 7.0.15, which also takes the share of no limit for none.
    #[must_use]
    pub fn bytes(self, maxmemory_bytes: u64) -> Option<u64> {
        let bytes = match self {
            Self::Bytes(bytes) => bytes,
            // In this order nothing overflows; what is lost is less than a hundred bytes.
            Self::Percent(share) => maxmemory_bytes / 100 * u64::from(share.min(100)),
        };
        (bytes > 0).then_some(bytes.max(Self::MIN_BYTES))
    }
}

/// A number of threads, or the server's own choice.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum Threads {
    /// As many as the machine and the load call for.
    Auto,
    /// This many, the calling thread included.
    Fixed(NonZeroU16),
}

/// One address of `bind`.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct BindAddress {
    /// Written with a leading `-`: an address this machine does not have is no error.
    pub optional: bool,
    /// As written: `*`, `::*`, an IP address, or a host name.
    pub host: String,
}

impl BindAddress {
    /// Reads one word of `bind`; None if it is not text.
    #[must_use]
    pub fn parse(word: &[u8]) -> Option<Self> {
        let (optional, host) = match word {
            [b'-', host @ ..] => (true, host),
            host => (false, host),
        };
        Some(Self { optional, host: String::from_utf8(host.to_vec()).ok()? })
    }

    /// The socket addresses to listen on.
    ///
    /// Start-up only: a host name is looked up, which may block on the network.
    ///
    /// # Errors
    /// The host name is not known, or the resolver failed.
    pub fn resolve(&self, port: u16) -> io::Result<Vec<SocketAddr>> {
        match self.host.as_str() {
            "*" => Ok(vec![(Ipv4Addr::UNSPECIFIED, port).into()]),
            "::*" => Ok(vec![(Ipv6Addr::UNSPECIFIED, port).into()]),
            host => Ok((host, port).to_socket_addrs()?.collect()),
        }
    }
}

impl fmt::Display for BindAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", if self.optional { "-" } else { "" }, self.host)
    }
}

/// How much may wait to be sent to one client before it is disconnected.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct OutputLimit {
    /// More than this: at once. 0: no limit.
    pub hard_bytes: u64,
    /// More than this for `soft_seconds`. 0: no limit.
    pub soft_bytes: u64,
    /// How long the soft limit may be exceeded.
    pub soft_seconds: u32,
}

/// `client-output-buffer-limit`, for each class of clients.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct OutputLimits {
    /// Ordinary clients.
    pub normal: OutputLimit,
    /// Replicas.
    pub replica: OutputLimit,
    /// Clients with a subscription.
    pub pubsub: OutputLimit,
}

impl Default for OutputLimits {
    fn default() -> Self {
        let limit = |hard_bytes, soft_bytes, soft_seconds| OutputLimit {
            hard_bytes,
            soft_bytes,
            soft_seconds,
        };
        Self {
            normal: limit(0, 0, 0),
            replica: limit(256 << 20, 64 << 20, 60),
            pubsub: limit(32 << 20, 8 << 20, 60),
        }
    }
}

impl OutputLimits {
    /// The limits of an ordinary client, or of one with a subscription.
    pub(crate) fn of_client(&self, subscribes: bool) -> OutputLimit {
        if subscribes { self.pubsub } else { self.normal }
    }

    /// The limits of a class by its name, if there is such a class.
    pub(super) fn class_mut(&mut self, name: &[u8]) -> Option<&mut OutputLimit> {
        match name.to_ascii_lowercase().as_slice() {
            b"normal" => Some(&mut self.normal),
            b"slave" | b"replica" => Some(&mut self.replica),
            b"pubsub" => Some(&mut self.pubsub),
            _ => None,
        }
    }
}

/// What SHUTDOWN, or a signal, says about saving.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub enum EndSave {
    /// Everything is to be durable; the engine gets what it can take in time.
    #[default]
    Usual,
    /// SAVE: the engine must take all of it.
    All,
    /// NOSAVE: one attempt at making it durable, and the end whatever comes of it.
    No,
}

impl EndSave {
    /// What these words say, unless they contradict each other.
    pub(crate) fn of(save: bool, nosave: bool) -> Option<Self> {
        match (save, nosave) {
            (true, true) => None,
            (true, false) => Some(Self::All),
            (false, true) => Some(Self::No),
            (false, false) => Some(Self::Usual),
        }
    }
}

/// How the server is to end: the words of SHUTDOWN, `shutdown-on-sigterm` and `shutdown-on-sigint`.
#[derive(Copy, Clone, Eq, PartialEq, Debug, Default)]
pub struct EndHow {
    /// What must be saved.
    pub save: EndSave,
    /// NOW: wait for nothing but durability.
    pub now: bool,
    /// FORCE: end in spite of errors.
    pub force: bool,
}

/// Classes of keyspace events, the letters of `notify-keyspace-events`.
#[derive(Copy, Clone, Eq, PartialEq, Default)]
pub struct NotifyFlags(u16);

impl NotifyFlags {
    /// Events are published by key: `K`.
    pub const KEYSPACE: Self = Self(1 << 0);
    /// Events are published by event: `E`.
    pub const KEYEVENT: Self = Self(1 << 1);
    /// DEL, EXPIRE, RENAME and others that suit every type: `g`.
    pub const GENERIC: Self = Self(1 << 2);
    /// Commands on strings: `$`.
    pub const STRING: Self = Self(1 << 3);
    /// Commands on lists: `l`.
    pub const LIST: Self = Self(1 << 4);
    /// Commands on sets: `s`.
    pub const SET: Self = Self(1 << 5);
    /// Commands on hashes: `h`.
    pub const HASH: Self = Self(1 << 6);
    /// Commands on sorted sets: `z`.
    pub const ZSET: Self = Self(1 << 7);
    /// A key expired: `x`.
    pub const EXPIRED: Self = Self(1 << 8);
    /// A key was evicted: `e`.
    pub const EVICTED: Self = Self(1 << 9);
    /// Commands on streams: `t`.
    pub const STREAM: Self = Self(1 << 10);
    /// Types of modules: `d`.
    pub const MODULE: Self = Self(1 << 11);
    /// A key that is not there was asked for: `m`.
    pub const KEY_MISS: Self = Self(1 << 12);
    /// A key was created: `n`.
    pub const NEW: Self = Self(1 << 13);

    /// The letters in the order in which they are shown.
    const LETTERS: [(u8, Self); 14] = [
        (b'g', Self::GENERIC),
        (b'$', Self::STRING),
        (b'l', Self::LIST),
        (b's', Self::SET),
        (b'h', Self::HASH),
        (b'z', Self::ZSET),
        (b'x', Self::EXPIRED),
        (b'e', Self::EVICTED),
        (b't', Self::STREAM),
        (b'd', Self::MODULE),
        (b'n', Self::NEW),
        (b'K', Self::KEYSPACE),
        (b'E', Self::KEYEVENT),
        (b'm', Self::KEY_MISS),
    ];

    /// The first letters of [`Self::LETTERS`], for which `A` stands.
    const IN_ALL: usize = 10;

    /// Reads the letters; None if one is unknown.
    #[must_use]
    pub fn parse(letters: &[u8]) -> Option<Self> {
        letters.iter().try_fold(Self::default(), |flags, &letter| {
            if letter == b'A' {
                return Some(Self(flags.0 | Self::all().0));
            }
            let (_, flag) = Self::LETTERS.iter().find(|(known, _)| *known == letter)?;
            Some(Self(flags.0 | flag.0))
        })
    }

    /// Whether any class of `other` is on.
    #[must_use]
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn all() -> Self {
        Self(Self::LETTERS[..Self::IN_ALL].iter().fold(0, |bits, (_, flag)| bits | flag.0))
    }
}

impl fmt::Display for NotifyFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let all = self.0 & Self::all().0 == Self::all().0;
        let skipped = if all { Self::IN_ALL } else { 0 };
        f.write_str(if all { "A" } else { "" })?;
        Self::LETTERS[skipped..]
            .iter()
            .filter(|(_, flag)| self.intersects(*flag))
            .try_for_each(|(letter, _)| write!(f, "{}", char::from(*letter)))
    }
}

impl fmt::Debug for NotifyFlags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "NotifyFlags({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bind_addresses_are_read_and_shown() {
        let cases = [
            ("127.0.0.1", false, "127.0.0.1:7"),
            ("-::1", true, "[::1]:7"),
            ("*", false, "0.0.0.0:7"),
            ("-::*", true, "[::]:7"),
        ];
        for (word, optional, expected) in cases {
            let address = BindAddress::parse(word.as_bytes()).expect("an address");
            assert_eq!((address.optional, address.to_string().as_str()), (optional, word));
            let resolved = address.resolve(7).expect("no look-up needed");
            assert_eq!(resolved, [expected.parse().expect("a socket address")]);
        }
        assert_eq!(BindAddress::parse(b"\xff"), None);
        let nowhere = BindAddress::parse(b"no such host").expect("text");
        assert!(nowhere.resolve(7).is_err());
    }

    #[test]
    fn notify_letters_are_shown_in_one_order() {
        let cases = [("", ""), ("KEA", "AKE"), ("xgK", "gxK"), ("g$lshzxetd", "A"), ("mAn", "Anm")];
        for (letters, shown) in cases {
            let flags = NotifyFlags::parse(letters.as_bytes()).expect("letters");
            assert_eq!(flags.to_string(), shown, "{letters}");
            assert_eq!(NotifyFlags::parse(shown.as_bytes()), Some(flags));
        }
        assert_eq!(NotifyFlags::parse(b"KEQ"), None);
        let flags = NotifyFlags::parse(b"KA").expect("letters");
        assert!(flags.intersects(NotifyFlags::ZSET) && !flags.intersects(NotifyFlags::KEY_MISS));
    }
}
