//! The length code of packed buffers: one byte up to 191, two up to 16,318, five beyond.
//! Pure; any thread.
//!
//! It can be written backwards too, so a chunk of a list can be read from its end. The buffers
//! that hold it are our own, never a peer's: bytes from the disk go through `codec`, which checks.

/// First value of the lead byte that announces a second byte.
const TWO: u8 = 0xC0;
/// Lead byte that announces four bytes, little-endian.
const FIVE: u8 = 0xFF;
/// Smallest length that takes two bytes.
const TWO_MIN: usize = TWO as usize;
/// Smallest length that takes five bytes.
const FIVE_MIN: usize = TWO_MIN + (FIVE - TWO) as usize * 256;

/// Bytes that the code of `len` takes.
#[inline]
pub(super) const fn size(len: usize) -> usize {
    if len < TWO_MIN {
        1
    } else if len < FIVE_MIN {
        2
    } else {
        5
    }
}

/// The code of `len` and how many of its bytes count.
///
/// # Panics
/// When `len` needs more than 32 bits; a string of the protocol has at most 512 MiB.
#[inline]
pub(super) fn encode(len: usize) -> ([u8; 5], usize) {
    if len < TWO_MIN {
        ([len as u8, 0, 0, 0, 0], 1)
    } else if len < FIVE_MIN {
        let rest = len - TWO_MIN;
        ([TWO + (rest >> 8) as u8, rest as u8, 0, 0, 0], 2)
    } else {
        let b = u32::try_from(len).expect("strings are shorter than 4 GiB").to_le_bytes();
        ([FIVE, b[0], b[1], b[2], b[3]], 5)
    }
}

/// Appends the code of `len`.
#[inline]
pub(super) fn push(out: &mut Vec<u8>, len: usize) {
    if len < TWO_MIN {
        out.push(len as u8);
    } else {
        let (code, size) = encode(len);
        out.extend_from_slice(&code[..size]);
    }
}

/// Writes the code of `len` at the start of `out`; returns its size.
#[inline]
pub(super) fn write(out: &mut [u8], len: usize) -> usize {
    if len < TWO_MIN {
        out[0] = len as u8;
        return 1;
    }
    let (code, size) = encode(len);
    out[..size].copy_from_slice(&code[..size]);
    size
}

/// Writes the code of `len` backwards at the end of `out`; returns its size.
#[inline]
pub(super) fn write_reversed(out: &mut [u8], len: usize) -> usize {
    let end = out.len();
    if len < TWO_MIN {
        out[end - 1] = len as u8;
        return 1;
    }
    let (code, size) = encode(len);
    for (i, byte) in code[..size].iter().enumerate() {
        out[end - 1 - i] = *byte;
    }
    size
}

/// Reads the code at the start of `bytes`: the length and the size of the code.
#[inline]
pub(super) fn read(bytes: &[u8]) -> (usize, usize) {
    match bytes[0] {
        lead @ 0..TWO => (usize::from(lead), 1),
        FIVE => (u32::from_le_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize, 5),
        lead => (TWO_MIN + (usize::from(lead - TWO) << 8) + usize::from(bytes[1]), 2),
    }
}

/// Reads the code that ends `bytes` and was written backwards: the length and the code's size.
#[inline]
pub(super) fn read_reversed(bytes: &[u8]) -> (usize, usize) {
    let end = bytes.len();
    match bytes[end - 1] {
        lead @ 0..TWO => (usize::from(lead), 1),
        FIVE => {
            let b = [bytes[end - 2], bytes[end - 3], bytes[end - 4], bytes[end - 5]];
            (u32::from_le_bytes(b) as usize, 5)
        }
        lead => (TWO_MIN + (usize::from(lead - TWO) << 8) + usize::from(bytes[end - 2]), 2),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_reads_back_from_both_ends() {
        let edges = [0, 1, 191, 192, 447, 448, FIVE_MIN - 1, FIVE_MIN, 70_000, u32::MAX as usize];
        for len in edges.into_iter().chain(0..20_000) {
            let mut forward = vec![9];
            push(&mut forward, len);
            assert_eq!(read(&forward[1..]), (len, size(len)));
            assert_eq!(forward.len() - 1, size(len));
            let mut buffer = [9; 8];
            assert_eq!(write(&mut buffer, len), size(len));
            assert_eq!(read(&buffer), (len, size(len)));
            assert_eq!(write_reversed(&mut buffer, len), size(len));
            assert_eq!(read_reversed(&buffer), (len, size(len)));
        }
    }
}
