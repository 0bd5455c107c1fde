//! Commands on sorted sets.

use super::{Check, Command, Generator, SCORES, checked, with_name};

impl Generator {
    pub(super) fn zset(&mut self) -> Command {
        match self.rng.below(21) {
            0..=3 => {
                let mut words = Vec::new();
                for _ in 0..self.rng.below(3) {
                    let option = self.rng.pick(&["NX", "XX", "GT", "LT", "CH", "INCR"]);
                    words.push(option.as_bytes().to_vec());
                }
                for _ in 0..=self.rng.below(3) {
                    words.push(self.rng.pick(SCORES).as_bytes().to_vec());
                    words.push(self.field());
                }
                self.keyed("ZADD", &words)
            }
            4 => {
                let name = self.rng.pick(&["ZSCORE", "ZRANK", "ZREVRANK"]);
                let member = self.field();
                self.keyed(name, &[member])
            }
            5 => {
                let name = self.rng.pick(&["ZREM", "ZMSCORE"]);
                let members = self.some(3, Self::field);
                self.keyed(name, &members)
            }
            6 => {
                let name = self.rng.pick(&["ZPOPMIN", "ZPOPMAX"]);
                let count = if self.rng.one_in(2) { vec![self.integer()] } else { Vec::new() };
                self.keyed(name, &count)
            }
            7 => {
                let words = [self.rng.pick(SCORES).as_bytes().to_vec(), self.field()];
                self.keyed("ZINCRBY", &words)
            }
            8 => self.keyed("ZCARD", &[]),
            9 | 10 => self.zalgebra(),
            11 if !self.in_transaction => self.scan_of("ZSCAN"),
            12 if !self.in_transaction => {
                let mut words = vec![b"1000000".to_vec()];
                if self.rng.one_in(2) {
                    words.push(b"WITHSCORES".to_vec());
                }
                checked(self.keyed("ZRANDMEMBER", &words), Check::Kind)
            }
            13 => self.many_pop("ZMPOP", &["MIN", "max", "nope"]),
            14..=16 => self.by_name(),
            _ => self.zrange(),
        }
    }

    /// ZUNION and its kin, of sorted sets and sets.
    fn zalgebra(&mut self) -> Command {
        let name = self.rng.pick(&["ZUNION", "ZINTER", "ZDIFF", "ZINTERCARD"]);
        let store = name != "ZINTERCARD" && self.rng.one_in(2);
        let keys = self.some(3, Self::key);
        let mut words = vec![keys.len().to_string().into_bytes()];
        let count = keys.len();
        words.extend(keys);
        if self.rng.one_in(3) {
            words.push(b"WEIGHTS".to_vec());
            words.extend((0..count).map(|_| self.rng.pick(SCORES).into()));
        }
        if self.rng.one_in(3) {
            words.extend([b"AGGREGATE".to_vec(), self.rng.pick(&["SUM", "min", "MAX"]).into()]);
        }
        if self.rng.one_in(3) {
            words.push(b"WITHSCORES".to_vec());
        }
        if store { self.keyed(&format!("{name}STORE"), &words) } else { with_name(name, words) }
    }

    /// Ranges of names are open where scores differ: only keys that nothing else touches have them,
    /// with members of one score.
    fn by_name(&mut self) -> Command {
        let key = format!("names{}", self.rng.below(self.keys.div_ceil(8))).into_bytes();
        if self.rng.one_in(2) {
            let members = self.some(6, Self::field);
            let pairs = members.into_iter().flat_map(|member| [b"0".to_vec(), member]);
            return with_name("ZADD", [key].into_iter().chain(pairs).collect());
        }
        let mut end = || match self.rng.below(4) {
            0 => b"-".to_vec(),
            1 => b"+".to_vec(),
            2 => [b"[".to_vec(), self.field()].concat(),
            _ => [b"(".to_vec(), self.field()].concat(),
        };
        let ends = vec![end(), end()];
        self.range_of(key, ends, "LEX")
    }

    fn zrange(&mut self) -> Command {
        let key = self.key();
        if self.rng.one_in(2) {
            let ends = vec![self.integer(), self.integer()];
            return self.range_of(key, ends, "RANK");
        }
        let mut end = || {
            let open = if self.rng.one_in(3) { "(" } else { "" };
            format!("{open}{}", self.rng.pick(SCORES)).into_bytes()
        };
        let ends = vec![end(), end()];
        self.range_of(key, ends, "SCORE")
    }

    /// What asks for the range between two `ends`, or removes it; `by` says what the ends are.
    fn range_of(&mut self, key: Vec<u8>, ends: Vec<Vec<u8>>, by: &'static str) -> Command {
        let mut words = [vec![key], ends].concat();
        match (self.rng.below(6), by) {
            (0, "SCORE") => return with_name("ZCOUNT", words),
            (0, "LEX") => return with_name("ZLEXCOUNT", words),
            (1, _) => return with_name(&format!("ZREMRANGEBY{by}"), words),
            _ => {}
        }
        let old_name = match (by, self.rng.below(4)) {
            ("RANK", 0) => Some("ZREVRANGE".to_owned()),
            ("SCORE" | "LEX", 0) => Some(format!("ZRANGEBY{by}")),
            ("SCORE" | "LEX", 1) => Some(format!("ZREVRANGEBY{by}")),
            _ => None,
        };
        if old_name.is_none() && by != "RANK" {
            words.push(format!("BY{by}").into_bytes());
        }
        if self.rng.one_in(if old_name.is_none() { 3 } else { 10 }) {
            words.push(b"REV".to_vec());
        }
        if self.rng.one_in(3) {
            words.extend([b"LIMIT".to_vec(), self.integer(), self.integer()]);
        }
        if self.rng.one_in(3) {
            words.push(b"WITHSCORES".to_vec());
        }
        if old_name.is_none() && self.rng.one_in(4) {
            words.insert(0, self.key());
            return with_name("ZRANGESTORE", words);
        }
        with_name(old_name.as_deref().unwrap_or("ZRANGE"), words)
    }
}
