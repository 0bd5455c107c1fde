//! Random commands over few keys, every kind of value and many wrong arguments, from a seed.
//!
//! What Redis leaves open (order of sets, which member is popped) is either compared without order
//! or not asked for. Times to live are chosen so that two servers that get a command some
//! milliseconds apart still agree: relative ones never meet a comparison (GT, LT).

mod bits;
mod zset;

use super::corpus::Check;
use super::rng::Rng;
use super::words::Moment;

/// A command and how its replies compare.
#[derive(Debug, Clone)]
pub(crate) struct Command {
    /// The words.
    pub(crate) words: Vec<Vec<u8>>,
    /// How the two replies are compared.
    pub(crate) check: Check,
}

/// What to draw from.
#[derive(Debug)]
pub(crate) struct Generator {
    rng: Rng,
    keys: usize,
    value_bytes_max: usize,
    now: Moment,
    /// Whether the commands drawn now are queued by MULTI: then replies come in one array, and only
    /// commands with one answer are drawn.
    in_transaction: bool,
}

const INTEGERS: &[&str] = &[
    "0",
    "1",
    "-1",
    "2",
    "5",
    "10",
    "100",
    "-100",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "abc",
    "",
    "1.5",
    " 1",
    "01",
    "+1",
];
const SCORES: &[&str] =
    &["0", "1", "-1", "1.5", "2", "3", "1e3", "inf", "-inf", "nan", "abc", "3.14159", "1e-5", ""];
const FIELDS: &[&str] =
    &["a", "b", "c", "d", "e", "f", "", "1", "2", "-7", "long field with blanks"];
const PATTERNS: &[&str] = &["*", "k*", "k?", "k[0-3]", "k[^0-3]", "nope", "", "\\k*", "*1*"];

impl Generator {
    /// Draws over keys `k0` to `k(keys-1)`, with values of up to about `value_bytes_max`.
    pub(crate) fn new(seed: u64, keys: usize, value_bytes_max: usize) -> Self {
        let rng = Rng::new(seed);
        Self { rng, keys, value_bytes_max, now: Moment::now(), in_transaction: false }
    }

