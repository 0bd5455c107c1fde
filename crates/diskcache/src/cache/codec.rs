//! The stored form of typed keys and values. Any thread; no IO.
//!
//! Integers are big-endian, so that their order is that of their bytes.

use std::cell::Cell;

use super::job::{Decode, DecodeError};
use crate::key::KeyRef;
use crate::storage::Record;

thread_local! {
    /// Encoded keys and values on their way; empty while it is in use.
    static SCRATCH: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// A scratch buffer larger than this is given back to the allocator.
const SCRATCH_MAX: usize = 1 << 20;

/// Runs `run` with an empty buffer that is used again.
#[inline]
pub(crate) fn with_scratch<R>(run: impl FnOnce(&mut Vec<u8>) -> R) -> R {
    let mut scratch = SCRATCH.take();
    scratch.clear();
    let result = run(&mut scratch);
    if scratch.capacity() <= SCRATCH_MAX {
        SCRATCH.set(scratch);
    }
    result
}

/// A value, or a key, that can be stored.
pub trait Codec: Sized + Send + 'static {
    /// Appends the stored form.
    fn encode(&self, out: &mut Vec<u8>);

    /// Shows `run` the stored form. Worth an implementation of its own where the bytes are at hand:
    /// each get of a [`DiskCache`](crate::DiskCache) begins with it for the key, and each save for
    /// the value.
    #[inline]
    fn encoded<R>(&self, run: impl FnOnce(&[u8]) -> R) -> R {
        with_scratch(|scratch| {
            self.encode(scratch);
            run(scratch)
        })
    }

    /// Reads the stored form back.
    ///
    /// # Errors
    /// What is wrong with `bytes`; they may be anything.
    fn decode(bytes: &[u8]) -> Result<Self, DecodeError>;

    /// Bytes on the heap, beside the value itself; counted against the memory limit.
    fn heap_bytes(&self) -> usize {
        0
    }
}

impl Codec for Vec<u8> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self);
    }

    fn encoded<R>(&self, run: impl FnOnce(&[u8]) -> R) -> R {
        run(self)
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        Ok(bytes.to_vec())
    }

    fn heap_bytes(&self) -> usize {
        self.capacity()
    }
}

impl Codec for String {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.as_bytes());
    }

    fn encoded<R>(&self, run: impl FnOnce(&[u8]) -> R) -> R {
        run(self.as_bytes())
    }

    fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let text = std::str::from_utf8(bytes).map_err(|_| DecodeError("not UTF-8"))?;
        Ok(text.to_owned())
    }

    fn heap_bytes(&self) -> usize {
        self.capacity()
    }
}

macro_rules! integer_codec {
    ($($int:ty),*) => {$(
        impl Codec for $int {
            fn encode(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_be_bytes());
            }

            #[inline]
            fn encoded<R>(&self, run: impl FnOnce(&[u8]) -> R) -> R {
                run(&self.to_be_bytes())
            }

            fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
                let bytes =
                    bytes.try_into().map_err(|_| DecodeError("an integer of another size"))?;
                Ok(Self::from_be_bytes(bytes))
            }
        }
    )*};
}
integer_codec!(u8, u16, u32, u64, u128, i8, i16, i32, i64, i128);

/// Decodes by [`Codec`].
#[derive(Debug)]
pub struct CodecDecode<V>(std::marker::PhantomData<fn() -> V>);

impl<V> Default for CodecDecode<V> {
    fn default() -> Self {
        Self(std::marker::PhantomData)
    }
}

impl<V: Codec> Decode for CodecDecode<V> {
    type Value = V;

    fn decode(&self, _: KeyRef<'_>, record: &Record) -> Result<V, DecodeError> {
        V::decode(&record.payload)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With `encode` alone, as most implementations are.
    struct Pair(u8, u8);

    impl Codec for Pair {
        fn encode(&self, out: &mut Vec<u8>) {
            out.extend([self.0, self.1]);
        }

        fn decode(_: &[u8]) -> Result<Self, DecodeError> {
            Err(DecodeError("never read back"))
        }
    }

    #[test]
    fn what_is_shown_encoded_is_what_encode_appends() {
        fn check(value: &impl Codec) {
            let mut appended = Vec::new();
            value.encode(&mut appended);
            // The second finds the buffer of the first in use.
            let shown = value.encoded(|bytes| {
                value.encoded(|again| assert_eq!(again, bytes));
                bytes.to_vec()
            });
            assert_eq!(shown, appended);
        }
        check(&Pair(1, 2));
        check(&Pair(3, 4));
        check(&vec![1_u8, 2, 3]);
        check(&"text".to_owned());
        check(&0x0102_0304_u32);
        check(&-7_i64);
    }

    #[test]
    fn codecs_refuse_what_they_did_not_write() {
        assert_eq!(u64::decode(&[1, 2, 3]), Err(DecodeError("an integer of another size")));
        assert!(String::decode(&[0xff]).is_err());
        let mut out = Vec::new();
        (-5_i64).encode(&mut out);
        assert_eq!(i64::decode(&out), Ok(-5));
    }
}
