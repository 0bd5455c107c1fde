//! Words that own something: boxes, `Arc`s and slab indices with a kind in their low bits.
//!
//! Pure values, no shared state; any thread. It must not allocate, and must not invent pointers:
//! provenance is kept by `map_addr` all the way, so Miri can check it strictly.
//!
//! # Problem
//! A job for an IO thread is a kind and a thing it works on. As `{ handler, data }` it is 16 bytes
//! and cannot be published by one store. Packed into one word it can, and the ring needs 8 bytes a
//! slot. The system this follows packs the kind into the three low bits of a pointer from the
//! allocator and hopes for alignment; a stack object with less of it once gave a bogus kind.
//!
//! # Design
//! A [`Word`] says at compile time which of its low bits are always zero (its *spare* bits): the
//! alignment of the pointee, nothing else, so it holds on every target and under address-tagging
//! tools. [`Tagged`] takes as many of them as its kinds need and leaves the rest; a ring takes one
//! more for its lap. What does not fit does not compile. High bits of addresses were rejected: they
//! are free on the machines we know only by habit of their operating systems.
//!
//! Source: Valkey pull request 3324, src/io_queues.h: the kind of a job in the low bits of its
//! pointer.
#![expect(unsafe_code, reason = "ownership goes through raw pointers with the kind in their bits")]

use alloc::boxed::Box;
use core::fmt;
use core::marker::PhantomData;
use core::mem::{self, ManuallyDrop};
use core::pin::Pin;
use core::ptr;

use crate::sync::PlainArc;

/// A value that is one machine word and knows which of its low bits are always zero.
///
/// Any thread; nothing blocks or allocates. Implemented by [`Box`], pinned boxes,
/// [`Arc`](PlainArc), references, [`Index`], [`Tagged`] and every enum made by
/// [`tagged!`](crate::tagged!). Rings of the [`Words`](crate::Words) layout carry these in 8 bytes
/// a slot.
///
/// # Safety
/// For every value: `into_word` returns a word whose [`SPARE`](Self::SPARE) bits are all zero,
/// does not panic, and gives up ownership; `from_word` on that word, on any thread the type may be
/// sent to, gives back the same value.
///
/// # Examples
/// ```
/// use flintlock_queues::Word;
///
/// let word = Box::new(7_u64).into_word();
/// assert_eq!(word.addr() & <Box<u64> as Word>::SPARE, 0);
/// // SAFETY: the word comes from `into_word` of the same type and is used once.
/// assert_eq!(unsafe { Box::<u64>::from_word(word) }, Box::new(7));
/// ```
pub unsafe trait Word: Sized {
    /// The low bits that are zero in every word of this type, as a mask.
    const SPARE: usize;

    /// Turns the value into a word that owns it.
    fn into_word(self) -> *mut ();

    /// Turns a word back into the value.
    ///
    /// # Safety
    /// The word comes from [`into_word`](Self::into_word) of this type and is turned back once.
    unsafe fn from_word(word: *mut ()) -> Self;
}

// SAFETY: [word-box] a box is a non-null pointer aligned for `T`; raw round trips are its contract.
unsafe impl<T> Word for Box<T> {
    const SPARE: usize = align_of::<T>() - 1;

    #[inline(always)]
    fn into_word(self) -> *mut () {
        Self::into_raw(self).cast()
    }

    #[inline(always)]
    unsafe fn from_word(word: *mut ()) -> Self {
        // SAFETY: [word-box] the caller hands in what `into_raw` gave, once.
        unsafe { Self::from_raw(word.cast()) }
    }
}

// SAFETY: [word-arc] `into_raw` points at the `T` inside the allocation, aligned for `T`.
unsafe impl<T> Word for PlainArc<T> {
    const SPARE: usize = align_of::<T>() - 1;

    #[inline(always)]
    fn into_word(self) -> *mut () {
        Self::into_raw(self).cast_mut().cast()
    }

    #[inline(always)]
    unsafe fn from_word(word: *mut ()) -> Self {
        // SAFETY: [word-arc] the caller hands in what `into_raw` gave, once.
        unsafe { Self::from_raw(word.cast()) }
    }
}

