//! How one value is written: parsing and showing by kind. Pure; any thread.
//!
//! The reasons are Redis's, word for word, because operators search for them and tests of client
//! libraries compare them. Two deviations are deliberate: a memory amount must have digits and
//! must fit 64 bits (Redis takes `kb` for 0 and lets `99999999999gb` wrap around, both of which
//! would silently mean another limit than the one asked for).
//!
//! Source: behaviour of redis-server 7.0.15.

use std::borrow::Cow;

use super::row::{Context, Reason};
use super::types::NotifyFlags;
use super::value::Value;
use super::words::{ReadWords, one_of};

/// The kinds of values.
#[derive(Copy, Clone, Debug)]
pub(super) enum Syntax {
    /// `yes` or `no`.
    Bool,
    /// A decimal number.
    Int {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// `auto` or a decimal number.
    IntOrAuto {
        /// Smallest value.
        min: i64,
        /// Largest value.
        max: i64,
    },
    /// An octal number: file modes.
    Octal {
        /// Largest value.
        max: i64,
    },
    /// An amount of memory: `100`, `100b`, `1k` (1000), `1kb` (1024), up to `gb`.
    Memory {
        /// Smallest value.
        min: u64,
        /// Largest value.
        max: u64,
    },
    /// An amount of memory or a share of `maxmemory`: `5%`.
    MemoryOrPercent,
    /// One of these names, case ignored.
    Choice(&'static [&'static str]),
    /// Any text that `check` lets through.
    Text {
        /// Refuses what would be useless.
        check: fn(&[u8]) -> Result<(), Reason>,
        /// What the empty text means on CONFIG REWRITE.
        empty: Empty,
    },
    /// An existing directory.
    Directory,
    /// The letters of `notify-keyspace-events`.
    Notify,
    /// Several words.
    Words {
        /// Makes the words canonical, or refuses them.
        read: ReadWords,
        /// How CONFIG REWRITE lays them out.
        layout: Layout,
    },
}

/// What an empty text means on CONFIG REWRITE.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Empty {
    /// That the directive is not set: no line.
    Unset,
    /// A value like any other.
    Value,
}

/// How CONFIG REWRITE writes a directive of several words.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(super) enum Layout {
    /// One line.
    Line,
    /// One line, written even if the value is the default.
    ForcedLine,
    /// One line, or none at all if the value is the default.
    UnlessDefault,
    /// A line for each pair, always written; `name ""` for none.
    Pairs,
    /// A line for each group of four, with amounts of memory.
    OutputLimits,
}

impl Syntax {
    /// Whether a line may hold several words for this directive.
    pub(super) const fn takes_words(&self) -> bool {
        matches!(self, Self::Words { .. })
    }

    /// Reads the words that follow the directive's name.
    ///
    /// All kinds but [`Syntax::Words`] are given exactly one word.
    pub(super) fn parse(&self, words: &[Vec<u8>], context: &Context<'_>) -> Result<Value, Reason> {
        if let Self::Words { read, .. } = self {
            return read(words, context).map(Value::Words);
        }
        let [word] = words else { return Err("wrong number of arguments".into()) };
        match *self {
            Self::Bool if word.eq_ignore_ascii_case(b"yes") => Ok(Value::Bool(true)),
            Self::Bool if word.eq_ignore_ascii_case(b"no") => Ok(Value::Bool(false)),
            Self::Bool => Err("argument must be 'yes' or 'no'".into()),
            Self::Int { min, max } => integer(word, min, max),
            Self::IntOrAuto { .. } if word.eq_ignore_ascii_case(b"auto") => Ok(Value::Auto),
            Self::IntOrAuto { min, max } => integer(word, min, max).map_err(|_| {
                Cow::Owned(format!("argument must be 'auto' or between {min} and {max} inclusive"))
            }),
            Self::Octal { max } => octal(word, max),
            Self::Memory { min, max } => match memory(word) {
                Some(bytes) if (min..=max).contains(&bytes) => Ok(Value::Bytes(bytes)),
                Some(_) => Err(outside(min, max)),
                None => Err("argument must be a memory value".into()),
            },
            Self::MemoryOrPercent => memory_or_percent(word),
            Self::Choice(names) => names
                .iter()
                .position(|name| word.eq_ignore_ascii_case(name.as_bytes()))
                .map(Value::Choice)
                .ok_or_else(|| one_of(names)),
            Self::Text { check, .. } => check(word).map(|()| Value::Text(word.clone())),
            Self::Directory => context.directory(word),
            Self::Notify => NotifyFlags::parse(word)
                .map(|flags| Value::Text(flags.to_string().into_bytes()))
                .ok_or("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.".into()),
            Self::Words { .. } => unreachable!("handled above"),
        }
    }

