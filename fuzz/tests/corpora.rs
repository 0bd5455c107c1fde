//! The fuzz targets on stable Rust: every committed input, and seeded mutations of each.

use std::path::{Path, PathBuf};

use flintlock_fuzz::TARGETS;

/// Mutations of each input; `FLINTLOCK_MUTATIONS` makes it more.
const MUTATIONS: u64 = 40;

fn inputs(target: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpora").join(target);
    let entries = std::fs::read_dir(&folder).expect("each target has a corpus");
    let mut paths: Vec<PathBuf> =
        entries.map(|entry| entry.expect("a readable folder").path()).collect();
    paths.sort();
    paths
}

/// splitmix64, as in the black-box tests.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// Flips, cuts, doubles, inserts: what a fuzzer does first.
fn mutate(input: &[u8], seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut data = input.to_vec();
    for _ in 0..=next(&mut state) % 4 {
        let draw = next(&mut state);
        let place = usize::try_from(draw >> 32).expect("32 bits fit");
        let at = place % (data.len() + 1);
        let byte = draw.to_le_bytes()[0];
        match draw % 6 {
            0 => data.truncate(at),
            1 => data.insert(at, byte),
            2 => data.insert(at, b"*$\r\n-0123456789+:\"'"[place % 19]),
            3 => {
                let copy = data[at..].to_vec();
                data.extend(copy);
            }
            _ if at < data.len() => data[at] ^= byte,
            _ => {}
        }
    }
    data
}

fn replay(target: &str) {
    let (_, body) = TARGETS.iter().find(|(name, _)| *name == target).expect("a known target");
    let paths = inputs(target);
    assert!(paths.len() >= 10, "{target} has a corpus of {} inputs", paths.len());
    let more = std::env::var("FLINTLOCK_MUTATIONS")
        .map_or(MUTATIONS, |text| text.parse().expect("a number of mutations"));
    for (number, path) in (0..).zip(&paths) {
        let input = std::fs::read(path).expect("a readable input");
        for seed in 0..=more {
            let data = if seed == 0 { input.clone() } else { mutate(&input, seed << 32 | number) };
            let done = std::panic::catch_unwind(|| body(&data));
            assert!(
                done.is_ok(),
                "{target}: {} with mutation seed {seed}: {}",
                path.display(),
                data.escape_ascii()
            );
        }
    }
}

#[test]
fn journal_decode() {
    replay("journal_decode");
}

#[test]
fn queue_ops() {
    replay("queue_ops");
}

#[test]
fn record_decode() {
    replay("record_decode");
}

#[test]
fn resp_parse() {
    replay("resp_parse");
}

/// The names of what lies in one of this crate's folders, without extensions.
fn names_in(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join(folder))
        .expect("a folder of this crate");
    let mut names: Vec<String> = entries
        .map(|entry| entry.expect("a readable folder").path())
        .map(|path| path.file_stem().expect("a name").to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

#[test]
fn every_target_has_a_corpus_a_program_and_a_test() {
    let names: Vec<&str> = TARGETS.iter().map(|(name, _)| *name).collect();
    assert_eq!(names_in("corpora"), names);
    assert_eq!(names_in("fuzz_targets"), names);
    let tests = include_str!("corpora.rs");
    for name in names {
        assert!(tests.contains(&format!("replay(\"{name}\");")), "{name} is not replayed here");
    }
}
