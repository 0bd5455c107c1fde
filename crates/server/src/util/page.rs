//! Pages of the documentation of which parts are made from tables of the code. Tests only.
//!
//! A made part stands between the lines `<!-- NAME: begin -->` and `<!-- NAME: end -->`. A test
//! makes it anew and compares; `make docs` sets `FLINTLOCK_BLESS` and has it written instead.
//! Rejected: a generator beside the tests, which somebody must remember to run.

use std::fmt::Write as _;
use std::path::PathBuf;

/// A page of `docs/`.
#[derive(Debug)]
pub(crate) struct Page {
    path: PathBuf,
    found: String,
    wanted: String,
}

impl Page {
    /// Reads `docs/NAME`.
    pub(crate) fn open(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(name);
        let found = std::fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Self { path, wanted: found.clone(), found }
    }

    /// What stands in a part.
    pub(crate) fn part(&self, name: &str) -> &str {
        let (begin, end) = self.range(name);
        &self.wanted[begin..end]
    }

    /// Says what should stand in a part.
    pub(crate) fn set(&mut self, name: &str, text: &str) {
        let (begin, end) = self.range(name);
        self.wanted.replace_range(begin..end, text);
    }

    fn range(&self, name: &str) -> (usize, usize) {
        let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
        let place = |mark: &str| {
            let path = self.path.display();
            self.wanted.find(mark).unwrap_or_else(|| panic!("{path}: no {mark:?}"))
        };
        (place(&begin) + begin.len(), place(&end))
    }

    /// Compares the page with what should stand there, or writes that.
    pub(crate) fn finish(self) {
        if std::env::var_os("FLINTLOCK_BLESS").is_some() {
            std::fs::write(&self.path, &self.wanted).expect("the page can be written");
            return;
        }
        let lines = self.found.lines().zip(self.wanted.lines());
        let first = lines.enumerate().find(|(_, (found, wanted))| found != wanted);
        assert!(
            self.found == self.wanted,
            "{} is not what the code says, see `make docs`; first difference: {first:#?}",
            self.path.display()
        );
    }
}

/// Names in lines of at most 100 columns.
pub(crate) fn wrapped(names: impl Iterator<Item = String>) -> String {
    let (mut out, mut line) = (String::new(), String::new());
    for name in names {
        if !line.is_empty() && line.len() + name.len() + 2 > 100 {
            writeln!(out, "{},", std::mem::take(&mut line)).expect("a string grows");
        }
        line += if line.is_empty() { "" } else { ", " };
        line += &name;
    }
    out + &line + "\n"
}
