//! House rules that clippy and rustfmt cannot say, checked on the text of every file.
//!
//! One test a rule, so that a failure names the rule; each rule is first shown to catch what it
//! forbids. It lives in this crate because this crate is never published.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A longer file asks for another room.
const LINES_MAX: usize = 600;
const COLUMNS_MAX: usize = 100;
/// How far above an atomic operation or an unsafe block its reason may stand.
const REASON_LINES_MAX: usize = 10;

struct Source {
    path: String,
    text: String,
}

impl Source {
    fn is_rust(&self) -> bool {
        has_extension(&self.path, "rs")
    }

    fn is_test(&self) -> bool {
        self.path.contains("/tests/") || self.path.ends_with("/tests.rs")
    }

    /// Lines with numbers from 1, up to the unit tests at the bottom.
    fn product_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = self.text.lines().enumerate().map(|(index, line)| (index + 1, line));
        lines.take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
    }

    /// Product lines that are not comments.
    fn code_lines(&self) -> impl Iterator<Item = (usize, &str)> {
        self.product_lines().filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// True when `mark` stands on this line or close above it, with no blank line between.
    fn has_reason(&self, number: usize, mark: &str) -> bool {
        let lines: Vec<&str> = self.text.lines().take(number).collect();
        let near = lines.iter().rev().take(REASON_LINES_MAX);
        near.take_while(|line| !line.trim().is_empty()).any(|line| line.contains(mark))
    }
}

type Rule = fn(&Source) -> Vec<String>;

fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|found| found == extension)
}

fn root() -> PathBuf {
    let crate_dir = Path::new(env!("CARGO_MANIFEST_DIR"));
    crate_dir.parent().expect("this crate lies in the workspace").to_path_buf()
}

/// Every text file of the project, without what building leaves behind.
fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    collect(&root(), &root(), &mut found);
    assert!(found.iter().any(|source| source.path == "crates/queues/src/lib.rs"));
    found
}

fn collect(root: &Path, dir: &Path, found: &mut Vec<Source>) {
    const SKIPPED: &[&str] = &[".git", "node_modules", "flintlock-data", "__pycache__"];
    const TEXTS: &[&str] = &["rs", "toml", "md", "py", "js", "mjs", "sh", "yml", "conf"];
    const NAMES: &[&str] = &["Makefile", "instructions", "run", "setup"];
    for entry in std::fs::read_dir(dir).expect("a readable folder") {
        let path = entry.expect("a readable entry").path();
        let name = path.file_name().expect("a name").to_string_lossy().into_owned();
        if path.is_dir() {
            if !SKIPPED.contains(&name.as_str()) && !name.starts_with("target") {
                collect(root, &path, found);
            }
            continue;
        }
        let is_text = TEXTS.iter().any(|extension| has_extension(&name, extension));
        if is_text || NAMES.contains(&name.as_str()) {
            let relative = path.strip_prefix(root).expect("below the root");
            let text = std::fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            found.push(Source { path: relative.to_string_lossy().into_owned(), text });
        }
    }
}

/// Applies `rule` to the whole project, after showing that it refuses each of `bad` and accepts
/// each of `good` (path and text).
fn enforce(rule: Rule, bad: &[(&str, &str)], good: &[(&str, &str)]) {
    let of = |&(path, text): &(&str, &str)| {
        rule(&Source { path: path.to_owned(), text: text.to_owned() })
    };
    for sample in bad {
        assert!(!of(sample).is_empty(), "the rule does not catch {sample:?}");
    }
    for sample in good {
        assert_eq!(of(sample), Vec::<String>::new(), "the rule refuses {sample:?}");
    }
    let mut report = String::new();
    for source in sources() {
        for complaint in rule(&source) {
            writeln!(report, "{}:{complaint}", source.path).expect("a string grows");
        }
    }
    assert!(report.is_empty(), "\n{report}");
}

