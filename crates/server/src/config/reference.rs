//! `docs/configuration.md` agrees with the table of directives. Tests only.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Config;
use super::row::{Directive, Effect, Mutability, rows};
use super::syntax::Syntax;
use super::value::Value;
use crate::util::page::{Page, wrapped};

const TABLES: [&str; 5] = ["network", "process", "memory", "durability", "encodings"];

/// An amount of memory in the largest unit that divides it.
fn memory(bytes: u64) -> String {
    for (shift, unit) in [(30, "gb"), (20, "mb"), (10, "kb")] {
        if bytes > 0 && bytes.is_multiple_of(1 << shift) {
            return format!("{}{unit}", bytes >> shift);
        }
    }
    bytes.to_string()
}

/// What may be written behind the name.
fn values(syntax: &Syntax) -> String {
    match *syntax {
        Syntax::Bool => "`yes`, `no`".to_owned(),
        Syntax::Choice(names) => format!("`{}`", names.join("`, `")),
        Syntax::Int { min, max } if max < i64::from(i32::MAX) => format!("{min} to {max}"),
        Syntax::Int { min, .. } if min < -1 => "number".to_owned(),
        Syntax::Int { min, .. } => format!("{min} or more"),
        Syntax::IntOrAuto { min, max } => format!("`auto`, {min} to {max}"),
        Syntax::Octal { max } => format!("file mode up to {max:o}"),
        Syntax::Memory { min: 0, .. } => "memory".to_owned(),
        Syntax::Memory { min, .. } => format!("memory, {} or more", memory(min)),
        Syntax::MemoryOrPercent => "memory or percent".to_owned(),
        Syntax::Text { .. } => "text".to_owned(),
        Syntax::Directory => "directory".to_owned(),
        Syntax::Notify => "letters".to_owned(),
        Syntax::Words { .. } => "words".to_owned(),
    }
}

fn default_of(row: &Directive) -> String {
    let value = row.value(&Config::default());
    let shown = match value {
        Value::Bytes(bytes) => memory(bytes),
        ref other => String::from_utf8(row.syntax.show(other)).expect("defaults are text"),
    };
    if shown.is_empty() { "none".to_owned() } else { format!("`{shown}`") }
}

fn name_of(row: &Directive) -> String {
    let alias = row.alias.map(|alias| format!(", older `{alias}`")).unwrap_or_default();
    format!("`{}`{alias}", row.name)
}

/// First and last cell of the rows of a part: what is written by hand and kept.
fn last_cells(part: &str) -> BTreeMap<String, String> {
    let rows = part.lines().filter(|line| line.starts_with("| `"));
    rows.filter_map(|line| {
        let name = line.split('`').nth(1)?;
        let last = line.trim_matches(['|', ' ']).rsplit(" | ").next()?;
        Some((name.to_owned(), last.trim().to_owned()))
    })
    .collect()
}

fn acting(rows: &[&Directive], meanings: &BTreeMap<String, String>) -> String {
    let mut out =
        "| directive | default | values | change | meaning |\n|---|---|---|---|---|\n".to_owned();
    for row in rows {
        let change = match row.mutability {
            Mutability::RunTime => "any time",
            Mutability::StartOnly | Mutability::Protected => "start",
            Mutability::OneStart => "argument of a start",
        };
        let meaning = meanings.get(row.name).map_or("", String::as_str);
        let (name, default, values) = (name_of(row), default_of(row), values(&row.syntax));
        writeln!(out, "| {name} | {default} | {values} | {change} | {meaning} |")
            .expect("a string grows");
    }
    out
}

#[test]
fn the_page_on_configuration_is_what_the_table_says() {
    let mut page = Page::open("configuration.md");
    let mut left: Vec<&Directive> = rows().filter(|row| row.effect == Effect::Acts).collect();
    for table in TABLES {
        // Which table a directive stands in is decided in the page; a new one comes last.
        let meanings = last_cells(page.part(table));
        let is_last = Some(&table) == TABLES.last();
        let (here, others): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|row| meanings.contains_key(row.name));
        left = others;
        let mut here = here;
        if is_last {
            here.append(&mut left);
        }
        for row in &here {
            let meaning = meanings.get(row.name).map_or("", String::as_str);
            assert!(
                std::env::var_os("FLINTLOCK_BLESS").is_some() || meaning.len() > 10,
                "docs/configuration.md says nothing of '{}'",
                row.name
            );
        }
        page.set(table, &acting(&here, &meanings));
    }
    let mut refused = "| directive | only value | why |\n|---|---|---|\n".to_owned();
    for row in rows() {
        if let Effect::OnlyDefault(reason) = row.effect {
            writeln!(refused, "| {} | {} | {reason} |", name_of(row), default_of(row))
                .expect("a string grows");
        }
    }
    page.set("refused", &refused);
    let noted = rows().filter(|row| row.effect == Effect::Noted);
    page.set("noted", &wrapped(noted.map(|row| format!("`{}`", row.name))));
    page.finish();
}
