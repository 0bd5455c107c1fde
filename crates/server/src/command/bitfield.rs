//! BITFIELD: numbers of 1 to 64 bits anywhere in a string, the highest bit first.
//!
//! Source: behaviour of redis-server 7.0.15.

use crate::resp::encode::Reply;
use crate::types::number::parse_i64;

use super::bitmap::{checked_offset, end_of_bit, offset_of};
use super::string::patch;
use super::{Command, Ctx, Error, Flags, Keys, Request};

/// The rows of this family.
pub(super) fn commands() -> Vec<Command> {
    let write = &[Flags::WRITE, Flags::DENYOOM];
    let read = &[Flags::READONLY, Flags::FAST];
    vec![
        Command::new("bitfield", bitfield, -2, write, Keys::ONE)
            .growing(|request, len| longest(request).saturating_sub(len(1))),
        Command::new("bitfield_ro", bitfield_ro, -2, read, Keys::ONE),
    ]
}

/// The length that the string must have for every step that writes, as far as they can be read.
fn longest(request: &Request<'_>) -> usize {
    let steps = Steps::new(request, |text, unit| offset_of(text, unit).ok_or(Error::SYNTAX));
    steps.map_while(Result::ok).map(|step| step.end_of_write()).max().unwrap_or(0)
}

/// What becomes of a number that does not fit.
#[derive(Copy, Clone)]
enum Overflow {
    /// Its lowest bits are kept.
    Wrap,
    /// It becomes the nearest that fits.
    Saturate,
    /// Nothing is written.
    Fail,
}

/// A kind of number.
#[derive(Copy, Clone)]
struct Form {
    is_signed: bool,
    bits: u32,
}

impl Form {
    fn parse(text: &[u8]) -> Result<Self, Error> {
        const NOT_FORM: Error = Error::fixed(
            "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported \
             but i64 is.",
        );
        let (is_signed, digits) = match text {
            [b'i', digits @ ..] => (true, digits),
            [b'u', digits @ ..] => (false, digits),
            _ => return Err(NOT_FORM),
        };
        let most = if is_signed { 64 } else { 63 };
        // As in C a number ends with the first NUL byte.
        let digits = digits.split(|byte| *byte == 0).next().and_then(parse_i64);
        let bits = digits.filter(|bits| (1..=most).contains(bits)).ok_or(NOT_FORM)?;
        Ok(Self { is_signed, bits: bits as u32 })
    }

    /// The lowest and the highest number.
    fn ends(self) -> (i128, i128) {
        let count = 1_i128 << self.bits;
        if self.is_signed { (-count / 2, count / 2 - 1) } else { (0, count - 1) }
    }

    /// The number that SET was given. Without a sign the lowest are the highest; and Redis, which
    /// measures the distance to the highest in 64 bits, takes the lowest of all for too high.
    fn given(self, number: i64, overflow: Overflow) -> i128 {
        if !self.is_signed {
            return number.cast_unsigned().into();
        }
        let (_, high) = self.ends();
        let is_far = self.bits < 64 && high - i128::from(number) > i64::MAX.into();
        if is_far && matches!(overflow, Overflow::Saturate) { high } else { number.into() }
    }

    /// The number that is stored in place of `number`, if any is.
    fn fit(self, number: i128, overflow: Overflow) -> Option<i64> {
        let (low, high) = self.ends();
        let fitting = match overflow {
            _ if (low..=high).contains(&number) => number,
            Overflow::Wrap => (number - low).rem_euclid(1 << self.bits) + low,
            Overflow::Saturate => number.clamp(low, high),
            Overflow::Fail => return None,
        };
        Some(i64::try_from(fitting).expect("every form fits 64 bits with a sign"))
    }

    /// The number whose first bit is `offset`; behind the end of the string there are zeros.
    fn read(self, string: &[u8], offset: u64) -> i64 {
        let (word, shift) = self.word(string, offset);
        let low = (word >> shift) as u64 & self.mask();
        let unused = 64 - self.bits;
        if self.is_signed { (low << unused).cast_signed() >> unused } else { low.cast_signed() }
    }

    /// Overwrites the number, all of which lies in the string.
    fn write(self, string: &mut [u8], offset: u64, number: i64) {
        let (word, shift) = self.word(string, offset);
        let mask = u128::from(self.mask());
        let new = word & !(mask << shift) | (number as u128 & mask) << shift;
        let first = end_of_bit(offset) - 1;
        let bytes = &new.to_be_bytes()[WORD_FIRST..];
        string[first..].iter_mut().zip(bytes).for_each(|(byte, new)| *byte = *new);
    }