#[test]
fn files_are_short() {
    fn rule(source: &Source) -> Vec<String> {
        let count = source.text.lines().count();
        if !source.is_rust() || count <= LINES_MAX {
            return Vec::new();
        }
        vec![format!("1: {count} lines, at most {LINES_MAX}: split it")]
    }
    let long = "let x = 1;\n".repeat(LINES_MAX + 1);
    enforce(
        rule,
        &[("crates/a/src/x.rs", &long), ("crates/a/tests/x.rs", &long)],
        &[("crates/a/src/x.rs", "let x = 1;\n"), ("notes.md", &long)],
    );
}

#[test]
fn lines_are_short_and_clean() {
    fn rule(source: &Source) -> Vec<String> {
        let mut complaints = Vec::new();
        for (index, line) in source.text.lines().enumerate() {
            // A row of a table cannot be wrapped.
            let is_row = line.trim_start().trim_start_matches(['/', '!', ' ']).starts_with('|');
            if source.is_rust() && !is_row && line.chars().count() > COLUMNS_MAX {
                complaints.push(format!("{}: more than {COLUMNS_MAX} columns", index + 1));
            }
            if line.trim_end() != line && !has_extension(&source.path, "md") {
                complaints.push(format!("{}: blanks at the end of the line", index + 1));
            }
        }
        if !source.text.is_empty() && !source.text.ends_with('\n') {
            complaints.push("1: the last line has no end".to_owned());
        }
        complaints
    }
    let wide = format!("// {}\n", "x".repeat(COLUMNS_MAX));
    enforce(rule, &[("a.rs", &wide), ("a.rs", "x \n"), ("a.rs", "x")], &[("a.rs", "x\n")]);
}

#[test]
fn every_file_says_what_it_is() {
    fn rule(source: &Source) -> Vec<String> {
        let documented = source.text.trim_start().starts_with("//!");
        // A file of tests of one module says it in its first test's name.
        if !source.is_rust() || documented || source.path.ends_with("/tests.rs") {
            return Vec::new();
        }
        vec!["1: a file begins with its module documentation".to_owned()]
    }
    enforce(rule, &[("a.rs", "use std::io;\n")], &[("a.rs", "//! Doc.\n")]);
}

#[test]
fn text_is_ascii() {
    fn rule(source: &Source) -> Vec<String> {
        let lines = source.text.lines().enumerate();
        let foreign = lines.filter(|(_, line)| !line.is_ascii());
        foreign.map(|(index, _)| format!("{}: not ASCII", index + 1)).collect()
    }
    enforce(rule, &[("a.md", "caf\u{e9}\n")], &[("a.md", "cafe\n")]);
}

#[test]
fn nothing_is_left_for_later() {
    fn rule(source: &Source) -> Vec<String> {
        // Put together here, so that this file does not catch itself.
        let words = [concat!("TO", "DO"), concat!("FIX", "ME"), concat!("X", "XX")];
        let hit = |line: &str| {
            line.split(|c: char| !c.is_ascii_alphabetic()).any(|word| words.contains(&word))
        };
        let lines = source.text.lines().enumerate();
        let left = lines.filter(|(_, line)| hit(line));
        left.map(|(index, _)| format!("{}: do it now or file an issue", index + 1)).collect()
    }
    let bad = concat!("// TO", "DO: more\n");
    enforce(rule, &[("a.rs", bad)], &[("a.rs", "// todos are words\n")]);
}

#[test]
fn no_machine_and_no_private_paper_is_named() {
    fn rule(source: &Source) -> Vec<String> {
        let words = [
            concat!("/wo", "rk/"),
            concat!("/ro", "ot/"),
            concat!("/ho", "me/"),
            concat!("/tmp/", "wt"),
            concat!("/tmp/", "brief"),
            concat!("DES", "IGN.md"),
            concat!("STY", "LE.md"),
            concat!("anch", "ors/"),
            concat!("see", "ds/"),
        ];
        let mut complaints = Vec::new();
        for (index, line) in source.text.lines().enumerate() {
            let named = words.iter().find(|word| line.contains(**word));
            complaints.extend(named.map(|word| format!("{}: names {word}", index + 1)));
        }
        complaints
    }
    let bad = concat!("see /wo", "rk/x\n");
    enforce(rule, &[("a.md", bad)], &[("a.md", "a workspace\n")]);
}

