//! Words and quotes of configuration lines and inline commands. Pure; any thread.
//!
//! The grammar is the one redis.conf has always had, and people's files depend on its corners:
//! words are split at blanks; `"..."` knows the escapes `\n \r \t \b \a \xHH` and takes any other
//! escaped byte as it is; `'...'` knows only `\'`; a closing quote must be followed by a blank or
//! the end of the line, so that `"a"b` is a typing error and not the word `ab`.
//!
//! Source: the grammar as redis-server 7.0.15 reads it (`sdssplitargs`, `sdscatrepr`).

use std::fmt;

/// A quote was left open, or something other than a blank followed the closing one.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub struct UnbalancedQuotes;

impl fmt::Display for UnbalancedQuotes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("unbalanced quotes")
    }
}

impl std::error::Error for UnbalancedQuotes {}

/// Splits `line` into its words, with quotes and escapes resolved.
///
/// Any thread, never blocks. Words may hold any byte, and may be empty if they were quoted.
///
/// # Errors
/// [`UnbalancedQuotes`]; nothing is kept of the line.
pub fn split_args(line: &[u8]) -> Result<Vec<Vec<u8>>, UnbalancedQuotes> {
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        while line.get(at).is_some_and(|&byte| is_space(byte)) {
            at += 1;
        }
        if at == line.len() {
            return Ok(words);
        }
        let mut word = Vec::new();
        at = read_word(line, at, &mut word)?;
        words.push(word);
    }
}

/// Appends `text` to `out` in double quotes, so that [`split_args`] gives it back unchanged.
pub fn push_quoted(out: &mut Vec<u8>, text: &[u8]) {
    out.push(b'"');
    for &byte in text {
        match byte {
            b'\\' | b'"' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0x07 => out.extend_from_slice(b"\\a"),
            0x08 => out.extend_from_slice(b"\\b"),
            b' '..=b'~' => out.push(byte),
            _ => out.extend_from_slice(format!("\\x{byte:02x}").as_bytes()),
        }
    }
    out.push(b'"');
}

/// What C's `isspace` says in the "C" locale.
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | 0x0b | 0x0c | b'\r')
}

/// Reads the word that starts at `at`; returns the position behind it.
fn read_word(line: &[u8], mut at: usize, word: &mut Vec<u8>) -> Result<usize, UnbalancedQuotes> {
    while let Some(&byte) = line.get(at) {
        at += 1;
        match byte {
            // Vertical tab and form feed separate words but do not end one: as the model does.
            b' ' | b'\n' | b'\r' | b'\t' => return Ok(at),
            b'"' => return close(line, read_double(line, at, word)?),
            b'\'' => return close(line, read_single(line, at, word)?),
            _ => word.push(byte),
        }
    }
    Ok(at)
}

/// Checks what follows a closing quote.
fn close(line: &[u8], at: usize) -> Result<usize, UnbalancedQuotes> {
    if line.get(at).is_none_or(|&byte| is_space(byte)) { Ok(at) } else { Err(UnbalancedQuotes) }
}

fn read_double(line: &[u8], mut at: usize, word: &mut Vec<u8>) -> Result<usize, UnbalancedQuotes> {
    loop {
        match (line.get(at), line.get(at + 1)) {
            (Some(b'"'), _) => return Ok(at + 1),
            (Some(b'\\'), Some(&escaped)) => {
                let hex = if escaped == b'x' { hex_pair(line, at + 2) } else { None };
                word.push(hex.unwrap_or(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => other,
                }));
                at += if hex.is_some() { 4 } else { 2 };
            }
            (Some(&byte), _) => {
                word.push(byte);
                at += 1;
            }
            (None, _) => return Err(UnbalancedQuotes),
        }
    }
}

fn read_single(line: &[u8], mut at: usize, word: &mut Vec<u8>) -> Result<usize, UnbalancedQuotes> {
    loop {
        match (line.get(at), line.get(at + 1)) {
            (Some(b'\''), _) => return Ok(at + 1),
            (Some(b'\\'), Some(b'\'')) => {
                word.push(b'\'');
                at += 2;
            }
            (Some(&byte), _) => {
                word.push(byte);
                at += 1;
            }
            (None, _) => return Err(UnbalancedQuotes),
        }
    }
}

/// The byte written as two hexadecimal digits at `at`.
fn hex_pair(line: &[u8], at: usize) -> Option<u8> {
    let digits = line.get(at..at + 2)?;
    // from_str_radix takes a sign, which is no digit here.
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn words_are_split_as_redis_splits_them() {
        let cases: &[(&str, Option<&[&str]>)] = &[
            ("", Some(&[])),
            (" \t\r\n ", Some(&[])),
            ("port 6379", Some(&["port", "6379"])),
            ("  port   6379  ", Some(&["port", "6379"])),
            ("save \"\"", Some(&["save", ""])),
            ("a \"b c\" 'd e'", Some(&["a", "b c", "d e"])),
            (r#""\n\r\t\b\a\\\"\q""#, Some(&["\n\r\t\x08\x07\\\"q"])),
            (r#""\x41\x4" "\xzz""#, Some(&["Ax4", "xzz"])),
            (r#""\x+1""#, Some(&["x+1"])),
            (r"'a\'b\n'", Some(&[r"a'b\n"])),
            ("foo\"bar\"", Some(&["foobar"])),
            ("\"a\"b", None),
            ("'a'b", None),
            ("\"a", None),
            ("'a", None),
            ("\"a\\", None),
            ("\"a\\\"", None),
            ("\"a\"\x0bb", Some(&["a", "b"])),
            ("a\x0bb", Some(&["a\x0bb"])),
        ];
        for (line, expected) in cases {
            let expected = expected.map(|words| words.iter().map(|w| w.as_bytes().to_vec()));
            let expected = expected.map(Iterator::collect::<Vec<_>>).ok_or(UnbalancedQuotes);
            assert_eq!(split_args(line.as_bytes()), expected, "line {line:?}");
        }
    }

    proptest! {
        #[test]
        fn what_is_quoted_is_read_back(words in prop::collection::vec(any::<Vec<u8>>(), 0..4)) {
            let mut line = Vec::new();
            for word in &words {
                push_quoted(&mut line, word);
                line.push(b' ');
            }
            prop_assert!(line.iter().all(|byte| (b' '..=b'~').contains(byte)));
            prop_assert_eq!(split_args(&line), Ok(words));
        }

        #[test]
        fn any_line_is_split_or_refused(line in any::<Vec<u8>>()) {
            let _ = split_args(&line);
        }
    }
}