    /// The nine bytes from that of the first bit on, and how many bits follow the number there.
    fn word(self, string: &[u8], offset: u64) -> (u128, u32) {
        let mut bytes = [0; 16];
        let there = string.get(end_of_bit(offset) - 1..).unwrap_or_default();
        bytes[WORD_FIRST..].iter_mut().zip(there).for_each(|(byte, old)| *byte = *old);
        (u128::from_be_bytes(bytes), 72 - (offset % 8) as u32 - self.bits)
    }

    fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits)
    }
}

/// Where the last nine bytes of sixteen begin.
const WORD_FIRST: usize = 16 - 9;

/// What is done with a number.
#[derive(Copy, Clone)]
enum Action {
    Get,
    Set(i64, Overflow),
    Add(i64, Overflow),
}

/// One step of a request.
#[derive(Copy, Clone)]
struct Step {
    form: Form,
    offset: u64,
    action: Action,
}

impl Step {
    /// How long the string must be for it; 0 if it only reads.
    fn end_of_write(&self) -> usize {
        match self.action {
            Action::Get => 0,
            Action::Set(..) | Action::Add(..) => {
                end_of_bit(self.offset.saturating_add(u64::from(self.form.bits) - 1))
            }
        }
    }

    /// Makes it; what it wants to be answered, and the number to be written.
    fn run(&self, string: &[u8]) -> (Option<i64>, Option<i64>) {
        let old = self.form.read(string, self.offset);
        match self.action {
            Action::Get => (Some(old), None),
            Action::Set(number, overflow) => {
                let number = self.form.given(number, overflow);
                let new = self.form.fit(number, overflow);
                (new.map(|_| old), new)
            }
            Action::Add(by, overflow) => {
                let new = self.form.fit(i128::from(old) + i128::from(by), overflow);
                (new, new)
            }
        }
    }
}

/// The steps of a request, read one by one; `offset` reads where a number begins, in units.
struct Steps<'r, F> {
    request: &'r Request<'r>,
    at: usize,
    overflow: Overflow,
    offset: F,
}

impl<'r, F: Fn(&[u8], i64) -> Result<u64, Error>> Steps<'r, F> {
    fn new(request: &'r Request<'r>, offset: F) -> Self {
        Self { request, at: 2, overflow: Overflow::Wrap, offset }
    }

    fn parse(&mut self) -> Result<Option<Step>, Error> {
        while let Some(name) = self.request.get(self.at) {
            let behind = self.request.len() - self.at - 1;
            let words = match name.to_ascii_lowercase().as_slice() {
                b"overflow" if behind >= 1 => {
                    self.overflow = parse_overflow(self.request.arg(self.at + 1))?;
                    self.at += 2;
                    continue;
                }
                b"get" if behind >= 2 => 2,
                b"set" | b"incrby" if behind >= 3 => 3,
                _ => return Err(Error::SYNTAX),
            };
            let step = self.step(name, words == 3)?;
            self.at += 1 + words;
            return Ok(Some(step));
        }
        Ok(None)
    }

    fn step(&self, name: &[u8], writes: bool) -> Result<Step, Error> {
        let form = Form::parse(self.request.arg(self.at + 1))?;
        let offset = match self.request.arg(self.at + 2) {
            // The so-manieth number of this form.
            [b'#', number @ ..] => (self.offset)(number, form.bits.into())?,
            number => (self.offset)(number, 1)?,
        };
        let action = if writes {
            let number = parse_i64(self.request.arg(self.at + 3)).ok_or(Error::NOT_INTEGER)?;
            let is_set = name.eq_ignore_ascii_case(b"set");
            (if is_set { Action::Set } else { Action::Add })(number, self.overflow)
        } else {
            Action::Get
        };
        Ok(Step { form, offset, action })
    }
}

fn parse_overflow(word: &[u8]) -> Result<Overflow, Error> {
    match word.to_ascii_lowercase().as_slice() {
        b"wrap" => Ok(Overflow::Wrap),
        b"sat" => Ok(Overflow::Saturate),
        b"fail" => Ok(Overflow::Fail),
        _ => Err(Error::fixed("ERR Invalid OVERFLOW type specified")),
    }
}

impl<F: Fn(&[u8], i64) -> Result<u64, Error>> Iterator for Steps<'_, F> {
    type Item = Result<Step, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        self.parse().transpose()
    }
}

fn steps_of(ctx: &Ctx<'_>, request: &Request<'_>) -> Result<Vec<Step>, Error> {
    Steps::new(request, |text, unit| checked_offset(ctx, text, unit)).collect()
}

