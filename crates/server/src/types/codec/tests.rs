//! Round trips of every form, refusals of every kind, and arbitrary damage.

use super::*;
use crate::types::list::End;
use crate::types::{HashKey, Rules, Score};
use proptest::prelude::*;

fn rules() -> Rules {
    Rules::new(HashKey::new([2; 16]))
}

fn score(seed: u16) -> Score {
    let value = match seed % 50 {
        0 => f64::INFINITY,
        1 => f64::NEG_INFINITY,
        2 => -0.0,
        _ => f64::from(seed % 97) / 3.0,
    };
    Score::new(value).unwrap()
}

fn text(seed: u16, long: bool) -> Vec<u8> {
    let len = match seed % 61 {
        0 if long => 20_000,
        1 if long => 700,
        n => usize::from(n),
    };
    let mut text = seed.to_string().into_bytes();
    text.resize(len.max(text.len()), b'.');
    text
}

/// One object of each type from the same numbers; `long` makes them leave their small forms.
fn objects(seeds: &[u16], long: bool) -> Vec<Object> {
    let rules = rules();
    let (mut list, mut hash, mut zset) = (List::new(), Hash::new(), ZSet::new());
    let (mut set, mut ints) = (Set::new(), Set::new());
    for seed in seeds {
        let text = text(*seed, long);
        list.push(End::Back, &text, &rules);
        hash.set(&text, &text, &rules);
        set.add(&text, &rules);
        zset.insert(&text, score(*seed), &rules);
        let wide = i64::from(*seed) << (seed % 48);
        ints.add(wide.to_string().as_bytes(), &rules);
    }
    vec![list.into(), hash.into(), set.into(), ints.into(), zset.into()]
}

type Elements = Vec<(Vec<u8>, Vec<u8>)>;

/// Everything that can be told of an object.
fn describe(object: &Object) -> (&'static str, Elements) {
    let elements = match object {
        Object::List(list) => list.iter().map(|i| (i.to_vec(), vec![])).collect(),
        Object::Hash(hash) => hash.iter().map(|(f, v)| (f.to_vec(), v.to_vec())).collect(),
        Object::Set(set) => set.iter().map(|m| (m.to_vec(), vec![])).collect(),
        Object::ZSet(zset) => {
            let bits = |s: Score| s.get().to_bits().to_le_bytes().to_vec();
            zset.iter().map(|(m, s)| (m.to_vec(), bits(s))).collect()
        }
    };
    (object.encoding_name(), elements)
}

