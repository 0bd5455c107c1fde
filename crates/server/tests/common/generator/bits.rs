//! Commands on the bits of strings.

use super::{Command, Generator, INTEGERS, with_name};

const OFFSETS: &[&str] = &["0", "1", "7", "8", "9", "63", "64", "100", "1000", "#0", "#1", "#13"];
const FORMS: &[&str] =
    &["u1", "u2", "u7", "u8", "u13", "u32", "u63", "i1", "i5", "i8", "i64", "u64", "i0", "x"];

impl Generator {
    pub(super) fn bits(&mut self) -> Command {
        match self.rng.below(8) {
            0 | 1 => {
                let bit = self.rng.pick(&["0", "1", "1", "2"]).as_bytes().to_vec();
                let words = [self.offset(), bit];
                self.keyed("SETBIT", &words)
            }
            2 => {
                let offset = self.offset();
                self.keyed("GETBIT", &[offset])
            }
            3 => {
                let range = self.stretch();
                self.keyed("BITCOUNT", &range)
            }
            4 => {
                let bit = self.rng.pick(&["0", "1", "2"]).as_bytes().to_vec();
                let words = [vec![bit], self.stretch()].concat();
                self.keyed("BITPOS", &words)
            }
            5 => {
                let operation = self.rng.pick(&["AND", "or", "XOR", "NOT"]).as_bytes().to_vec();
                let words = [vec![operation], self.some(4, Self::key)].concat();
                with_name("BITOP", words)
            }
            _ => self.bitfield(),
        }
    }

    fn offset(&mut self) -> Vec<u8> {
        let offsets = if self.rng.one_in(8) { INTEGERS } else { OFFSETS };
        self.rng.pick(offsets).as_bytes().to_vec()
    }

    /// No, one or two ends of a range, and what they count.
    fn stretch(&mut self) -> Vec<Vec<u8>> {
        let mut words = self.some(2, Self::integer);
        match self.rng.below(4) {
            0 => words.clear(),
            1 => {}
            _ => words.push(self.rng.pick(&["BIT", "byte", "nope"]).as_bytes().to_vec()),
        }
        words
    }

    fn bitfield(&mut self) -> Command {
        let mut words = Vec::new();
        for _ in 0..=self.rng.below(3) {
            if self.rng.one_in(2) {
                let overflow = self.rng.pick(&["WRAP", "sat", "FAIL", "FAIL", "nope"]);
                words.extend([b"OVERFLOW".to_vec(), overflow.as_bytes().to_vec()]);
            }
            let name = self.rng.pick(&["GET", "SET", "INCRBY", "incrby"]);
            words.extend([name.into(), self.rng.pick(FORMS).into(), self.offset()]);
            if name != "GET" {
                words.push(self.integer());
            }
        }
        let name = self.rng.pick(&["BITFIELD", "BITFIELD", "BITFIELD", "BITFIELD_RO"]);
        self.keyed(name, &words)
    }
}
