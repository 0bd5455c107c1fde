//! Directives that take several words: `bind`, `save`, `client-output-buffer-limit` and a few
//! that are only accepted. Pure; any thread.
//!
//! Each reader turns the words of a line into the canonical words that CONFIG GET joins with
//! blanks, or refuses with the reason Redis gives.
//!
//! Source: behaviour of redis-server 7.0.15.

use std::borrow::Cow;

use super::row::{Context, Reason};
use super::syntax::{memory, strict_integer};
use super::types::{BindAddress, EndHow, EndSave, OutputLimit, OutputLimits};
use super::value::Value;

/// Most addresses of `bind`.
const BIND_COUNT_MAX: usize = 16;

/// Reads the words of one directive.
pub(super) type ReadWords = fn(&[Vec<u8>], &Context<'_>) -> Result<Vec<Vec<u8>>, Reason>;

/// A list that is written as words.
pub(super) trait WordList: Sized {
    /// The canonical words.
    fn to_words(&self) -> Vec<Vec<u8>>;
    /// Back from the canonical words.
    fn from_words(words: &[Vec<u8>]) -> Option<Self>;
}

impl WordList for Vec<BindAddress> {
    fn to_words(&self) -> Vec<Vec<u8>> {
        self.iter().map(|address| address.to_string().into_bytes()).collect()
    }

    fn from_words(words: &[Vec<u8>]) -> Option<Self> {
        words.iter().map(|word| BindAddress::parse(word)).collect()
    }
}

impl WordList for OutputLimits {
    fn to_words(&self) -> Vec<Vec<u8>> {
        let classes = [("normal", self.normal), ("slave", self.replica), ("pubsub", self.pubsub)];
        let words = classes.into_iter().flat_map(|(name, limit)| {
            let OutputLimit { hard_bytes, soft_bytes, soft_seconds } = limit;
            [
                name.to_owned(),
                hard_bytes.to_string(),
                soft_bytes.to_string(),
                soft_seconds.to_string(),
            ]
        });
        words.map(String::into_bytes).collect()
    }

    fn from_words(words: &[Vec<u8>]) -> Option<Self> {
        let none = OutputLimit { hard_bytes: 0, soft_bytes: 0, soft_seconds: 0 };
        let mut limits = Self { normal: none, replica: none, pubsub: none };
        update_limits(&mut limits, words).ok()?;
        Some(limits)
    }
}

/// `bind ADDRESS ...`; a single empty word means none.
pub(super) fn bind(words: &[Vec<u8>], _: &Context<'_>) -> Result<Vec<Vec<u8>>, Reason> {
    if words.len() > BIND_COUNT_MAX {
        return Err("Too many bind addresses specified.".into());
    }
    if words.iter().any(|word| BindAddress::parse(word).is_none()) {
        return Err("A bind address must be plain text.".into());
    }
    Ok(without_lone_empty(words).to_vec())
}

/// `client-output-buffer-limit CLASS HARD SOFT SECONDS ...`: classes not named keep theirs.
pub(super) fn output_limits(
    words: &[Vec<u8>],
    context: &Context<'_>,
) -> Result<Vec<Vec<u8>>, Reason> {
    let Value::Words(current) = context.current else {
        unreachable!("the value of a directive with words is words")
    };
    let mut limits = OutputLimits::from_words(current).expect("stored words are canonical");
    update_limits(&mut limits, words)?;
    Ok(limits.to_words())
}

fn update_limits(limits: &mut OutputLimits, words: &[Vec<u8>]) -> Result<(), Reason> {
    if !words.len().is_multiple_of(4) {
        return Err("Wrong number of arguments in buffer limit configuration.".into());
    }
    for group in words.chunks_exact(4) {
        let class = limits
            .class_mut(&group[0])
            .ok_or("Invalid client class specified in buffer limit configuration.")?;
        let limit = (|| {
            Some(OutputLimit {
                hard_bytes: memory(&group[1])?,
                soft_bytes: memory(&group[2])?,
                soft_seconds: strict_integer(&group[3])?.try_into().ok()?,
            })
        })();
        *class = limit
            .ok_or("Error in hard, soft or soft_seconds setting in buffer limit configuration.")?;
    }
    Ok(())
}

/// `save SECONDS CHANGES ...`; in a file, lines add up, and the first one replaces the default.
pub(super) fn save(words: &[Vec<u8>], context: &Context<'_>) -> Result<Vec<Vec<u8>>, Reason> {
    // Empties the list wherever it stands.
    if matches!(words, [only] if only.is_empty()) {
        return Ok(Vec::new());
    }
    let in_order = words.chunks(2).all(|pair| {
        let at_least = |word: &[u8], low| strict_integer(word).is_some_and(|number| number >= low);
        pair.len() == 2 && at_least(&pair[0], 1) && at_least(&pair[1], 0)
    });
    if !in_order {
        return Err("Invalid save parameters".into());
    }
    match context.current {
        Value::Words(earlier) if context.adds => Ok([earlier, words].concat()),
        _ => Ok(words.to_vec()),
    }
}

/// `oom-score-adj-values MASTER REPLICA CHILD`.
pub(super) fn oom_scores(words: &[Vec<u8>], _: &Context<'_>) -> Result<Vec<Vec<u8>>, Reason> {
    if words.len() != 3 {
        return Err("wrong number of arguments".into());
    }
    let is_score =
        |word: &Vec<u8>| strict_integer(word).is_some_and(|n| (-2000..=2000).contains(&n));
    if !words.iter().all(is_score) {
        let reason = "Invalid oom-score-adj-values, elements must be between -2000 and 2000.";
        return Err(reason.into());
    }
    Ok(words.to_vec())
}

/// `latency-tracking-info-percentiles PERCENT ...`.
pub(super) fn percentiles(words: &[Vec<u8>], _: &Context<'_>) -> Result<Vec<Vec<u8>>, Reason> {
    let shown = |word: &Vec<u8>| -> Result<Vec<u8>, Reason> {
        let number: Option<f64> = std::str::from_utf8(word).ok().and_then(|text| text.parse().ok());
        let number = number
            .filter(|number| !number.is_nan())
            .ok_or("Invalid latency-tracking-info-percentiles parameters")?;
        if !(0.0..=100.0).contains(&number) {
            let reason =
                "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]";
            return Err(reason.into());
        }
        let text = format!("{number:.6}");
        Ok(text.trim_end_matches('0').trim_end_matches('.').as_bytes().to_vec())
    };
    without_lone_empty(words).iter().map(shown).collect()
}

/// `replicaof HOST PORT` or `replicaof no one`.
pub(super) fn replica_of(words: &[Vec<u8>], _: &Context<'_>) -> Result<Vec<Vec<u8>>, Reason> {
    let [host, port] = words else { return Err("wrong number of arguments".into()) };
    if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
        return Ok(Vec::new());
    }
    if strict_integer(port).is_none_or(|number| !(0..=65_535).contains(&number)) {
        return Err("Invalid master port".into());
    }
    Ok(words.to_vec())
}

