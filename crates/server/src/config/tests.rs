//! The table as a whole: against itself and against redis-server.

use std::collections::BTreeMap;

use super::row::{Directive, Effect, Mutability, Store, rows};
use super::*;
use crate::util::oracle::Oracle;

/// All that CONFIG GET * shows.
fn shown(config: &Config) -> BTreeMap<String, String> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
    config.get(&[b"*"]).iter().map(|(name, value)| (text(name), text(value))).collect()
}

#[test]
fn names_are_lower_case_and_told_apart() {
    let mut names: Vec<_> = rows().flat_map(|row| [Some(row.name), row.alias]).flatten().collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "a name occurs twice");
    for name in names {
        assert_eq!(name, name.to_ascii_lowercase());
        let upper = name.to_ascii_uppercase();
        let found = Directive::find(upper.as_bytes()).expect("found by any case");
        assert_eq!(found.name(), name);
    }
    assert!(Directive::find(b"maxmem").is_none());
}

#[test]
fn every_row_takes_back_what_it_shows() {
    let dir = tempfile::tempdir().expect("temporary directory");
    // `replicaof` has no words by default and cannot be told so, but for `no one`.
    for row in rows().filter(|row| row.name != "replicaof") {
        let mut config = Config { dir: dir.path().to_owned(), ..Config::default() };
        let value = row.value(&config);
        let shown = row.syntax.show(&value);
        let words: Vec<Vec<u8>> = match row.syntax.takes_words() {
            true if shown.is_empty() => vec![],
            true => shown.split(|byte| *byte == b' ').map(<[u8]>::to_vec).collect(),
            false => vec![shown],
        };
        let context = row::Context { current: &value, adds: false, base: dir.path() };
        let again = row.syntax.parse(&words, &context).expect(row.name);
        let canonical = |value| match (row.name, value) {
            ("dir", Value::Text(_)) => Value::Text(b"resolved".to_vec()),
            (_, value) => value,
        };
        assert_eq!(canonical(again.clone()), canonical(value), "{}", row.name);
        row.assign(&mut config, again.clone());
        assert_eq!(row.value(&config), again, "{}", row.name);
    }
}

#[test]
fn every_number_reaches_its_field_at_both_ends_of_its_range() {
    for row in rows() {
        let (low, high) = match row.syntax {
            syntax::Syntax::Int { min, max } | syntax::Syntax::IntOrAuto { min, max } => {
                (min.to_string(), max.to_string())
            }
            syntax::Syntax::Memory { min, max } => (min.to_string(), max.to_string()),
            syntax::Syntax::Octal { max } => ("0".to_owned(), format!("{max:o}")),
            _ => continue,
        };
        for text in [low, high] {
            let mut config = Config::default();
            let current = row.value(&config);
            let context =
                row::Context { current: &current, adds: false, base: std::path::Path::new(".") };
            let value = row.syntax.parse(&[text.clone().into_bytes()], &context).expect(row.name);
            row.assign(&mut config, value.clone());
            match row.name {
                "hz" => assert!((Config::HZ_MIN..=Config::HZ_MAX).contains(&config.hz)),
                name => assert_eq!(row.value(&config), value, "{name} {text}"),
            }
        }
    }
}

#[test]
fn only_typed_rows_act() {
    for row in rows() {
        let is_typed = matches!(row.store, Store::Field { .. });
        match row.effect {
            Effect::Acts => assert!(is_typed, "{} acts and is read by nobody", row.name),
            Effect::OnlyDefault(reason) => assert!(!reason.is_empty() && !is_typed, "{}", row.name),
            Effect::Noted => {}
        }
    }
}

/// Where the server knowingly differs from redis-server 7.0.15.
const DIFFERENT_DEFAULTS: [&str; 5] = ["appendonly", "bind", "dir", "disable-thp", "io-threads"];

#[test]
fn names_and_defaults_are_those_of_redis() {
    // What the oracle is told is no default.
    let set_by_oracle = ["port", "save", "unixsocket"];
    let Some(mut redis) = Oracle::start(&[]) else { return };
    let answer = redis.command(&[b"CONFIG", b"GET", b"*"]).into_array();
    let ours = shown(&Config::default());
    let mut compared = 0;
    for pair in answer.chunks_exact(2) {
        let [name, value] = pair else { unreachable!("chunks of two") };
        let name = String::from_utf8_lossy(name).into_owned();
        let value = String::from_utf8_lossy(value).into_owned();
        if set_by_oracle.contains(&name.as_str()) {
            continue;
        }
        let our_value = ours.get(&name).unwrap_or_else(|| panic!("{name} is not known"));
        assert_eq!(
            *our_value != value,
            DIFFERENT_DEFAULTS.contains(&name.as_str()),
            "{name}: {our_value:?} here, {value:?} there"
        );
        compared += 1;
    }
    assert!(compared > 180, "{compared}");
}

#[test]
fn mutability_is_that_of_redis_or_stricter() {
    let Some(mut redis) = Oracle::start(&[]) else { return };
    for row in rows() {
        let value = row.syntax.show(&row.value(&Config::default()));
        let answer = redis.command(&[b"CONFIG", b"SET", row.name.as_bytes(), &value]);
        let answer = format!("{answer:?}");
        if answer.contains("Unknown option") {
            continue;
        }
        let expected = match row.mutability {
            Mutability::Protected => "can't set protected config",
            Mutability::StartOnly if ["bind", "port"].contains(&row.name) => continue,
            Mutability::StartOnly | Mutability::OneStart => "can't set immutable config",
            // There it is fixed with the start.
            Mutability::RunTime if row.name == "io-threads" => continue,
            Mutability::RunTime => {
                assert!(!answer.contains("can't set"), "{}: {answer}", row.name);
                continue;
            }
        };
        assert!(answer.contains(expected), "{}: {answer}", row.name);
    }
}

#[test]
fn paths_are_joined_to_the_directory() {
    let mut config = Config { dir: "/data".into(), ..Config::default() };
    assert_eq!((config.log_path(), config.pid_path()), (None, None));
    config.logfile = "f.log".into();
    config.pidfile = "/run/f.pid".into();
    assert_eq!(config.log_path(), Some("/data/f.log".into()));
    assert_eq!(config.pid_path(), Some("/run/f.pid".into()));
    assert_eq!(config.store_path(), PathBuf::from("/data/flintlock-data"));
}

#[test]
fn a_secret_is_not_printed() {
    let config = Config { requirepass: Secret::new(b"tulip".to_vec()), ..Config::default() };
    assert!(!format!("{config:?}").contains("tulip"));
}