/// Where threads meet memory directly, and so the only rooms with an ordering policy.
fn is_lock_free_crate(source: &Source) -> bool {
    // Models under loom name it by its name, and count with plain atomics that it must not see.
    !source.is_test()
        && ["crates/queues/src/", "crates/iothreads/src/"]
            .iter()
            .any(|dir| source.path.starts_with(dir))
}

#[test]
fn only_the_facade_names_atomics() {
    fn rule(source: &Source) -> Vec<String> {
        if !is_lock_free_crate(source) || source.path.ends_with("/sync.rs") {
            return Vec::new();
        }
        let names = |line: &str| {
            let sync = ["std::sync", "core::sync", "alloc::sync"].iter().any(|p| line.contains(p));
            let cell = ["std::cell", "core::cell"].iter().any(|p| line.contains(p));
            (sync && (line.contains("atomic") || line.contains("Arc")))
                || (cell && line.contains("UnsafeCell"))
                || line.contains("loom::")
        };
        let hits = source.code_lines().filter(|(_, line)| names(line));
        hits.map(|(number, _)| format!("{number}: only sync.rs names it, so that loom sees all"))
            .collect()
    }
    let path = "crates/queues/src/spsc.rs";
    enforce(
        rule,
        &[
            (path, "use core::sync::atomic::AtomicUsize;\n"),
            (path, "use std::sync::{Arc, Mutex};\n"),
            (path, "let x = core::cell::UnsafeCell::new(1);\n"),
            (path, "loom::model(|| {});\n"),
        ],
        &[
            ("crates/queues/src/sync.rs", "use core::sync::atomic::AtomicUsize;\n"),
            (path, "use crate::sync::{AtomicUsize, UnsafeCell};\n"),
            (path, "//! See core::sync::atomic.\n"),
        ],
    );
}

#[test]
fn every_ordering_is_argued() {
    fn rule(source: &Source) -> Vec<String> {
        const STRONG: &[&str] = &["Acquire", "Release", "AcqRel", "SeqCst"];
        if !is_lock_free_crate(source) {
            return Vec::new();
        }
        let strong = |line: &str| {
            let import = line.trim_start().starts_with("use ") || line.contains("pub use ");
            let mut words = line.split(|c: char| !c.is_ascii_alphanumeric());
            !import && words.any(|word| STRONG.contains(&word))
        };
        source
            .code_lines()
            .filter(|(number, line)| strong(line) && !source.has_reason(*number, "ORDERING:"))
            .map(|(number, _)| format!("{number}: an ordering without // ORDERING: <edge>"))
            .collect()
    }
    let path = "crates/iothreads/src/park.rs";
    enforce(
        rule,
        &[
            (path, "x.store(1, Release);\n"),
            (path, "// ORDERING: P1\nx.store(1, Relaxed);\n\nx.store(1, Ordering::Release);\n"),
        ],
        &[
            (path, "// ORDERING: P1\nx.store(1, Release);\n"),
            (path, "x.store(1, Release); // ORDERING: P1\n"),
            (path, "x.store(1, Relaxed);\n"),
            (path, "use crate::sync::{Acquire, Release};\n"),
        ],
    );
}

