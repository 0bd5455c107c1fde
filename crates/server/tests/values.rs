//! The value types against redis-server: how numbers are read and written, and when an encoding
//! gives way to the next. The types are called directly; only the oracle is a process.

#[expect(dead_code, reason = "each test binary uses its own part of the harness")]
mod common;

use common::client::Client;
use common::reply::Reply;
use common::rng::Rng as TestRng;
use common::server::Server;
use flintlock_server::types::list::End;
use flintlock_server::types::number::{format_f64, parse_f64, parse_f64_bound, parse_i64};
use flintlock_server::types::zset::{ScoreBound, ScoreRange};
use flintlock_server::types::{Hash, HashKey, List, Object, Rules, Score, Set, ZSet};

/// Texts at the edges of what Redis takes for an integer.
#[rustfmt::skip]
const INTEGERS: &[&str] = &[
    "0", "-0", "00", "+1", "1", "-1", "01", "-01", " 1", "1 ", "", "-", "1.0", "1e3", "0x1",
    "9223372036854775807", "9223372036854775808", "-9223372036854775808", "-9223372036854775809",
    "18446744073709551615", "18446744073709551616", "99999999999999999999",
    "100000000000000000000", "000000000000000000001",
];

/// Random texts of each kind; more by environment for a long run.
fn rounds() -> usize {
    std::env::var("FLINTLOCK_ROUNDS").ok().and_then(|n| n.parse().ok()).unwrap_or(6_000)
}

fn words(parts: &[&[u8]]) -> Vec<Vec<u8>> {
    parts.iter().map(|part| part.to_vec()).collect()
}

fn ask(client: &mut Client, commands: &[Vec<Vec<u8>>]) -> Vec<Reply> {
    let mut replies = Vec::new();
    for chunk in commands.chunks(500) {
        for reply in client.pipeline(chunk) {
            replies.push(reply.unwrap_or_else(|missing| panic!("the oracle answers: {missing}")));
        }
    }
    replies
}

/// Texts at the edges of what strtod reads and `%.17g` shows, exact ties of the last digit too.
#[rustfmt::skip]
const FLOATS: &[&str] = &[
    "0", "-0", "+0", "00", "1", "+1", "-1", "01", "1.", ".1", ".", "-.5", "+.5e-3", "1e5", "1E5",
    "1e", "1e+", "1e-", "1e+5", "1 ", " 1", "\t1", "1\n", "", "-", "+", "--1", "+-1", "inf",
    "-inf", "+inf", "INF", "Infinity", "-INFINITY", "infi", "infinityx", "nan", "-nan", "NaN",
    "nan()", "nan(12)", "0x", "0x1", "-0X1F", "0x1.8", "0x1.8p", "0x1p+3", "0x1p-3", "0x.p1",
    "0x.8p1", "0x1.p1", "0xg", "0x1.fffffffffffff8p1023", "0x1.fffffffffffff7p1023", "0x1p1024",
    "0x1p-1074", "0x1p-1075", "0x1.8p-1075", "0x1p-1076", "0x0p-99999999999999",
    "0x0.0000000000000000000000001p99", "0x123456789abcdef01234.8p-40", "1e308", "1e309",
    "-1e309", "1.7976931348623157e308", "1.7976931348623159e308", "4.9e-324", "2.4e-324",
    "2.5e-324", "1e-400", "-1e-400", "0e-400", "0e999999999999999999999", "1e9999999999999999",
    "1e-99999999999999999999", "9007199254740992", "9007199254740993", "1e15", "1e16", "1e17",
    "1e18", "123456789012345678", "1125899906842624.25", "1125899906842624.75", "1_0", "1,0",
    "1d", "1f", "0b1", "\u{661}", "1e5.5", "1.5.5", "0x1p5p5", "1125899906842625.25", "1e22",
    "1e23", "562949953421312.125", "562949953421313.375", "0.0001", "0.00001", "1e-5", "100000",
    "999999999999999.9", "99999999999999999", "8999999999999999", "9000000000000001", "1e21",
];

/// Texts that are doubles, nearly doubles, or neither.
fn float_texts(rng: &mut TestRng, count: usize) -> Vec<Vec<u8>> {
    let mut texts: Vec<String> = FLOATS.iter().map(|&text| text.to_owned()).collect();
    while texts.len() < count {
        texts.push(float_text(rng));
    }
    texts.into_iter().map(String::into_bytes).collect()
}