// SAFETY: [word-pin] a box, and nothing moves what it points at: neither the word nor its way back.
unsafe impl<T> Word for Pin<Box<T>> {
    const SPARE: usize = <Box<T> as Word>::SPARE;

    #[inline(always)]
    fn into_word(self) -> *mut () {
        // SAFETY: [word-pin] the pointee stays where it is.
        unsafe { Self::into_inner_unchecked(self) }.into_word()
    }

    #[inline(always)]
    unsafe fn from_word(word: *mut ()) -> Self {
        // SAFETY: [word-box] the caller hands in what `into_word` gave, once.
        Box::into_pin(unsafe { Box::from_word(word) })
    }
}

// SAFETY: [word-ref] a reference is a non-null pointer aligned for `T`, and can be copied.
unsafe impl<T> Word for &T {
    const SPARE: usize = align_of::<T>() - 1;

    #[inline(always)]
    fn into_word(self) -> *mut () {
        ptr::from_ref(self).cast_mut().cast()
    }

    #[inline(always)]
    unsafe fn from_word(word: *mut ()) -> Self {
        // SAFETY: [word-ref] the caller hands in what a reference of this lifetime gave.
        unsafe { &*word.cast_const().cast() }
    }
}

/// Number of kinds a [`Tagged`] or a [`tagged!`](crate::tagged!) enum may have.
pub const KINDS_MAX: usize = 16;

/// The low bits that `kinds` kinds occupy; evaluated at compile time by the types that use it.
///
/// # Panics
/// If there are no kinds, or more than [`KINDS_MAX`].
#[doc(hidden)]
#[must_use]
pub const fn kind_mask(kinds: usize) -> usize {
    assert!(kinds >= 1 && kinds <= KINDS_MAX, "a tagged word has 1 to 16 kinds");
    kinds.next_power_of_two() - 1
}

/// A slab index as a word: plain data, owns nothing, and has room for 16 kinds and a lap.
///
/// Any thread. Range 0 to [`Index::MAX`], 2^59 - 1 on a 64-bit target.
///
/// # Examples
/// ```
/// use flintlock_queues::{Index, Tagged};
///
/// let job = Tagged::<Index>::new(3, Index::new(42));
/// assert_eq!(job.into_parts(), (3, Index::new(42)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Index(usize);

impl Index {
    const SHIFT: u32 = 5;

    /// The largest index.
    pub const MAX: Self = Self(usize::MAX >> Self::SHIFT);

    /// Wraps an index.
    ///
    /// # Panics
    /// If `index` is above [`Index::MAX`].
    #[inline]
    #[must_use]
    pub const fn new(index: usize) -> Self {
        assert!(index <= Self::MAX.0, "the index does not fit beside kind and lap");
        Self(index)
    }

    /// The index given to [`Index::new`].
    #[inline]
    #[must_use]
    pub const fn value(self) -> usize {
        self.0
    }
}

// SAFETY: [word-index] shifted left by SHIFT, the low bits are zero; `new` keeps the high ones.
unsafe impl Word for Index {
    const SPARE: usize = (1 << Self::SHIFT) - 1;

    #[inline(always)]
    fn into_word(self) -> *mut () {
        ptr::without_provenance_mut(self.0 << Self::SHIFT)
    }

    #[inline(always)]
    unsafe fn from_word(word: *mut ()) -> Self {
        Self(word.addr() >> Self::SHIFT)
    }
}