fn reply_number(number: Option<i64>, reply: &mut Reply<'_>) {
    match number {
        Some(number) => reply.int(number),
        None => reply.null(),
    }
}

/// Runs steps that only read.
fn read(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
    steps: &[Step],
) -> Result<(), Error> {
    let found = ctx.read(ctx.key(request, 1));
    let digits = &mut itoa::Buffer::new();
    let string = found.map_or(Ok(&b""[..]), |loc| ctx.string(loc, digits))?;
    reply.array(steps.len());
    steps.iter().for_each(|step| reply_number(step.run(string).0, reply));
    Ok(())
}

fn bitfield(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let steps = steps_of(ctx, request)?;
    let len = steps.iter().map(Step::end_of_write).max().unwrap_or(0);
    if len == 0 {
        return read(ctx, request, reply, &steps);
    }
    let key = ctx.key(request, 1);
    let found = ctx.find(key);
    let digits = &mut itoa::Buffer::new();
    let old = found.map_or(Ok(&b""[..]), |loc| ctx.string(loc, digits))?;
    let writes = steps.iter().any(|step| step.run(old).1.is_some());
    let mut run = |ctx: &mut Ctx<'_>| {
        reply.array(steps.len());
        patch(ctx, key, found, request, len, |string| run_all(&steps, string, reply))
    };
    // As in Redis the string becomes longer even if no number fits, and nobody is told of that.
    if writes { run(ctx) } else { ctx.quietly(run) }
}

/// Runs steps one after the other; returns whether they changed the string.
fn run_all(steps: &[Step], string: &mut [u8], reply: &mut Reply<'_>) -> bool {
    let mut is_changed = false;
    for step in steps {
        let (answer, number) = step.run(string);
        if let Some(number) = number {
            is_changed |= step.form.read(string, step.offset) != number;
            step.form.write(string, step.offset, number);
        }
        reply_number(answer, reply);
    }
    is_changed
}

fn bitfield_ro(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    let steps = steps_of(ctx, request)?;
    if steps.iter().any(|step| step.end_of_write() > 0) {
        return Err(Error::fixed("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    read(ctx, request, reply, &steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_nothing_else_is_touched() {
        for is_signed in [true, false] {
            for bits in 1..=if is_signed { 64 } else { 63 } {
                let form = Form { is_signed, bits };
                let (low, high) = form.ends();
                for (offset, fill) in (0..17).flat_map(|offset| [(offset, 0x00), (offset, 0xff)]) {
                    for number in [low, -1, 0, 1, high] {
                        let Some(number) = form.fit(number, Overflow::Fail) else { continue };
                        let mut string = vec![fill; end_of_bit(offset + u64::from(bits) - 1)];
                        let whole = Form { is_signed: false, bits: 1 };
                        form.write(&mut string, offset, number);
                        assert_eq!(form.read(&string, offset), number, "{bits} at {offset}");
                        let outside = (0..string.len() as u64 * 8)
                            .filter(|at| !(offset..offset + u64::from(bits)).contains(at));
                        for at in outside {
                            assert_eq!(whole.read(&string, at), i64::from(fill & 1), "{at}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn numbers_that_do_not_fit() {
        let [i8, u4, i64] = [b"i8".as_slice(), b"u4", b"i64"].map(Form::parse);
        let fit = |form: &Result<Form, Error>, number, overflow| {
            form.clone().expect("a form").fit(number, overflow)
        };
        assert_eq!(fit(&i8, 128, Overflow::Wrap), Some(-128));
        assert_eq!(fit(&i8, -129, Overflow::Wrap), Some(127));
        assert_eq!(fit(&i8, 1000, Overflow::Saturate), Some(127));
        assert_eq!(fit(&i8, -1000, Overflow::Saturate), Some(-128));
        assert_eq!(fit(&i8, 128, Overflow::Fail), None);
        assert_eq!(fit(&u4, 16, Overflow::Wrap), Some(0));
        assert_eq!(fit(&u4, -1, Overflow::Wrap), Some(15));
        assert_eq!(fit(&u4, -1, Overflow::Saturate), Some(0));
        assert_eq!(fit(&u4, 15, Overflow::Fail), Some(15));
        assert_eq!(fit(&i64, i128::from(i64::MAX) + 1, Overflow::Wrap), Some(i64::MIN));
        for bad in [&b"u64"[..], b"i65", b"i0", b"u", b"8", b"I8", b"i-1", b"", b"i8 "] {
            assert!(Form::parse(bad).is_err(), "{}", bad.escape_ascii());
        }
    }
}
