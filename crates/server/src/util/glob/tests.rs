//! Tables, a naive twin, the work bound, and the differential test against redis-server.

use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, TestRunner};

use super::*;
use crate::util::oracle::Oracle;

#[test]
fn elements_match_as_documented() {
    let cases: &[(&str, &str, bool)] = &[
        ("", "", true),
        ("", "a", false),
        ("*", "", false),
        ("*", "anything", true),
        ("**", "x", true),
        ("a*", "a", true),
        ("*a", "a", true),
        ("*a*", "a", true),
        ("a*b", "a", false),
        ("a*c", "abbbc", true),
        ("a*c*e", "abcdce", true),
        ("a*c*e", "abcdc", false),
        ("?", "", false),
        ("?", "x", true),
        ("??", "x", false),
        ("h[ae]llo", "hello", true),
        ("h[ae]llo", "hillo", false),
        ("h[^e]llo", "hello", false),
        ("h[^e]llo", "hallo", true),
        ("[a-c]", "b", true),
        ("[c-a]", "b", true),
        ("[a-c]", "d", false),
        ("[a-]", "]", true),
        ("[a-]", "^", true),
        ("[-a]", "-", true),
        ("[]", "]", false),
        ("[]]", "]", false),
        ("[\\]]", "]", true),
        ("[ab", "b", true),
        ("[", "[", false),
        ("[^", "x", true),
        ("\\*", "*", true),
        ("\\*", "a", false),
        ("a\\", "a\\", true),
        ("A", "a", false),
    ];
    for (pattern, text, expected) in cases {
        let got = matches(pattern.as_bytes(), text.as_bytes());
        assert_eq!(got, *expected, "pattern {pattern:?} text {text:?}");
    }
}

#[test]
fn case_is_ignored_where_redis_ignores_it() {
    let cases: &[(&str, &str, bool)] = &[
        ("MaxMem*", "maxmemory", true),
        ("[A-C]X", "bx", true),
        ("[ABC]x", "BX", true),
        ("\\A", "a", true),
        ("[\\A]", "a", false),
        ("maxmemory", "maxclients", false),
    ];
    for (pattern, text, expected) in cases {
        let got = matches_nocase(pattern.as_bytes(), text.as_bytes());
        assert_eq!(got, *expected, "pattern {pattern:?} text {text:?}");
    }
}

#[test]
fn ranges_compare_signed_bytes() {
    assert!(!matches(b"[a-\xff]", b"z"), "0xff is -1, so the range holds 0xff..=b'a'");
    assert!(matches(b"[a-\xff]", b"\x05"));
    assert!(matches(b"[\x80-\xff]", b"\xc3"));
}

/// The definition written down naively: tries every split at every `*`.
fn twin(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], _) => text.is_empty(),
        ([b'*', rest @ ..], _) => (0..=text.len()).any(|taken| twin(rest, &text[taken..])),
        (_, []) => false,
        (_, [byte, tail @ ..]) => {
            step(pattern, 0, *byte, &|byte| byte).is_some_and(|end| twin(&pattern[end..], tail))
        }
    }
}

fn pattern_bytes() -> impl Strategy<Value = Vec<u8>> {
    let interesting = b"abcAB*?[]^-\\\x80\xff \n";
    prop::collection::vec(prop::sample::select(interesting.to_vec()), 0..10)
}

fn text_bytes() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(prop::sample::select(b"abcAB*?[]^-\\\x80\xff".to_vec()), 1..8)
}

proptest! {
    #![proptest_config(Config::with_cases(4096))]
    #[test]
    fn one_retry_point_is_enough(pattern in pattern_bytes(), text in text_bytes()) {
        prop_assert_eq!(matches(&pattern, &text), twin(&pattern, &text));
    }
}

#[test]
fn many_stars_do_not_blow_up() {
    // A matcher that retries every star needs about 2^40 steps here; this one 20,000 * 80.
    let pattern = [b"*a".repeat(40), b"b".to_vec()].concat();
    assert!(!matches(&pattern, &b"a".repeat(20_000)));
    let steps = std::cell::Cell::new(0_u64);
    let text = b"a".repeat(2_000);
    let counted = run(&pattern, &text, |byte| {
        steps.set(steps.get() + 1);
        byte
    });
    assert!(!counted);
    assert!(steps.get() <= 4 * pattern.len() as u64 * text.len() as u64, "{} steps", steps.get());
}

#[test]
fn keys_of_redis_server_agrees() {
    let Some(mut redis) = Oracle::start(&[]) else { return };
    let mut runner = TestRunner::deterministic();
    let mut compared = 0;
    let keys: Vec<Vec<u8>> = (0..300).map(|_| sample(&mut runner, &text_bytes())).collect();
    for key in &keys {
        redis.command(&[b"SET", key, b"v"]);
    }
    for _ in 0..3000 {
        let pattern = sample(&mut runner, &pattern_bytes());
        // KEYS answers the lone star by itself, without asking the matcher.
        if pattern == b"*" {
            continue;
        }
        let mut theirs = redis.command(&[b"KEYS", &pattern]).into_array();
        let mut ours: Vec<_> = keys.iter().filter(|key| matches(&pattern, key)).cloned().collect();
        theirs.sort();
        ours.sort();
        ours.dedup();
        compared += ours.len();
        assert_eq!(ours, theirs, "pattern {:?}", pattern.escape_ascii().to_string());
    }
    assert!(compared > 1000, "the samples hardly ever match: {compared}");
}

fn sample<S: Strategy>(runner: &mut TestRunner, strategy: &S) -> S::Value {
    strategy.new_tree(runner).expect("the strategy rejects nothing").current()
}
