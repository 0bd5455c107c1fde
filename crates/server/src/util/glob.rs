//! Glob patterns over byte strings, for KEYS, SCAN, CONFIG GET and pattern subscriptions.
//! Pure; any thread.
//!
//! `*` any run, `?` any byte, `[ab]`, `[^ab]`, `[a-z]` classes, `\` takes the next byte as it is.
//! Patterns come from peers, so work is bounded: everything but `*` consumes exactly one byte of
//! the text, hence only the *last* `*` met ever needs to be retried at a later position (an
//! earlier one taking more would only leave the later one less), and a match costs at most
//! `pattern.len() * text.len()` steps, in constant memory and without recursion.
//!
//! Some corners look wrong and are kept, because scripts in the field were written against them:
//! a pattern of stars does not match the empty text (KEYS treats the lone `*` itself), an
//! unclosed class ends with the pattern, and inside a class ranges compare *signed* bytes and an
//! escaped byte is compared exactly even when case is ignored.
//!
//! Source: behaviour of redis-server 7.0.15 (`stringmatchlen`); the differential test runs
//! against it.

/// Whether `text` as a whole matches `pattern`.
#[must_use]
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    run(pattern, text, |byte| byte)
}

/// Whether `text` as a whole matches `pattern`, ASCII case ignored.
#[must_use]
pub fn matches_nocase(pattern: &[u8], text: &[u8]) -> bool {
    run(pattern, text, |byte| byte.to_ascii_lowercase())
}

/// Where to go on after a mismatch: behind the last `*`, one byte of text further.
struct Retry {
    pattern_at: usize,
    text_at: usize,
}

fn run(pattern: &[u8], text: &[u8], fold: impl Fn(u8) -> u8) -> bool {
    let mut retry: Option<Retry> = None;
    let (mut p, mut t) = (0, 0);
    while t < text.len() {
        if pattern.get(p) == Some(&b'*') {
            p = skip_stars(pattern, p);
            if p == pattern.len() {
                return true;
            }
            retry = Some(Retry { pattern_at: p, text_at: t });
            continue;
        }
        if let Some(next) = step(pattern, p, text[t], &fold) {
            p = next;
            t += 1;
            if t < text.len() || skip_stars(pattern, p) == pattern.len() {
                continue;
            }
        }
        let Some(last) = &mut retry else { return false };
        last.text_at += 1;
        (p, t) = (last.pattern_at, last.text_at);
        if t == text.len() {
            return false;
        }
    }
    // The loop ends here only behind the whole text, with nothing but stars left; an empty text
    // never entered it, and then not even a star matches.
    pattern.is_empty() || !text.is_empty()
}

/// The position behind the run of stars at `at`.
fn skip_stars(pattern: &[u8], at: usize) -> usize {
    at + pattern[at..].iter().take_while(|&&byte| byte == b'*').count()
}

/// Matches one byte against the element at `at`, which is no `*`; the position behind it if it
/// matches. None also at the end of the pattern.
fn step(pattern: &[u8], at: usize, byte: u8, fold: &impl Fn(u8) -> u8) -> Option<usize> {
    let (end, is_match) = match *pattern.get(at)? {
        b'?' => (at + 1, true),
        b'[' => class(pattern, at + 1, byte, fold),
        b'\\' if at + 1 < pattern.len() => (at + 2, fold(pattern[at + 1]) == fold(byte)),
        plain => (at + 1, fold(plain) == fold(byte)),
    };
    is_match.then_some(end)
}

/// Matches one byte against the class whose first byte is at `at`: the position behind the class
/// and whether it matches.
fn class(pattern: &[u8], mut at: usize, byte: u8, fold: &impl Fn(u8) -> u8) -> (usize, bool) {
    let negated = pattern.get(at) == Some(&b'^');
    at += usize::from(negated);
    let mut found = false;
    loop {
        match pattern[at.min(pattern.len())..] {
            [b'\\', escaped, ..] => {
                found |= escaped == byte;
                at += 2;
            }
            [b']', ..] => return (at + 1, found != negated),
            [] => return (at, found != negated),
            [first, b'-', last, ..] => {
                // Ends are put in order before case is folded, as the model does.
                let (low, high) = (first.cast_signed(), last.cast_signed());
                let (low, high) = (low.min(high), low.max(high));
                let fold = |signed: i8| fold(signed.cast_unsigned()).cast_signed();
                found |= (fold(low)..=fold(high)).contains(&fold(byte.cast_signed()));
                at += 3;
            }
            [plain, ..] => {
                found |= fold(plain) == fold(byte);
                at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests;