/// A word with a kind in its low bits: one job, no allocation of its own.
///
/// Any thread; the value moves with the word. `P` is the pointer that carries the job's data and
/// `KINDS` the number of kinds, 1 to 16. That the pointee is aligned enough for the kinds is
/// checked when the program is compiled; a ring wants one more bit for its lap:
///
/// | kinds | alignment for `Tagged` | alignment in a ring |
/// |---|---|---|
/// | 1 | 1 | 2 |
/// | 2 | 2 | 4 |
/// | 3 to 4 | 4 | 8 |
/// | 5 to 8 | 8 | 16 |
/// | 9 to 16 | 16 | 32 |
///
/// When the kinds carry different types, [`tagged!`](crate::tagged!) makes an enum of them.
///
/// Invariant. `[tagged-word]` `word` is a word of `P`, owned by this value, with a kind below
/// `KINDS` in the bits of the kind mask.
///
/// # Examples
/// ```
/// use flintlock_queues::Tagged;
///
/// #[repr(align(32))]
/// struct Connection(u32);
///
/// const READ: u8 = 0;
/// const WRITE: u8 = 1;
/// let job = Tagged::<Box<Connection>>::new(WRITE, Box::new(Connection(9)));
/// assert_eq!(job.kind(), WRITE);
/// let (kind, connection) = job.into_parts();
/// assert_eq!((kind, connection.0), (WRITE, 9));
/// # let _ = READ;
/// ```
///
/// Too little alignment for the kinds does not compile, nor do more than 16 kinds:
/// ```compile_fail,E0080
/// use flintlock_queues::Tagged;
/// let job = Tagged::<Box<u8>, 2>::new(1, Box::new(5));
/// ```
/// ```compile_fail,E0080
/// use flintlock_queues::{Index, Tagged};
/// let job = Tagged::<Index, 17>::new(1, Index::new(5));
/// ```
///
/// Source: Valkey pull request 3324, src/io_queues.h.
pub struct Tagged<P: Word, const KINDS: usize = KINDS_MAX> {
    word: *mut (),
    _owns: PhantomData<P>,
}

impl<P: Word, const KINDS: usize> Tagged<P, KINDS> {
    const MASK: usize = {
        let mask = kind_mask(KINDS);
        assert!(
            P::SPARE & mask == mask,
            "the pointee is not aligned enough for so many kinds: raise its alignment or use fewer"
        );
        mask
    };

    /// Packs `kind` and `pointer`; the word owns the pointer.
    ///
    /// # Panics
    /// If `kind` is not below `KINDS`; the pointer is dropped.
    #[inline]
    #[must_use]
    pub fn new(kind: u8, pointer: P) -> Self {
        let kind = usize::from(kind);
        assert!(kind < KINDS, "kind {kind} of a word with {KINDS} kinds");
        let word = pointer.into_word();
        debug_assert_eq!(word.addr() & Self::MASK, 0, "spare bits of the pointer are zero");
        Self { word: word.map_addr(|addr| addr | kind), _owns: PhantomData }
    }

    /// The kind given to [`Tagged::new`].
    #[inline]
    #[must_use]
    pub fn kind(&self) -> u8 {
        // The mask is at most 15, so no bit is lost.
        (self.word.addr() & Self::MASK) as u8
    }

    /// Unpacks kind and pointer; the pointer is the caller's again.
    #[inline]
    #[must_use]
    pub fn into_parts(self) -> (u8, P) {
        let this = ManuallyDrop::new(self);
        let pointer = this.word.map_addr(|addr| addr & !Self::MASK);
        // SAFETY: [tagged-word] without the kind it is the word `new` got, and `this` is not
        // dropped, so ownership leaves once.
        (this.kind(), unsafe { P::from_word(pointer) })
    }
}

impl<P: Word, const KINDS: usize> Drop for Tagged<P, KINDS> {
    fn drop(&mut self) {
        let pointer = self.word.map_addr(|addr| addr & !Self::MASK);
        // SAFETY: [tagged-word] the word is owned by this value, which is going away.
        drop(unsafe { P::from_word(pointer) });
    }
}

// SAFETY: [word-tagged] the word of `P` has its spare bits zero and the kind sets those of the
// mask only; the other spare bits stay zero. Ownership moves with the word.
unsafe impl<P: Word, const KINDS: usize> Word for Tagged<P, KINDS> {
    const SPARE: usize = P::SPARE & !Self::MASK;

    #[inline(always)]
    fn into_word(self) -> *mut () {
        let word = self.word;
        mem::forget(self);
        word
    }

    #[inline(always)]
    unsafe fn from_word(word: *mut ()) -> Self {
        Self { word, _owns: PhantomData }
    }
}

// SAFETY: [tagged-word] a tagged word is its pointer and a number.
unsafe impl<P: Word + Send, const KINDS: usize> Send for Tagged<P, KINDS> {}
// SAFETY: [tagged-word] a shared tagged word gives out nothing but its kind.
unsafe impl<P: Word + Sync, const KINDS: usize> Sync for Tagged<P, KINDS> {}