fn float_text(rng: &mut TestRng) -> String {
    let bits = f64::from_bits(rng.next_u64());
    let small = (rng.next_u64() as i32) >> rng.below(32);
    let word = rng.next_u64();
    match rng.below(9) {
        0 => format!("{bits}"),
        1 => format!("{bits:e}"),
        2 => format!("{bits:.17e}"),
        3 => format!("{}", f64::from(small) / 100.0),
        4 => format!("{small}e{}", word as i32 % 330),
        5 => format!("0x{:x}.{word:x}p{}", word >> rng.below(64), word as i32 % 1100),
        6 => format!("{}.{}", word >> rng.below(64), rng.next_u64()),
        // Halves of the last digit shown: such a tie is often a double exactly.
        7 => format!("{}.{}", (1_u64 << 50) + word % (1 << 50), rng.pick(&["25", "75"])),
        _ => {
            let alphabet = b"0123456789..+-eExXpPinfa \0";
            let len = 1 + rng.below(9);
            (0..len).map(|_| char::from(alphabet[rng.below(alphabet.len())])).collect()
        }
    }
}

#[test]
fn scores_are_read_and_shown_as_redis_does() {
    for entries in [128, 0] {
        let rules =
            Rules { zset_max_listpack_entries: entries, ..Rules::new(HashKey::new([1; 16])) };
        let entries = entries.to_string();
        let server = Server::oracle(&["--zset-max-listpack-entries", &entries]);
        let mut client = server.connect();
        let texts = float_texts(&mut TestRng::new(1), rounds());
        let mut commands = Vec::new();
        for text in &texts {
            commands.push(words(&[b"DEL", b"z"]));
            commands.push(words(&[b"ZADD", b"z", text, b"m"]));
            commands.push(words(&[b"ZSCORE", b"z", b"m"]));
        }
        let replies = ask(&mut client, &commands);
        let mut numbers = 0;
        for (text, replies) in texts.iter().zip(replies.chunks(3)) {
            let ours = Score::parse(text).map(|score| {
                let mut zset = ZSet::new();
                zset.insert(b"m", score, &rules);
                let kept = zset.score(b"m").unwrap().get();
                format_f64(kept).as_bytes().to_vec()
            });
            assert_eq!(ours.is_some(), parse_f64(text).is_some());
            let theirs = replies[2].text().ok().map(<[u8]>::to_vec);
            assert_eq!(replies[1].is_error(), theirs.is_none());
            assert_eq!(ours, theirs, "{}", text.escape_ascii());
            numbers += usize::from(ours.is_some());
        }
        assert!(numbers > texts.len() / 3, "{numbers} of {}", texts.len());
    }
}

#[test]
fn ends_of_score_ranges_are_read_as_redis_does() {
    let server = Server::oracle(&[]);
    let mut client = server.connect();
    let rules = Rules::new(HashKey::new([1; 16]));
    let mut zset = ZSet::new();
    let mut commands = vec![];
    for n in -40..=40_i32 {
        let score = f64::from(n) * f64::from(n).abs().powi(n.abs() / 3);
        let member = n.to_string();
        let text = format_f64(score);
        zset.insert(member.as_bytes(), Score::new(score).unwrap(), &rules);
        commands.push(words(&[b"ZADD", b"z", text.as_bytes(), member.as_bytes()]));
    }
    ask(&mut client, &commands);
    let mut texts = float_texts(&mut TestRng::new(2), rounds() / 2);
    let open: Vec<Vec<u8>> = texts.iter().map(|text| [b"(", text.as_slice()].concat()).collect();
    texts.extend(open);
    let infinity = b"+inf".as_slice();
    let commands: Vec<_> =
        texts.iter().map(|text| words(&[b"ZCOUNT", b"z", text, infinity])).collect();
    for (text, reply) in texts.iter().zip(ask(&mut client, &commands)) {
        let bound = ScoreBound::parse(text);
        let max = ScoreBound::parse(infinity).unwrap();
        let ours = bound.map(|min| zset.ranks_by_score(&ScoreRange { min, max }).len());
        let theirs = reply.integer().ok().map(|n| usize::try_from(n).unwrap());
        assert_eq!(ours, theirs, "{}", text.escape_ascii());
    }
    assert_eq!(parse_f64_bound(b""), Some(0.0));
}

#[test]
fn integers_are_what_redis_keeps_in_an_intset() {
    let server = Server::oracle(&[]);
    let mut client = server.connect();
    let mut rng = TestRng::new(3);
    let mut texts: Vec<Vec<u8>> = INTEGERS.iter().map(|text| text.as_bytes().to_vec()).collect();
    while texts.len() < rounds() {
        let value = (rng.next_u64() as i64) >> rng.below(64);
        let mut text = value.to_string().into_bytes();
        if rng.one_in(3) {
            text.insert(rng.below(text.len() + 1), b"0123456789-+ .\0x"[rng.below(16)]);
        }
        texts.push(text);
    }
    let mut commands = Vec::new();
    for text in &texts {
        commands.push(words(&[b"DEL", b"s"]));
        commands.push(words(&[b"SADD", b"s", text]));
        commands.push(words(&[b"OBJECT", b"ENCODING", b"s"]));
        commands.push(words(&[b"SMEMBERS", b"s"]));
    }
    let rules = Rules::new(HashKey::new([1; 16]));
    for (text, replies) in texts.iter().zip(ask(&mut client, &commands).chunks(4)) {
        let mut set = Set::new();
        set.add(text, &rules);
        assert_eq!(replies[2].text().unwrap(), set.encoding_name().as_bytes());
        assert_eq!(parse_i64(text).is_some(), set.encoding_name() == "intset");
        let members: Vec<Vec<u8>> = set.iter().map(|member| member.to_vec()).collect();
        assert_eq!(replies[3].leaves(), members, "{}", text.escape_ascii());
    }
}

