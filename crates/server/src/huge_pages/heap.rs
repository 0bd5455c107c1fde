//! Moving the heap of glibc's main arena into huge pages.
//!
//! A thread of its own, which touches nothing that others have: it tells the kernel what memory is
//! to be backed by. Kernels before 6.1 cannot be told to move pages; asked for huge ones, they do
//! it in their own time, some megabytes in ten seconds. Blocks, and may take seconds.
//!
//! Source: madvise(2), and the kernel's admin-guide/mm/transhuge.

#![expect(unsafe_code, reason = "advice to the kernel takes an address; see `advise`")]

use std::ops::Range;
use std::time::Instant;
use std::{fs, io, ptr, thread};

const PAGE_BYTES: &str = "/sys/kernel/mm/transparent_hugepage/hpage_pmd_size";
/// Rest after a page was moved, in terms of the time that took: a main thread that had to wait for
/// it does not meet the next one at once.
const REST: u32 = 10;

/// Asks for huge pages in all of the heap, and has what is there moved into them.
pub(super) fn move_into_huge_pages() {
    let page_bytes = fs::read_to_string(PAGE_BYTES).ok().and_then(|text| text.trim().parse().ok());
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let (Some(page_bytes), Some(heap)) = (page_bytes, heap_of(&maps)) else { return };
    let pages = whole_pages(&heap, page_bytes);
    if pages.is_empty() || advise(&pages, libc::MADV_HUGEPAGE).is_err() {
        return;
    }
    for start in pages.step_by(page_bytes) {
        let begun = Instant::now();
        match advise(&(start..start + page_bytes), libc::MADV_COLLAPSE) {
            Ok(()) => {}
            // A part of it is in use by the kernel just now.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // The kernel does not know how, has no huge page left, or the heap is smaller by now.
            Err(_) => return,
        }
        thread::sleep(begun.elapsed() * REST);
    }
}

/// Where the heap lies, by the text of /proc/self/maps: one range, in several lines if not all of
/// it is advised alike.
fn heap_of(maps: &str) -> Option<Range<usize>> {
    let number = |text| usize::from_str_radix(text, 16).ok();
    let mut lines = maps.lines().filter(|line| line.ends_with(" [heap]")).filter_map(|line| {
        let (start, end) = line.split_once(' ')?.0.split_once('-')?;
        Some((number(start)?, number(end)?))
    });
    let (start, end) = lines.next()?;
    Some(start..lines.next_back().map_or(end, |(_, end)| end))
}

/// The pages of so many bytes that lie in `range` as a whole.
fn whole_pages(range: &Range<usize>, page_bytes: usize) -> Range<usize> {
    range.start.next_multiple_of(page_bytes)..range.end / page_bytes * page_bytes
}

fn advise(range: &Range<usize>, advice: i32) -> io::Result<()> {
    let start = ptr::without_provenance_mut(range.start);
    // SAFETY: [advice] both kinds of advice say what memory is backed by and change nothing that it
    // holds, so they do no harm whatever lies in the range by now.
    match unsafe { libc::madvise(start, range.len(), advice) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_heap_is_all_lines_of_that_name() {
        let maps = "\
5590a0000000-5590a0100000 r-xp 00000000 fe:00 17                         /bin/flintlock
5590a1000000-5590a1200000 rw-p 00000000 00:00 0                          [heap]
5590a1200000-5590a1a21000 rw-p 00000000 00:00 0                          [heap]
7f0000000000-7f0000021000 rw-p 00000000 00:00 0
7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0                          [stack]
";
        assert_eq!(heap_of(maps), Some(0x5590_a100_0000..0x5590_a1a2_1000));
        assert_eq!(heap_of(""), None);
        let own = fs::read_to_string("/proc/self/maps").expect("Linux has it");
        assert!(heap_of(&own).is_some_and(|heap| !heap.is_empty()));
    }

    #[test]
    fn only_whole_pages_are_moved() {
        assert_eq!(whole_pages(&(0x1000..0x60_0000), 0x20_0000), 0x20_0000..0x60_0000);
        assert_eq!(whole_pages(&(0x20_0000..0x5f_f000), 0x20_0000), 0x20_0000..0x40_0000);
        assert!(whole_pages(&(0x1000..0x30_0000), 0x20_0000).is_empty());
    }
}