#[test]
fn unsafe_is_where_it_may_be_and_says_why() {
    fn rule(source: &Source) -> Vec<String> {
        const ALLOWED: &[&str] = &[
            "crates/queues/src/spsc",
            "crates/queues/src/spmc",
            "crates/queues/src/mpsc",
            "crates/queues/src/tagged",
            "crates/queues/src/sync",
            "crates/queues/examples/bare",
            "crates/iothreads/src/cpu",
            "crates/server/src/keyspace/entry",
            "crates/server/src/huge_pages/heap",
        ];
        if !source.is_rust() || source.is_test() {
            return Vec::new();
        }
        let allowed = ALLOWED.iter().any(|start| {
            let rest = source.path.strip_prefix(start);
            rest.is_some_and(|rest| rest.starts_with('/') || rest == ".rs")
        });
        let mut complaints = Vec::new();
        for (number, line) in source.code_lines() {
            let opens = ["unsafe {", "unsafe impl"].iter().any(|word| line.contains(word));
            let any = opens || line.contains("unsafe fn") || line.contains("unsafe extern");
            if any && !allowed {
                complaints.push(format!("{number}: unsafe has no place in this file"));
            } else if opens && !source.has_reason(number, "// SAFETY: [") {
                complaints.push(format!("{number}: unsafe without // SAFETY: [tag] fact"));
            }
        }
        complaints
    }
    let path = "crates/queues/src/spsc.rs";
    enforce(
        rule,
        &[
            (path, "let x = unsafe { y() };\n"),
            (path, "// SAFETY: it is fine\nunsafe { y() };\n"),
            ("crates/server/src/main.rs", "// SAFETY: [x] y\nunsafe { y() };\n"),
            ("crates/queues/src/spsc_other.rs", "// SAFETY: [x] y\nunsafe { y() };\n"),
        ],
        &[
            (path, "// SAFETY: [spsc-owner] only we write here.\nunsafe { y() };\n"),
            ("crates/queues/src/mpsc/rings/mod.rs", "// SAFETY: [a] b.\nunsafe { y() };\n"),
        ],
    );
}

/// Words between backticks.
fn quoted(text: &str) -> impl Iterator<Item = &str> {
    text.lines()
        .filter(|line| !line.starts_with("```"))
        .flat_map(|l| l.split('`').skip(1).step_by(2))
}

#[test]
fn what_the_architecture_names_exists() {
    fn complaints(text: &str, all: &[Source]) -> Vec<String> {
        let mut complaints = Vec::new();
        for word in quoted(text) {
            let is_path = has_extension(word, "rs") || word.ends_with('/');
            let name = word.strip_suffix("()").map(|call| call.rsplit("::").next().unwrap_or(call));
            let exists = match name {
                Some(name) => {
                    let (plain, generic) = (format!("fn {name}("), format!("fn {name}<"));
                    all.iter().any(|s| s.text.contains(&plain) || s.text.contains(&generic))
                }
                None if is_path => all.iter().any(|source| {
                    source.path.starts_with(word)
                        || format!("/{}", source.path).ends_with(&format!("/{word}"))
                }),
                None => true,
            };
            if !exists {
                complaints.push(word.to_owned());
            }
        }
        complaints
    }
    let all = sources();
    let good = "`crates/queues/src/`, `spmc.rs`, `Pool::submit()`, `any word`";
    assert_eq!(complaints(good, &all), [""; 0]);
    for bad in ["`crates/queues/nowhere/`", "`mc.rs`", "`Pool::no_such_function()`"] {
        assert_eq!(complaints(bad, &all).len(), 1, "{bad}");
    }
    let page = all.iter().find(|source| source.path == "ARCHITECTURE.md").expect("it is there");
    assert_eq!(complaints(&page.text, &all), [""; 0]);
}

#[test]
fn links_between_pages_lead_somewhere() {
    fn rule(source: &Source) -> Vec<String> {
        if !has_extension(&source.path, "md") {
            return Vec::new();
        }
        let here = root().join(&source.path);
        let targets = source.text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let dead = targets.filter(|target| {
            let is_file = !target.contains(':') && !target.starts_with('#');
            let file = target.split('#').next().unwrap_or_default();
            is_file && !here.with_file_name(file).exists()
        });
        dead.map(|target| format!("1: a link to {target}, which is not there")).collect()
    }
    enforce(
        rule,
        &[("README.md", "[a](docs/no-such-page.md)\n")],
        &[("README.md", "[a](Cargo.toml), [b](https://example.org/x), [c](#here)\n")],
    );
}
