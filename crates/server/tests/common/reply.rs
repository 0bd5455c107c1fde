//! Replies: an incremental reader of RESP2 and RESP3, and the orders in which a reply may differ.
//!
//! Written for tests: it believes lengths, and it keeps the raw bytes, because raw bytes are what
//! is compared wherever Redis specifies an order.

/// One parsed reply.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Value {
    /// `+OK`, `-ERR ...`, `:1`, `,1.5`, `#t`, `(123`, `_`: the whole line with its first byte.
    Line(Vec<u8>),
    /// `$3`, `=7`, `!5`: first byte and contents; `None` is the null bulk.
    Blob(u8, Option<Vec<u8>>),
    /// `*`, `~`, `>`: first byte and items; `None` is the null array.
    Items(u8, Option<Vec<Self>>),
    /// `%` and `|`: first byte and pairs.
    Pairs(u8, Vec<(Self, Self)>),
}

/// A reply with the bytes it came in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    /// The bytes, exactly.
    pub(crate) raw: Vec<u8>,
    /// What they say.
    pub(crate) value: Value,
}

impl Reply {
    /// The contents of a bulk string, simple string or number; an error for anything else.
    pub(crate) fn text(&self) -> Result<&[u8], String> {
        self.value.text().ok_or_else(|| format!("not a text: {}", self.raw.escape_ascii()))
    }

    /// True for `-` and `!`.
    pub(crate) fn is_error(&self) -> bool {
        matches!(self.raw.first(), Some(b'-' | b'!'))
    }

    /// True for any null.
    pub(crate) fn is_null(&self) -> bool {
        matches!(self.raw.as_slice(), b"$-1\r\n" | b"*-1\r\n" | b"_\r\n")
    }

    /// The number of `:N`.
    pub(crate) fn integer(&self) -> Result<i64, String> {
        let wrong = || format!("not an integer: {}", self.raw.escape_ascii());
        if self.raw.first() != Some(&b':') {
            return Err(wrong());
        }
        let text = self.value.text().ok_or_else(wrong)?;
        std::str::from_utf8(text).ok().and_then(|text| text.parse().ok()).ok_or_else(wrong)
    }

    /// The texts of all leaves, in order.
    pub(crate) fn leaves(&self) -> Vec<Vec<u8>> {
        let mut out = Vec::new();
        self.value.collect_leaves(&mut out);
        out
    }
}

impl Value {
    /// See [`Reply::text`].
    pub(crate) fn text(&self) -> Option<&[u8]> {
        match self {
            Self::Line(line) => Some(&line[1..]),
            Self::Blob(_, contents) => contents.as_deref(),
            Self::Items(..) | Self::Pairs(..) => None,
        }
    }

    /// The items of an array, set or push.
    pub(crate) fn items(&self) -> &[Self] {
        match self {
            Self::Items(_, Some(items)) => items,
            _ => &[],
        }
    }

    fn collect_leaves(&self, out: &mut Vec<Vec<u8>>) {
        match self {
            Self::Items(_, items) => items.iter().flatten().for_each(|v| v.collect_leaves(out)),
            Self::Pairs(_, pairs) => pairs.iter().for_each(|(key, value)| {
                key.collect_leaves(out);
                value.collect_leaves(out);
            }),
            leaf => out.extend(leaf.text().map(<[u8]>::to_vec)),
        }
    }

    /// Sorts the items, and the pairs of maps, at this level only.
    pub(crate) fn sort_items(&mut self) {
        match self {
            Self::Items(_, Some(items)) => items.sort(),
            Self::Pairs(_, pairs) => pairs.sort(),
            _ => {}
        }
    }

    /// Sorts a flat array `key value key value ...` by pairs, and the pairs of maps.
    pub(crate) fn sort_pairs(&mut self) {
        match self {
            Self::Items(_, Some(items)) if items.len() % 2 == 0 => {
                let mut pairs: Vec<[Self; 2]> =
                    items.chunks(2).map(|pair| [pair[0].clone(), pair[1].clone()]).collect();
                pairs.sort();
                *items = pairs.into_iter().flatten().collect();
            }
            Self::Pairs(_, pairs) => pairs.sort(),
            _ => {}
        }
    }
}

/// The first whole reply in `bytes` and its length; `None` when more bytes are needed.
///
/// # Errors
/// The bytes cannot be the start of any reply.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Value, usize)>, String> {
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
        return Ok(None);
    };
    let (kind, line) = (bytes[0], &bytes[..end]);
    let after = end + 2;
    match kind {
        b'+' | b'-' | b':' | b',' | b'#' | b'(' | b'_' => {
            Ok(Some((Value::Line(line.to_vec()), after)))
        }
        b'$' | b'=' | b'!' => {
            let Some(length) = length(line)? else {
                return Ok(Some((Value::Blob(kind, None), after)));
            };
            let Some(body) = bytes.get(after..after + length + 2) else {
                return Ok(None);
            };
            if !body.ends_with(b"\r\n") {
                return Err(format!("a bulk string without its end: {}", line.escape_ascii()));
            }
            Ok(Some((Value::Blob(kind, Some(body[..length].to_vec())), after + length + 2)))
        }
        b'*' | b'~' | b'>' | b'%' | b'|' => aggregate(bytes, kind, length(line)?, after),
        _ => Err(format!("not a reply: {}", line.escape_ascii())),
    }
}

fn aggregate(
    bytes: &[u8],
    kind: u8,
    count: Option<usize>,
    mut at: usize,
) -> Result<Option<(Value, usize)>, String> {
    let Some(count) = count else {
        return Ok(Some((Value::Items(kind, None), at)));
    };
    let is_map = matches!(kind, b'%' | b'|');
    let mut items = Vec::new();
    for _ in 0..if is_map { count * 2 } else { count } {
        let Some((value, used)) = parse(&bytes[at..])? else {
            return Ok(None);
        };
        items.push(value);
        at += used;
    }
    if !is_map {
        return Ok(Some((Value::Items(kind, Some(items)), at)));
    }
    let mut pairs = Vec::with_capacity(count);
    let mut items = items.into_iter();
    while let (Some(key), Some(value)) = (items.next(), items.next()) {
        pairs.push((key, value));
    }
    Ok(Some((Value::Pairs(kind, pairs), at)))
}

/// The number after the first byte; `None` for -1.
fn length(line: &[u8]) -> Result<Option<usize>, String> {
    match std::str::from_utf8(&line[1..]) {
        Ok("-1") => Ok(None),
        Ok(text) => text.parse().map(Some).map_err(|_| format!("not a length: {text}")),
        Err(error) => Err(error.to_string()),
    }
}