fn decoded(bytes: &[u8]) -> Result<Object, DecodeError> {
    match decode(bytes, &rules())? {
        Decoded::Object(object) => Ok(object),
        other => panic!("not an object: {other:?}"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn objects_come_back_as_they_were(
        seeds in prop::collection::vec(any::<u16>(), 0..900), long in any::<bool>(),
    ) {
        for object in objects(&seeds, long) {
            let bytes = encode_to_vec(Value::Object(&object));
            prop_assert_eq!(bytes.len(), encoded_len(Value::Object(&object)));
            let back = decoded(&bytes).unwrap();
            prop_assert_eq!(describe(&back), describe(&object));
            prop_assert_eq!(encode_to_vec(Value::Object(&back)), bytes);
        }
    }

    #[test]
    fn strings_and_integers_come_back(
        bytes in prop::collection::vec(any::<u8>(), 0..40_000), number in any::<i64>(),
    ) {
        let encoded = encode_to_vec(Value::String(&bytes));
        let back = decode(&encoded, &rules());
        prop_assert!(matches!(back, Ok(Decoded::String(same)) if same == bytes));
        for number in [number, number >> 40, i64::MIN, i64::MAX, 0] {
            let encoded = encode_to_vec(Value::Integer(number));
            let back = decode(&encoded, &rules());
            prop_assert!(matches!(back, Ok(Decoded::Integer(same)) if same == number));
        }
    }

    #[test]
    fn damage_is_refused_or_harmless(
        seeds in prop::collection::vec(any::<u16>(), 0..200), long in any::<bool>(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        cut in any::<prop::sample::Index>(), extra in any::<bool>(),
    ) {
        for object in objects(&seeds, long) {
            let whole = encode_to_vec(Value::Object(&object));
            let cut_at = 2 + cut.index(whole.len() - 1);
            let mut bytes = whole.clone();
            for (at, byte) in &damage {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            if extra {
                bytes.push(0);
            }
            bytes.truncate(cut_at.max(2));
            // Whatever still reads as a value is written again as exactly these bytes: nothing is
            // silently repaired. (Tables are written in hash order, so they may be reordered.)
            if let Ok(Decoded::Object(back)) = decode(&bytes, &rules()) {
                prop_assert_eq!(encode_to_vec(Value::Object(&back)).len(), bytes.len());
            }
        }
    }

    #[test]
    fn any_bytes_are_answered(
        bytes in prop::collection::vec(any::<u8>(), 0..300), kind in 0..10_u8,
    ) {
        let mut bytes = bytes;
        bytes.splice(0..0, [VERSION, kind]);
        let answer = decode(&bytes, &rules());
        prop_assert!(kind != kind::STRING || answer.is_ok());
    }
}

#[test]
fn every_cut_is_refused() {
    for long in [false, true] {
        for object in objects(&(0..150).collect::<Vec<u16>>(), long) {
            let bytes = encode_to_vec(Value::Object(&object));
            // A set of integers has no count: cut between two of them it is a smaller set.
            if !matches!(&object, Object::Set(set) if set.encoding_name() == "intset") {
                let step = bytes.len() / 500 + 1;
                for len in (0..bytes.len()).step_by(step) {
                    assert!(decode(&bytes[..len], &rules()).is_err(), "{len}");
                }
            }
        }
    }
}

#[test]
fn each_fault_has_its_error() {
    let head = |kind: u8, rest: &[u8]| [&[VERSION, kind], rest].concat();
    let one = 1.0_f64.to_le_bytes();
    let two = 2.0_f64.to_le_bytes();
    let entry = |member: u8, score: [u8; 8]| [&[1, member][..], &score].concat();
    let zset = |entries: &[Vec<u8>]| [vec![entries.len() as u8], entries.concat()].concat();
    let cases: Vec<(Vec<u8>, DecodeError)> = vec![
        (vec![], DecodeError::Truncated { at: 0 }),
        (vec![VERSION], DecodeError::Truncated { at: 1 }),
        (vec![9, 0], DecodeError::Version(9)),
        (vec![VERSION, 200], DecodeError::Kind(200)),
        (head(kind::INTEGER, &[0x80; 11]), DecodeError::Varint { at: 2 }),
        (head(kind::INTEGER, &[0x80, 0]), DecodeError::Varint { at: 2 }),
        (head(kind::INTEGER, &[1, 1]), DecodeError::Trailing { at: 3 }),
        (head(kind::LIST, &[5, 1]), DecodeError::Length { at: 2 }),
        (head(kind::LIST, &[0xFF, 0xFF, 0xFF, 0xFF, 0x0F]), DecodeError::Length { at: 2 }),
        (head(kind::LIST, &[1, 3, b'a']), DecodeError::Length { at: 3 }),
        (head(kind::HASH_SMALL, &[2, 1, b'a', 0, 1, b'a', 0]), DecodeError::Duplicate { at: 9 }),
        (head(kind::HASH_TABLE, &[2, 1, b'a', 0, 1, b'a', 0]), DecodeError::Duplicate { at: 9 }),
        (head(kind::SET_SMALL, &[2, 1, b'a', 1, b'a']), DecodeError::Duplicate { at: 7 }),
        (head(kind::SET_TABLE, &[2, 1, b'a', 1, b'a']), DecodeError::Duplicate { at: 7 }),
        (head(kind::SET_INTS, &[3, 1, 0, 0]), DecodeError::Width(3)),
        (head(kind::SET_INTS, &[2, 1, 0, 0]), DecodeError::Width(2)),
        (head(kind::SET_INTS, &[2]), DecodeError::Width(2)),
        (head(kind::SET_INTS, &[2, 5, 0, 4, 0]), DecodeError::Order { at: 2 }),
        (
            head(kind::ZSET_SMALL, &zset(&[entry(b'a', f64::NAN.to_le_bytes())])),
            DecodeError::Score { at: 5 },
        ),
        (
            head(kind::ZSET_BIG, &zset(&[entry(b'a', two), entry(b'b', one)])),
            DecodeError::Order { at: 23 },
        ),
        (
            head(kind::ZSET_SMALL, &zset(&[entry(b'b', one), entry(b'a', one)])),
            DecodeError::Order { at: 23 },
        ),
        (
            head(kind::ZSET_SMALL, &zset(&[entry(b'a', one), entry(b'a', two)])),
            DecodeError::Duplicate { at: 23 },
        ),
        (
            head(kind::ZSET_BIG, &zset(&[entry(b'a', one), entry(b'a', two)])),
            DecodeError::Duplicate { at: 23 },
        ),
    ];
    for (bytes, error) in cases {
        let got = decode(&bytes, &rules()).err();
        assert_eq!(got, Some(error), "{bytes:?}");
        assert!(error.to_string().len() > 10);
    }
}

#[test]
fn forms_survive_and_lowered_limits_apply() {
    let rules = rules();
    let mut hash = Hash::new();
    (0..600_u16).for_each(|n| _ = hash.set(&n.to_le_bytes(), b"v", &rules));
    (1..600_u16).for_each(|n| _ = hash.remove(&n.to_le_bytes()));
    let bytes = encode_to_vec(Value::Object(&hash.into()));
    assert_eq!(decoded(&bytes).unwrap().encoding_name(), "hashtable", "a table of one stays one");
    let lower = Rules {
        hash_max_listpack_entries: 2,
        set_max_intset_entries: 2,
        set_max_listpack_entries: 2,
        zset_max_listpack_entries: 2,
        ..rules
    };
    let want = ["quicklist", "hashtable", "hashtable", "hashtable", "skiplist"];
    for (object, name) in objects(&[1, 2, 3, 4], false).into_iter().zip(want) {
        let bytes = encode_to_vec(Value::Object(&object));
        let Ok(Decoded::Object(back)) = decode(&bytes, &lower) else { panic!("it decodes") };
        assert_eq!((back.encoding_name(), back.len()), (name, 4));
    }
}

#[test]
fn pieces_are_bounded_and_a_failing_sink_stops_the_encoder() {
    for object in objects(&(0..20_000).collect::<Vec<u16>>(), true) {
        let mut pieces = 0;
        let result = encode(Value::Object(&object), |piece| {
            assert!(piece.len() <= 20_000, "a buffer, or one long string");
            pieces += 1;
            if pieces == 3 { Err("full") } else { Ok(()) }
        });
        assert_eq!((result, pieces), (Err("full"), 3));
    }
}
