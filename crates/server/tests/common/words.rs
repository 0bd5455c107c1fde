//! Command lines with redis-cli's quoting, and the placeholders of the corpus files.
//!
//! Source: redis `sds.c`, `sdssplitargs`: double quotes know `\n \r \t \b \a \\ \" \xHH`, single
//! quotes know `\'`, a closing quote must be followed by a blank.

use std::time::{SystemTime, UNIX_EPOCH};

/// Splits `line` into arguments.
///
/// # Errors
/// A sentence that says what is unbalanced.
pub(crate) fn split(line: &str) -> Result<Vec<Vec<u8>>, String> {
    let bytes = line.as_bytes();
    let mut at = 0;
    let mut words = Vec::new();
    loop {
        while at < bytes.len() && bytes[at].is_ascii_whitespace() {
            at += 1;
        }
        if at == bytes.len() {
            return Ok(words);
        }
        let mut word = Vec::new();
        while at < bytes.len() && !bytes[at].is_ascii_whitespace() {
            match bytes[at] {
                quote @ (b'"' | b'\'') => {
                    at = quoted(bytes, at + 1, quote, &mut word)?;
                    if at < bytes.len() && !bytes[at].is_ascii_whitespace() {
                        return Err(format!("text right after a closing quote in: {line}"));
                    }
                }
                byte => {
                    word.push(byte);
                    at += 1;
                }
            }
        }
        words.push(word);
    }
}

/// Reads from after the opening quote; gives the position after the closing one.
fn quoted(bytes: &[u8], mut at: usize, quote: u8, word: &mut Vec<u8>) -> Result<usize, String> {
    loop {
        match (bytes.get(at), bytes.get(at + 1)) {
            (None, _) => return Err("a quote is never closed".to_owned()),
            (Some(&byte), _) if byte == quote => return Ok(at + 1),
            (Some(b'\\'), Some(b'\'')) if quote == b'\'' => {
                word.push(b'\'');
                at += 2;
            }
            (Some(b'\\'), Some(b'x')) if quote == b'"' => {
                let digits = bytes.get(at + 2..at + 4).ok_or("\\x wants two digits")?;
                let digits = std::str::from_utf8(digits).map_err(|error| error.to_string())?;
                word.push(u8::from_str_radix(digits, 16).map_err(|error| error.to_string())?);
                at += 4;
            }
            (Some(b'\\'), Some(&escaped)) if quote == b'"' => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 8,
                    b'a' => 7,
                    other => other,
                });
                at += 2;
            }
            (Some(&byte), _) => {
                word.push(byte);
                at += 1;
            }
        }
    }
}

/// Moments that both servers must be told alike.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    ms: i64,
}

impl Moment {
    /// The wall clock now, in milliseconds since 1970.
    pub(crate) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is after 1970");
        Self { ms: i64::try_from(since.as_millis()).expect("the year is below 292 million") }
    }

    /// Milliseconds since 1970.
    pub(crate) fn ms(self) -> i64 {
        self.ms
    }
}

/// Replaces `{now+N}`, `{now-N}` (seconds), `{ms+N}`, `{ms-N}` (milliseconds), `{TEXT*N}` (TEXT
/// repeated) and `{i}` (the round of a repeated line). Other braces stay as they are.
pub(crate) fn expand(line: &str, now: Moment, round: usize) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(open) = rest.find('{') {
        out.push_str(&rest[..open]);
        let after = &rest[open + 1..];
        let filled = after.find('}').and_then(|close| {
            Some((placeholder(&after[..close], now, round)?, &after[close + 1..]))
        });
        if let Some((text, tail)) = filled {
            out.push_str(&text);
            rest = tail;
        } else {
            out.push('{');
            rest = after;
        }
    }
    out.push_str(rest);
    out
}

fn placeholder(body: &str, now: Moment, round: usize) -> Option<String> {
    if body == "i" {
        return Some(round.to_string());
    }
    if let Some((text, count)) = body.rsplit_once('*') {
        return Some(text.repeat(count.parse().ok()?));
    }
    if let Some(offset) = body.strip_prefix("now") {
        return Some((now.ms / 1000 + offset.parse::<i64>().ok()?).to_string());
    }
    let offset = body.strip_prefix("ms")?;
    Some((now.ms + offset.parse::<i64>().ok()?).to_string())
}

/// Of SCAN, HSCAN, SSCAN or ZSCAN: which word is the cursor, and how many strings of the reply make
/// one element.
pub(crate) fn scan_shape(command: &[Vec<u8>]) -> (usize, usize) {
    match command[0].to_ascii_lowercase().as_slice() {
        b"scan" => (1, 1),
        b"sscan" => (2, 1),
        _ => (2, 2),
    }
}

/// A command as a RESP array of bulk strings.
pub(crate) fn encode<W: AsRef<[u8]>>(words: &[W]) -> Vec<u8> {
    let mut frame = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        let word = word.as_ref();
        frame.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        frame.extend_from_slice(word);
        frame.extend_from_slice(b"\r\n");
    }
    frame
}

/// Bytes as a reader likes them: printable ASCII as it is, the rest escaped, long ones cut.
pub(crate) fn show(bytes: &[u8]) -> String {
    const SHOWN_BYTES: usize = 600;
    let cut = &bytes[..bytes.len().min(SHOWN_BYTES)];
    let mut text = cut.escape_ascii().to_string();
    if cut.len() < bytes.len() {
        text.push_str(&format!("... ({} bytes)", bytes.len()));
    }
    text
}

/// Several texts, as [`show`] shows one.
pub(crate) fn show_all<'a>(all: impl IntoIterator<Item = &'a Vec<u8>>) -> String {
    let shown: Vec<String> = all.into_iter().map(|bytes| show(bytes)).collect();
    format!("{shown:?}")
}