/// `shutdown-on-sigterm OPTION ...`.
pub(super) fn shutdown_options(words: &[Vec<u8>], _: &Context<'_>) -> Result<Vec<Vec<u8>>, Reason> {
    if words.is_empty() || words.iter().any(|word| EndHow::option(word).is_none()) {
        return Err(one_of(&EndHow::OPTIONS));
    }
    let how = EndHow::from_words(words)
        .ok_or("shutdown options SAVE and NOSAVE can't be used simultaneously")?;
    Ok(how.to_words())
}

impl EndHow {
    const OPTIONS: [&str; 5] = ["default", "save", "nosave", "now", "force"];

    /// Which of [`EndHow::OPTIONS`] a word is.
    fn option(word: &[u8]) -> Option<usize> {
        Self::OPTIONS.iter().position(|name| word.eq_ignore_ascii_case(name.as_bytes()))
    }

    /// What `words` ask for, unless one is unknown or they contradict each other.
    pub(super) fn from_words(words: &[Vec<u8>]) -> Option<Self> {
        let mut given = [false; Self::OPTIONS.len()];
        for word in words {
            given[Self::option(word)?] = true;
        }
        let [_, save, nosave, now, force] = given;
        Some(Self { save: EndSave::of(save, nosave)?, now, force })
    }

    /// The words as they are shown; `default` is no option of its own, and stands for none.
    pub(super) fn to_words(self) -> Vec<Vec<u8>> {
        let Self { save, now, force } = self;
        let is_default = self == Self::default();
        let shown = [is_default, save == EndSave::All, save == EndSave::No, now, force];
        let words = Self::OPTIONS.iter().zip(shown).filter(|(_, shown)| *shown);
        words.map(|(name, _)| name.as_bytes().to_vec()).collect()
    }
}

/// The reason when a word is none of `names`.
pub(super) fn one_of(names: &[&str]) -> Reason {
    Cow::Owned(format!("argument(s) must be one of the following: {}", names.join(", ")))
}

/// A single empty word stands for no word at all.
fn without_lone_empty(words: &[Vec<u8>]) -> &[Vec<u8>] {
    match words {
        [only] if only.is_empty() => &[],
        words => words,
    }
}