/// One value of each type, changed along with the oracle's.
#[derive(Default)]
struct Values {
    list: List,
    hash: Hash,
    set: Set,
    zset: ZSet,
}

impl Values {
    /// Adds or removes something of each value; the commands that do the same.
    fn step(&mut self, rng: &mut TestRng, span: usize, rules: &Rules) -> [Vec<Vec<u8>>; 4] {
        let number = rng.below(span).to_string().into_bytes();
        let len = if rng.one_in(12) { 22 + rng.below(10) } else { 0 };
        let text = [number.as_slice(), &vec![b'x'; len]].concat();
        let score = format_f64(rng.below(9) as f64 / 2.0);
        if rng.one_in(4) {
            self.hash.remove(&number);
            self.set.remove(&text);
            self.zset.remove(&text);
            self.list.discard(End::Front);
            return [
                words(&[b"HDEL", b"h", &number]),
                words(&[b"SREM", b"s", &text]),
                words(&[b"ZREM", b"z", &text]),
                words(&[b"LPOP", b"l"]),
            ];
        }
        self.hash.set(&number, &text, rules);
        self.set.add(&text, rules);
        self.zset.insert(&text, Score::parse(score.as_bytes()).expect("a score"), rules);
        self.list.push(End::Back, &text, rules);
        [
            words(&[b"HSET", b"h", &number, &text]),
            words(&[b"SADD", b"s", &text]),
            words(&[b"ZADD", b"z", score.as_bytes(), &text]),
            words(&[b"RPUSH", b"l", &text]),
        ]
    }

    /// Key and encoding of each value; Redis deletes an empty one and starts the next one small.
    fn encodings(&mut self) -> [(&'static [u8], Option<&'static str>); 4] {
        fn shown(object: &Object) -> Option<&'static str> {
            (!object.is_empty()).then_some(object.encoding_name())
        }
        let all = [
            (&b"h"[..], shown(&self.hash.clone().into())),
            (b"s", shown(&self.set.clone().into())),
            (b"z", shown(&self.zset.clone().into())),
            (b"l", shown(&self.list.clone().into())),
        ];
        for (key, name) in all {
            match (key, name) {
                (b"h", None) => self.hash = Hash::new(),
                (b"s", None) => self.set = Set::new(),
                (b"z", None) => self.zset = ZSet::new(),
                _ => {}
            }
        }
        all
    }
}

/// Runs the same random writes on one value of each type and on the oracle; after each, the
/// encodings must be the same.
#[test]
fn encodings_change_where_redis_changes_them() {
    let limits = "--hash-max-listpack-entries 20 --hash-max-listpack-value 30 \
        --zset-max-listpack-entries 15 --zset-max-listpack-value 25 --set-max-intset-entries 12";
    let server = Server::oracle(&limits.split_whitespace().collect::<Vec<_>>());
    let mut client = server.connect();
    let rules = Rules {
        hash_max_listpack_entries: 20,
        hash_max_listpack_value: 30,
        zset_max_listpack_entries: 15,
        zset_max_listpack_value: 25,
        set_max_intset_entries: 12,
        ..Rules::new(HashKey::new([5; 16]))
    };
    let mut rng = TestRng::new(4);
    for _ in 0..rounds() / 200 {
        ask(&mut client, &[words(&[b"FLUSHALL"])]);
        let mut values = Values::default();
        let span = 5 + rng.below(30);
        let (mut commands, mut wanted) = (Vec::new(), Vec::new());
        for _ in 0..60 {
            commands.extend(values.step(&mut rng, span, &rules));
            for (key, name) in values.encodings() {
                commands.push(words(&[b"OBJECT", b"ENCODING", key]));
                wanted.push(name);
            }
        }
        let replies = ask(&mut client, &commands);
        let shown = replies.chunks(8).flat_map(|step| &step[4..]);
        for (reply, want) in shown.zip(wanted) {
            let got = if reply.is_null() { None } else { reply.text().ok() };
            assert_eq!(got, want.map(str::as_bytes));
        }
    }
}
