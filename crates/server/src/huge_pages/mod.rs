//! Keys and values in huge pages: a look at a random key misses the TLB for its bucket, its entry
//! and its value while pages are small.
//!
//! Redis switches them off, since after a fork each byte that changes copies a whole page. Nothing
//! forks here. What the main thread allocates lies in the heap of glibc's main arena, which grows
//! by less than a huge page at a time, so the kernel hardly puts one there by itself, whatever its
//! policy. So when memory has grown and grows fast no more, a thread asks for huge pages in all of
//! the heap, has the kernel move what is there into them, one page at a time with rests in between,
//! and ends: `heap`. No address changes, and where there is no huge page the small ones stay.
//!
//! The main thread compares some numbers in its housekeeping. It moves nothing itself, since the
//! kernel may have to make room for a huge page first, which takes as long as it takes. It may have
//! to wait for the one page that is being moved, which takes some tenths of a millisecond; while it
//! gets new pages all the time it would wait for each, so a load is over first.
//!
//! What was rejected: glibc's own setting, which it reads before `main` only, by executing the
//! process anew (glibc 2.36 ignores it in some starts); and a heap that grows by tens of megabytes,
//! with huge pages from the first touch (to set that fixes the thresholds by which glibc adapts to
//! large values and gives memory back). What it gives is in docs/measurements.md.

#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod heap;

use std::fs;
use std::io;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

/// A server that uses less keeps its pages: there is little to be gained.
const USED_MIN: usize = 16 << 20;
/// Growth after which the heap is looked at again, and the part of what is used that it must be.
const GROWTH_MIN: usize = 8 << 20;
const GROWTH_PART: usize = 64;
/// Time between two looks, and growth in it that is slow.
const LOOK_MIN: Duration = Duration::from_millis(90);
const SLOW_MAX: usize = 2 << 20;
/// The thread needs little more than a small buffer.
const STACK: usize = 128 << 10;
/// In which cases the kernel gives huge pages; the one that holds is in brackets.
const POLICY: &str = "/sys/kernel/mm/transparent_hugepage/enabled";

/// See the module doc. The default asks for nothing. Main thread.
#[derive(Debug, Default)]
pub(crate) struct HugePages {
    /// What moves pages, if it is wanted and can be had.
    mover: Option<fn()>,
    /// When this was last asked, and how much keys and values used then.
    looked: Option<(Instant, usize)>,
    /// How much they used when pages were last moved.
    moved_bytes: usize,
    /// The thread that moves them.
    round: Option<JoinHandle<()>>,
}

impl HugePages {
    /// Huge pages where the kernel gives them to those who ask; or none in this process if they are
    /// `disabled`.
    ///
    /// # Errors
    /// The kernel would not do without them.
    pub(crate) fn new(disabled: bool) -> io::Result<Self> {
        if disabled {
            #[cfg(target_os = "linux")]
            rustix::thread::disable_transparent_huge_pages(true)?;
            return Ok(Self::default());
        }
        let policy = fs::read_to_string(POLICY).unwrap_or_default();
        Ok(Self { mover: MOVER.filter(|_| is_given(&policy)), ..Self::default() })
    }

    /// A part of the housekeeping at `now`, while keys and values use so much.
    pub(crate) fn look(&mut self, used_bytes: usize, now: Instant) {
        let Some(mover) = self.mover else { return };
        let before = self.looked.get_or_insert((now, used_bytes));
        if now.duration_since(before.0) < LOOK_MIN {
            return;
        }
        let is_fast = used_bytes > before.1.saturating_add(SLOW_MAX);
        *before = (now, used_bytes);
        // What the heap gave back to the system comes again in small pages.
        self.moved_bytes = self.moved_bytes.min(used_bytes);
        let is_running = self.round.as_ref().is_some_and(|round| !round.is_finished());
        if is_fast || is_running || !is_worth(used_bytes, used_bytes - self.moved_bytes) {
            return;
        }
        self.moved_bytes = used_bytes;
        let builder = Builder::new().name("huge-pages".to_owned()).stack_size(STACK);
        // Without a thread pages stay small until memory has grown again.
        self.round = builder.spawn(mover).ok();
    }
}

fn is_worth(used_bytes: usize, grown_bytes: usize) -> bool {
    used_bytes >= USED_MIN && grown_bytes >= GROWTH_MIN.max(used_bytes / GROWTH_PART)
}

#[cfg(all(target_os = "linux", target_env = "gnu"))]
const MOVER: Option<fn()> = Some(heap::move_into_huge_pages);
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
const MOVER: Option<fn()> = None;

fn is_given(policy: &str) -> bool {
    policy.contains("[madvise]") || policy.contains("[always]")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    const MIB: usize = 1 << 20;

    /// Looks at these amounts one after the other, `apart` in time; returns those at which pages
    /// were moved, in MiB.
    fn moves(apart: Duration, mib: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let mut pages = HugePages { mover: Some(|| ()), ..HugePages::default() };
        let mut now = Instant::now();
        let mut moves = Vec::new();
        for mib in mib {
            pages.look(mib * MIB, now);
            now += apart;
            if let Some(round) = pages.round.take() {
                round.join().expect("it does nothing");
                moves.push(mib);
            }
        }
        moves
    }

    #[test]
    fn pages_are_moved_when_memory_has_grown() {
        assert_eq!(moves(LOOK_MIN, 0..16), []);
        assert_eq!(moves(LOOK_MIN, 0..40), [16, 24, 32]);
        assert_eq!(moves(LOOK_MIN, [1024, 1024, 1032, 1032, 1040, 1040, 1041]), [1024, 1041]);
    }

    #[test]
    fn memory_that_comes_again_is_moved_again() {
        assert_eq!(moves(LOOK_MIN, [100, 100, 0, 100, 100]), [100, 100]);
        assert_eq!(moves(LOOK_MIN, [100, 100, 99, 100, 100]), [100]);
    }

    #[test]
    fn nothing_is_moved_while_memory_grows_fast() {
        assert_eq!(moves(LOOK_MIN, (0..300).step_by(3).chain([297])), [297]);
        assert_eq!(moves(LOOK_MIN / 2, [100, 100, 100]), [100], "the same growth, looked at later");
        assert_eq!(moves(LOOK_MIN / 2, [100, 100, 200, 200, 200]), [200]);
    }

    #[test]
    fn one_thread_at_a_time_and_none_if_there_is_nothing_to_be_had() {
        static GO: AtomicBool = AtomicBool::new(false);
        let mut now = Instant::now();
        let mut look = |pages: &mut HugePages, mib: usize| {
            for _ in 0..2 {
                now += LOOK_MIN;
                pages.look(mib * MIB, now);
            }
        };
        let mut pages = HugePages::default();
        look(&mut pages, 100);
        assert!(pages.round.is_none());
        pages.mover = Some(|| {
            while !GO.load(Ordering::Relaxed) {
                std::thread::yield_now();
            }
        });
        look(&mut pages, 100);
        let first = pages.round.as_ref().expect("it has grown").thread().id();
        look(&mut pages, 200);
        let running = pages.round.as_ref().expect("it goes on").thread().id();
        assert_eq!(running, first);
        GO.store(true, Ordering::Relaxed);
        pages.round.take().expect("it goes on").join().expect("it only waits");
        look(&mut pages, 200);
        assert!(pages.round.is_some(), "growth is not forgotten");
    }

    #[test]
    fn the_policy_of_the_kernel_holds() {
        assert!(is_given("always [madvise] never\n") && is_given("[always] madvise never\n"));
        assert!(!is_given("always madvise [never]\n") && !is_given(""));
    }
}