impl<P: Word, const KINDS: usize> fmt::Debug for Tagged<P, KINDS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tagged").field("kind", &self.kind()).finish_non_exhaustive()
    }
}

/// Makes an enum of pointers that travels as one word: the kinds of a job, each with its own type.
///
/// The enum is an ordinary one, matched as usual; the macro adds the [`Word`] implementation, with
/// the position of the variant in the low bits. 1 to 16 variants, each with one field that is a
/// [`Word`]. The least aligned pointee decides whether the kinds fit, at compile time (the table
/// is at [`Tagged`]).
///
/// # Examples
/// ```
/// use flintlock_queues::{spsc, tagged, Words};
/// use std::sync::Arc;
///
/// #[repr(align(16))]
/// pub struct Connection(u32);
///
/// #[repr(align(16))]
/// pub struct Value(Vec<u8>);
///
/// tagged! {
///     /// What a worker runs.
///     pub enum Job {
///         /// Read requests from the connection.
///         Read(Box<Connection>),
///         /// Write what is due.
///         Write(Box<Connection>),
///         /// Drop a big value elsewhere than on the main thread.
///         Free(Arc<Value>),
///     }
/// }
///
/// let (mut main, mut worker) = spsc::ring_in::<Job, Words>(64);
/// main.push(Job::Write(Box::new(Connection(4)))).expect("an empty ring has room");
/// match worker.pop() {
///     Ok(Job::Write(connection)) => assert_eq!(connection.0, 4),
///     other => panic!("not the job that was pushed: {:?}", other.is_ok()),
/// }
/// ```
///
/// The unsafe code is the macro's own: a crate that forbids it can use the macro.
/// ```
/// #![forbid(unsafe_code)]
/// flintlock_queues::tagged! {
///     pub enum Job { A(Box<u64>), B(Box<u32>) }
/// }
/// ```
///
/// A variant whose pointee has too little alignment does not compile:
/// ```compile_fail,E0080
/// flintlock_queues::tagged! {
///     pub enum Job { A(Box<u64>), B(Box<u8>) }
/// }
/// ```
#[macro_export]
macro_rules! tagged {
    (
        $(#[$meta:meta])*
        $vis:vis enum $name:ident {
            $( $(#[$variant_meta:meta])* $variant:ident($pointer:ty) ),+ $(,)?
        }
    ) => {
        $(#[$meta])*
        $vis enum $name {
            $( $(#[$variant_meta])* $variant($pointer), )+
        }

        const _: () = {
            #[repr(usize)]
            enum __FlintlockKind {
                $( $variant, )+
            }

            const __FLINTLOCK_MASK: usize = {
                let mask = $crate::kind_mask([$( __FlintlockKind::$variant as usize ),+].len());
                $(
                    ::core::assert!(
                        <$pointer as $crate::Word>::SPARE & mask == mask,
                        "a pointee is not aligned enough for so many kinds"
                    );
                )+
                mask
            };

            // SAFETY: [word-tagged] each variant's word has its spare bits zero and the kind sets
            // those of the mask only; what all variants leave over stays zero.
            unsafe impl $crate::Word for $name {
                const SPARE: usize =
                    !__FLINTLOCK_MASK $( & <$pointer as $crate::Word>::SPARE )+;

                #[inline]
                fn into_word(self) -> *mut () {
                    match self {
                        $(
                            Self::$variant(pointer) => $crate::Word::into_word(pointer)
                                .map_addr(|addr| addr | __FlintlockKind::$variant as usize),
                        )+
                    }
                }

                #[inline]
                unsafe fn from_word(word: *mut ()) -> Self {
                    let kind = word.addr() & __FLINTLOCK_MASK;
                    let pointer = word.map_addr(|addr| addr & !__FLINTLOCK_MASK);
                    $(
                        if kind == __FlintlockKind::$variant as usize {
                            // SAFETY: [word-tagged] the kind says which variant's word this is.
                            return Self::$variant(unsafe {
                                <$pointer as $crate::Word>::from_word(pointer)
                            });
                        }
                    )+
                    ::core::unreachable!("the kind of a word is a variant")
                }
            }
        };
    };
}