    /// A number below `limit`, from the same stream.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        self.rng.below(limit)
    }

    /// The next command; it may be MULTI, EXEC, WATCH and the like.
    pub(crate) fn next_command(&mut self) -> Command {
        match self.rng.below(100) {
            0..=3 => self.transaction(),
            4..=24 => self.string(),
            25..=28 => self.bits(),
            29..=48 => self.generic(),
            49..=61 => self.list(),
            62..=72 => self.hash(),
            73..=82 => self.set(),
            83..=96 => self.zset(),
            _ => self.malformed(),
        }
    }

    fn transaction(&mut self) -> Command {
        let choice = if self.in_transaction {
            self.rng.pick(&["EXEC", "EXEC", "DISCARD", "MULTI", "WATCH"])
        } else {
            self.rng.pick(&["MULTI", "MULTI", "EXEC", "DISCARD", "WATCH", "UNWATCH"])
        };
        match choice {
            "MULTI" => self.in_transaction = true,
            "EXEC" | "DISCARD" => self.in_transaction = false,
            _ => {}
        }
        if choice == "WATCH" { self.keyed("WATCH", &[]) } else { exact(&[choice]) }
    }

    fn key(&mut self) -> Vec<u8> {
        format!("k{}", self.rng.below(self.keys)).into_bytes()
    }

    fn value(&mut self) -> Vec<u8> {
        match self.rng.below(8) {
            0 => Vec::new(),
            1 => self.rng.pick(INTEGERS).as_bytes().to_vec(),
            2 => b"\x00\xff\r\n\"'\\ binary".to_vec(),
            3 => {
                let length = self.rng.below(self.value_bytes_max);
                let byte = b'a' + u8::try_from(self.rng.below(26)).expect("below 26");
                vec![byte; length]
            }
            _ => self.rng.pick(FIELDS).as_bytes().to_vec(),
        }
    }

    fn some(&mut self, most: usize, mut one: impl FnMut(&mut Self) -> Vec<u8>) -> Vec<Vec<u8>> {
        let count = 1 + self.rng.below(most);
        (0..count).map(|_| one(self)).collect()
    }

    fn field(&mut self) -> Vec<u8> {
        if self.rng.one_in(4) {
            return format!("field:{}", self.rng.below(300)).into_bytes();
        }
        self.rng.pick(FIELDS).as_bytes().to_vec()
    }

    /// `name key words...`
    fn keyed(&mut self, name: &str, words: &[Vec<u8>]) -> Command {
        let key = self.key();
        let head = [name.as_bytes().to_vec(), key];
        Command {
            words: head.into_iter().chain(words.iter().cloned()).collect(),
            check: Check::Exact,
        }
    }

    fn integer(&mut self) -> Vec<u8> {
        self.rng.pick(INTEGERS).as_bytes().to_vec()
    }

    /// A moment to come, in milliseconds, far from any other and from the relative ones.
    fn moment_ms(&mut self) -> Vec<u8> {
        let hours = i64::try_from(self.rng.below(6)).expect("small");
        (self.now.ms() + (10 + hours) * 3_600_000).to_string().into_bytes()
    }

    /// As [`moment_ms`](Self::moment_ms), or now and then one that is over. Not for SET: Redis
    /// keeps such a key, and counts it, until it happens to look at it.
    fn moment_or_past_ms(&mut self) -> Vec<u8> {
        if self.rng.one_in(6) {
            return (self.now.ms() - 1_000).to_string().into_bytes();
        }
        self.moment_ms()
    }

    fn string(&mut self) -> Command {
        match self.rng.below(20) {
            0..=3 => {
                let mut words = vec![self.value()];
                for _ in 0..self.rng.below(3) {
                    match self.rng.below(7) {
                        0 => words.push(b"NX".to_vec()),
                        1 => words.push(b"XX".to_vec()),
                        2 => words.push(b"GET".to_vec()),
                        3 => words.push(b"KEEPTTL".to_vec()),
                        4 => words.extend([b"EX".to_vec(), b"1000".to_vec()]),
                        5 => words.extend([b"PXAT".to_vec(), self.moment_ms()]),
                        _ => words.extend([b"PX".to_vec(), self.integer()]),
                    }
                }
                // A random PX may be 1 to 100 ms, which ends at different moments here and there.
                let short = words
                    .windows(2)
                    .any(|pair| pair[0] == b"PX" && pair[1].len() < 5 && pair[1] > b"0".to_vec());
                if short {
                    words.truncate(1);
                }
                self.keyed("SET", &words)
            }
            4 => self.keyed("GET", &[]),
            5 => {
                let pairs = self.some(3, Self::key);
                let words = pairs.into_iter().flat_map(|key| [key, self.value()]).collect();
                with_name("MSET", words)
            }
            6 => with_name("MGET", self.some(5, Self::key)),
            7 => {
                let value = self.value();
                self.keyed("SETNX", &[value])
            }
            8 => self.keyed("GETDEL", &[]),
            9 => match self.rng.below(4) {
                0 => self.keyed("GETEX", &[b"PERSIST".to_vec()]),
                1 => {
                    let moment = self.moment_or_past_ms();
                    self.keyed("GETEX", &[b"PXAT".to_vec(), moment])
                }
                _ => self.keyed("GETEX", &[]),
            },
            10 => {
                let value = self.value();
                self.keyed("APPEND", &[value])
            }
            11 => self.keyed("STRLEN", &[]),
            12 => {
                let name = self.rng.pick(&["INCR", "DECR"]);
                self.keyed(name, &[])
            }
            13..=18 => self.string_part(),
            _ => {
                let (name, by) = (self.rng.pick(&["INCRBY", "DECRBY"]), self.integer());
                self.keyed(name, &[by])
            }
        }
    }

    /// Commands that read or write a part of a string, or more than one string and its time.
    fn string_part(&mut self) -> Command {
        match self.rng.below(7) {
            0 => {
                let name = self.rng.pick(&["GETRANGE", "SUBSTR"]);
                let range = [self.integer(), self.integer()];
                self.keyed(name, &range)
            }
            1 => {
                let words = [self.integer(), self.value()];
                self.keyed("SETRANGE", &words)
            }
            2 => {
                let value = self.value();
                self.keyed("GETSET", &[value])
            }
            3 => {
                let name = self.rng.pick(&["SETEX", "PSETEX"]);
                let time = self.rng.pick(&["90000000", "0", "-1", "abc"]).as_bytes().to_vec();
                let value = self.value();
                self.keyed(name, &[time, value])
            }
            4 => {
                let pairs = self.some(3, Self::key);
                let words = pairs.into_iter().flat_map(|key| [key, self.value()]).collect();
                with_name("MSETNX", words)
            }
            5 => {
                let mut words = vec![self.key()];
                for _ in 0..self.rng.below(3) {
                    let option = self.rng.pick(&["IDX", "LEN", "WITHMATCHLEN", "MINMATCHLEN"]);
                    words.push(option.into());
                    if option == "MINMATCHLEN" {
                        words.push(self.integer());
                    }
                }
                self.keyed("LCS", &words)
            }
            _ => {
                let by = self.rng.pick(SCORES).as_bytes().to_vec();
                self.keyed("INCRBYFLOAT", &[by])
            }
        }
    }

    /// Commands about several databases, of which few are used.
    fn across(&mut self) -> Command {
        let db = self.rng.pick(&["0", "1", "2", "2", "16", "abc", "-1"]);
        match self.rng.below(8) {
            0..=2 => {
                let mut words = vec![self.key()];
                if self.rng.one_in(2) {
                    words.extend([b"DB".to_vec(), db.as_bytes().to_vec()]);
                }
                if self.rng.one_in(2) {
                    words.push(b"REPLACE".to_vec());
                }
                self.keyed("COPY", &words)
            }
            3..=5 => self.keyed("MOVE", &[db.as_bytes().to_vec()]),
            6 => exact(&["SELECT", db]),
            _ => exact(&["SWAPDB", self.rng.pick(&["0", "1", "2", "16"]), db]),
        }
    }

    fn generic(&mut self) -> Command {
        if self.rng.one_in(6) {
            return self.across();
        }
        match self.rng.below(if self.in_transaction { 8 } else { 14 }) {
            0 | 1 => {
                let name = self.rng.pick(&["DEL", "UNLINK", "EXISTS", "TOUCH"]);
                with_name(name, self.some(3, Self::key))
            }
            2 => self.keyed("TYPE", &[]),
            3 => {
                let time = self.rng.pick(&["1000", "5000", "0", "-1", "abc"]).as_bytes().to_vec();
                self.keyed("EXPIRE", &[time])
            }
            4 => {
                let moment = self.moment_or_past_ms();
                let option = self.rng.pick(&["NX", "XX", "GT", "LT"]).as_bytes().to_vec();
                self.keyed("PEXPIREAT", &[moment, option])
            }
            5 => self.keyed("PERSIST", &[]),
            6 => {
                let other = self.key();
                let name = self.rng.pick(&["RENAME", "RENAMENX"]);
                self.keyed(name, &[other])
            }
            7 => exact(&["DBSIZE"]),
            8 => {
                let name = self.rng.pick(&["TTL", "EXPIRETIME"]);
                checked(self.keyed(name, &[]), Check::Approx(3))
            }
            9 => {
                let name = self.rng.pick(&["PTTL", "PEXPIRETIME"]);
                checked(self.keyed(name, &[]), Check::Approx(3_000))
            }
            10 => checked(exact(&["KEYS", self.rng.pick(PATTERNS)]), Check::Unordered),
            11 => checked(exact(&["RANDOMKEY"]), Check::Kind),
            12 => {
                let count = self.rng.pick(&["1", "10", "1000"]);
                let pattern = self.rng.pick(PATTERNS);
                let scan = exact(&["SCAN", "0", "COUNT", count, "MATCH", pattern]);
                checked(scan, Check::Scan)
            }
            _ => {
                if self.rng.one_in(40) {
                    return exact(&[self.rng.pick(&["FLUSHDB", "FLUSHALL"])]);
                }
                self.keyed("EXISTS", &[])
            }
        }
    }

    fn list(&mut self) -> Command {
        match self.rng.below(15) {
            0..=2 => {
                let name = self.rng.pick(&["LPUSH", "RPUSH", "LPUSHX", "RPUSHX"]);
                let items = self.some(6, Self::value);
                self.keyed(name, &items)
            }
            3 => {
                let name = self.rng.pick(&["LPOP", "RPOP"]);
                let count = if self.rng.one_in(2) { vec![self.integer()] } else { Vec::new() };
                self.keyed(name, &count)
            }
            4 => self.keyed("LLEN", &[]),
            5 => {
                let name = self.rng.pick(&["LRANGE", "LRANGE", "LTRIM"]);
                let range = [self.integer(), self.integer()];
                self.keyed(name, &range)
            }
            6 => {
                let index = self.integer();
                self.keyed("LINDEX", &[index])
            }
            7 => {
                let words = [self.integer(), self.value()];
                self.keyed("LSET", &words)
            }
            8 => {
                let words = [self.integer(), self.value()];
                self.keyed("LREM", &words)
            }
            9 => {
                let side = self.rng.pick(&["BEFORE", "after", "middle"]);
                let words = [side.into(), self.value(), self.value()];
                self.keyed("LINSERT", &words)
            }
            10 => {
                let mut words = vec![self.value()];
                for _ in 0..self.rng.below(3) {
                    words.push(self.rng.pick(&["RANK", "COUNT", "MAXLEN"]).into());
                    words.push(self.integer());
                }
                self.keyed("LPOS", &words)
            }
            11 => {
                let other = self.key();
                self.keyed("RPOPLPUSH", &[other])
            }
            12 => self.many_pop("LMPOP", &["LEFT", "right", "nope"]),
            _ => {
                let ends = [(); 2].map(|()| self.rng.pick(&["LEFT", "RIGHT"]).into());
                let words = [&[self.key()][..], &ends].concat();
                self.keyed("LMOVE", &words)
            }
        }
    }

    /// LMPOP or ZMPOP.
    fn many_pop(&mut self, name: &str, ends: &[&'static str]) -> Command {
        let keys = self.some(3, Self::key);
        let mut words = vec![keys.len().to_string().into_bytes()];
        words.extend(keys);
        words.push(self.rng.pick(ends).into());
        if self.rng.one_in(2) {
            words.extend([b"COUNT".to_vec(), self.integer()]);
        }
        with_name(name, words)
    }

    fn hash(&mut self) -> Command {
        match self.rng.below(14) {
            0..=2 => {
                let name = self.rng.pick(&["HSET", "HMSET"]);
                let fields = self.some(4, Self::field);
                let mut words: Vec<_> =
                    fields.into_iter().flat_map(|field| [field, self.value()]).collect();
                if self.rng.one_in(15) {
                    words.pop();
                }
                self.keyed(name, &words)
            }
            3 | 4 => {
                let name = self.rng.pick(&["HGET", "HEXISTS", "HSTRLEN"]);
                let field = self.field();
                self.keyed(name, &[field])
            }
            5 => {
                let name = self.rng.pick(&["HDEL", "HMGET"]);
                let fields = self.some(3, Self::field);
                self.keyed(name, &fields)
            }
            6 => {
                let words = [self.field(), self.value()];
                self.keyed("HSETNX", &words)
            }
            7 | 8 => {
                let words = [self.field(), self.integer()];
                self.keyed("HINCRBY", &words)
            }
            9 => {
                let words = [self.field(), self.rng.pick(SCORES).as_bytes().to_vec()];
                self.keyed("HINCRBYFLOAT", &words)
            }
            10 if !self.in_transaction => checked(self.keyed("HGETALL", &[]), Check::Pairs),
            11 if !self.in_transaction => {
                let name = self.rng.pick(&["HKEYS", "HVALS"]);
                checked(self.keyed(name, &[]), Check::Unordered)
            }
            12 if !self.in_transaction => self.scan_of("HSCAN"),
            _ => self.keyed("HLEN", &[]),
        }
    }

    /// A cursor loop over a collection.
    fn scan_of(&mut self, name: &str) -> Command {
        let count = self.rng.pick(&["1", "10", "1000", "0", "abc"]);
        let pattern = self.rng.pick(&["*", "field:1*", "?", "[a-d]", ""]);
        let words = ["0", "COUNT", count, "MATCH", pattern].map(|word| word.as_bytes().to_vec());
        checked(self.keyed(name, &words), Check::Scan)
    }

    fn set(&mut self) -> Command {
        match self.rng.below(12) {
            0..=2 => {
                let members = self.some(6, Self::field);
                self.keyed("SADD", &members)
            }
            3 => {
                let name = self.rng.pick(&["SREM", "SMISMEMBER"]);
                let members = self.some(3, Self::field);
                self.keyed(name, &members)
            }
            4 => {
                let member = self.field();
                self.keyed("SISMEMBER", &[member])
            }
            5 | 6 => {
                let words = [self.key(), self.field()];
                self.keyed("SMOVE", &words)
            }
            7 => {
                let name = self.rng.pick(&["SINTERSTORE", "SUNIONSTORE", "SDIFFSTORE"]);
                let keys = self.some(3, Self::key);
                self.keyed(name, &keys)
            }
            8 => {
                let limit = self.rng.pick(&["0", "2", "-1"]);
                let words = [self.key(), self.key(), b"LIMIT".to_vec(), limit.into()];
                with_name("SINTERCARD", [&[b"2".to_vec()][..], &words].concat())
            }
            9..=11 if !self.in_transaction => self.set_unordered(),
            _ => self.keyed("SCARD", &[]),
        }
    }

    /// Commands whose replies have no order.
    fn set_unordered(&mut self) -> Command {
        match self.rng.below(4) {
            0 => checked(self.keyed("SMEMBERS", &[]), Check::Unordered),
            1 => {
                // All of it: which members come first is open, and compared without order.
                let name = self.rng.pick(&["SPOP", "SRANDMEMBER"]);
                let count = self.rng.pick(&["1000000", "0", "abc"]).as_bytes().to_vec();
                checked(self.keyed(name, &[count]), Check::Unordered)
            }
            2 => {
                let name = self.rng.pick(&["SINTER", "SUNION", "SDIFF"]);
                checked(with_name(name, self.some(3, Self::key)), Check::Unordered)
            }
            _ => self.scan_of("SSCAN"),
        }
    }

    /// A known command with a random number of random words: mostly errors, which must have no
    /// effect.
    fn malformed(&mut self) -> Command {
        const NAMES: &[&str] = &[
            "GET", "MSET", "SETNX", "APPEND", "INCRBY", "EXPIREAT", "PERSIST", "RENAME", "LPUSH",
            "LRANGE", "HSET", "HGET", "HDEL", "SADD", "SREM", "ZADD", "ZSCORE", "ZREM", "ECHO",
            "SELECT", "NOSUCH", "TYPE", "WATCH",
        ];
        let name = self.rng.pick(NAMES);
        let words = (0..self.rng.below(4)).map(|_| self.integer()).collect();
        with_name(name, words)
    }
}

fn exact(words: &[&str]) -> Command {
    let words = words.iter().map(|word| word.as_bytes().to_vec()).collect();
    Command { words, check: Check::Exact }
}

fn with_name(name: &str, words: Vec<Vec<u8>>) -> Command {
    let words = std::iter::once(name.as_bytes().to_vec()).chain(words).collect();
    Command { words, check: Check::Exact }
}

fn checked(command: Command, check: Check) -> Command {
    Command { check, ..command }
}
