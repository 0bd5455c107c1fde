//! All queues in a program without `std`: built with `panic = "abort"`, as `make bare` does, it
//! brings its own entry point, allocator and panic handler, and a crate that pulled `std` in would
//! collide with the last of these. Built in any other way it is an ordinary program.
#![cfg_attr(panic = "abort", no_std, no_main)]
#![cfg_attr(panic = "abort", expect(unsafe_code, reason = "an allocator and an entry point"))]

use flintlock_queues::mpsc::{rings, shared};
use flintlock_queues::{Compact, Words, spmc, spsc};

static ONE: u64 = 1;

/// Sends `items` through one queue of each kind in turn; their sum as it arrives.
fn relay(items: core::ops::Range<u64>) -> u64 {
    let (mut first, mut second) = spsc::ring_in::<u64, Compact>(2);
    let (mut third, fourth) = spmc::ring_in::<&'static u64, Words>(2);
    let mut claimer = fourth.clone();
    let mut last = rings::ring::<u64>(2);
    let mut worker = last.add_producer();
    let mut sum = 0;
    for item in items {
        first.push(item).expect("room");
        let item = second.pop().expect("it was pushed");
        worker.push(item).expect("room");
        worker.commit();
        sum += last.pop().expect("it was committed");
    }
    third.push(&ONE).expect("room");
    let (mut fifth, mut sixth) = shared::ring_in::<u64, Compact>(2);
    fifth.push(*claimer.pop().expect("it was pushed")).expect("room");
    fifth.commit();
    sum + sixth.pop().expect("it was committed")
}

#[cfg(not(panic = "abort"))]
fn main() {
    assert_eq!(relay(0..100), 4951);
}

#[cfg(panic = "abort")]
mod bare {
    use core::alloc::{GlobalAlloc, Layout};
    use core::ffi::{c_int, c_void};

    #[link(name = "c")]
    unsafe extern "C" {
        fn aligned_alloc(align: usize, size: usize) -> *mut c_void;
        fn free(pointer: *mut c_void);
        fn abort() -> !;
    }

    struct Heap;

    // SAFETY: [c-heap] C's allocator keeps what is asked of one.
    unsafe impl GlobalAlloc for Heap {
        unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
            let align = layout.align().max(size_of::<usize>());
            // SAFETY: [c-heap] a power of two, and a size that is a multiple of it.
            unsafe { aligned_alloc(align, layout.size().next_multiple_of(align)).cast() }
        }

        unsafe fn dealloc(&self, pointer: *mut u8, _: Layout) {
            // SAFETY: [c-heap] the caller has it from `alloc`.
            unsafe { free(pointer.cast()) }
        }
    }

    #[global_allocator]
    static HEAP: Heap = Heap;

    #[panic_handler]
    fn panicked(_: &core::panic::PanicInfo<'_>) -> ! {
        // SAFETY: [c-heap] ends the process, at any time.
        unsafe { abort() }
    }

    // SAFETY: [c-entry] C's start-up code calls the one `main` of the program.
    #[unsafe(no_mangle)]
    extern "C" fn main() -> c_int {
        c_int::from(super::relay(0..100) != 4951)
    }
}