    /// The value as CONFIG GET shows it, and as [`Syntax::parse`] takes it back.
    pub(super) fn show(&self, value: &Value) -> Vec<u8> {
        match value {
            Value::Bool(true) => b"yes".to_vec(),
            Value::Bool(false) => b"no".to_vec(),
            Value::Int(number) if matches!(self, Self::Octal { .. }) => {
                format!("{number:o}").into_bytes()
            }
            Value::Int(number) => number.to_string().into_bytes(),
            Value::Auto => b"auto".to_vec(),
            Value::Bytes(bytes) => bytes.to_string().into_bytes(),
            Value::Percent(share) => format!("{share}%").into_bytes(),
            Value::Choice(index) => match self {
                Self::Choice(names) => names[*index].as_bytes().to_vec(),
                _ => unreachable!("only a choice has an index"),
            },
            Value::Text(text) => text.clone(),
            Value::Words(words) => words.join(&b' '),
        }
    }
}

/// Reads a decimal number as Redis does: no sign but `-`, no leading zero, no blanks.
pub(super) fn strict_integer(word: &[u8]) -> Option<i64> {
    let digits = word.strip_prefix(b"-").unwrap_or(word);
    let is_plain = digits.iter().all(u8::is_ascii_digit) && !digits.starts_with(b"0");
    if word != b"0" && !is_plain {
        return None;
    }
    std::str::from_utf8(word).ok()?.parse().ok()
}

/// Reads an amount of memory: digits and a unit. See the module head for what is refused.
pub(super) fn memory(word: &[u8]) -> Option<u64> {
    let split = word.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(word.len());
    let (digits, unit) = word.split_at(split);
    let scale: u64 = match unit.to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    std::str::from_utf8(digits).ok()?.parse::<u64>().ok()?.checked_mul(scale)
}

fn integer(word: &[u8], min: i64, max: i64) -> Result<Value, Reason> {
    match strict_integer(word) {
        Some(number) if (min..=max).contains(&number) => Ok(Value::Int(number)),
        Some(_) => Err(outside(min, max)),
        None => Err("argument couldn't be parsed into an integer".into()),
    }
}

fn octal(word: &[u8], max: i64) -> Result<Value, Reason> {
    let text = std::str::from_utf8(word).unwrap_or_default();
    match i64::from_str_radix(text, 8) {
        Ok(number) if (0..=max).contains(&number) => Ok(Value::Int(number)),
        Ok(_) => Err(Cow::Owned(format!("argument must be between 0 and {max:o} inclusive"))),
        Err(_) => Err("argument couldn't be parsed as an octal number".into()),
    }
}

fn memory_or_percent(word: &[u8]) -> Result<Value, Reason> {
    let Some(share) = word.strip_suffix(b"%") else {
        let bytes = memory(word).ok_or("argument must be a memory or percent value")?;
        return Ok(Value::Bytes(bytes));
    };
    let share = strict_integer(share).filter(|share| *share >= 0);
    let share = share.ok_or("argument must be a memory or percent value")?;
    match u8::try_from(share) {
        Ok(share) if share <= 100 => Ok(Value::Percent(share)),
        _ => Err("percentage argument must be less or equal to 100".into()),
    }
}

fn outside(min: impl std::fmt::Display, max: impl std::fmt::Display) -> Reason {
    Cow::Owned(format!("argument must be between {min} and {max} inclusive"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_of_memory() {
        let cases: &[(&str, Option<u64>)] = &[
            ("0", Some(0)),
            ("100", Some(100)),
            ("007", Some(7)),
            ("5b", Some(5)),
            ("1k", Some(1000)),
            ("1K", Some(1000)),
            ("1kb", Some(1024)),
            ("1kB", Some(1024)),
            ("2m", Some(2_000_000)),
            ("2Mb", Some(2 << 20)),
            ("3g", Some(3_000_000_000)),
            ("3GB", Some(3 << 30)),
            ("18446744073709551615", Some(u64::MAX)),
            ("18446744073709551616", None),
            ("18446744073709551615kb", None),
            ("", None),
            ("kb", None),
            ("-1", None),
            ("+1", None),
            ("1 kb", None),
            ("1tb", None),
            ("10%", None),
            ("1.5gb", None),
        ];
        for (word, expected) in cases {
            assert_eq!(memory(word.as_bytes()), *expected, "{word}");
        }
    }

    #[test]
    fn numbers_are_strict() {
        let cases: &[(&str, Option<i64>)] = &[
            ("0", Some(0)),
            ("-1", Some(-1)),
            ("9223372036854775807", Some(i64::MAX)),
            ("-9223372036854775808", Some(i64::MIN)),
            ("9223372036854775808", None),
            ("", None),
            ("-", None),
            ("-0", None),
            ("01", None),
            ("+1", None),
            (" 1", None),
            ("1a", None),
        ];
        for (word, expected) in cases {
            assert_eq!(strict_integer(word.as_bytes()), *expected, "{word}");
        }
    }
}
