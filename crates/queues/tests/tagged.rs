//! Round trips of tagged words: every kind, every pointer, and through every ring.
#![cfg(not(any(loom, shuttle)))]

use std::pin::Pin;
use std::sync::Arc;

use flintlock_queues::mpsc::{rings, shared};
use flintlock_queues::{Index, Tagged, Word, Words, spmc, spsc, tagged};
use proptest::prelude::*;

#[derive(Debug, PartialEq)]
#[repr(align(32))]
struct Connection(u64);

#[derive(Debug, PartialEq)]
#[repr(align(16))]
struct Value(Vec<u8>);

tagged! {
    /// Jobs with a type for each kind.
    #[derive(Debug, PartialEq)]
    pub(crate) enum Job {
        /// Read.
        Read(Box<Value>),
        /// Write.
        Write(Box<Value>),
        /// Free.
        Free(Arc<Value>),
        /// Accept on a listener.
        Accept(Index),
    }
}

tagged! {
    enum Sixteen {
        A(Box<Connection>), B(Box<Connection>), C(Box<Connection>), D(Box<Connection>),
        E(Box<Connection>), F(Box<Connection>), G(Box<Connection>), H(Box<Connection>),
        I(Box<Connection>), J(Box<Connection>), K(Box<Connection>), L(Box<Connection>),
        M(Box<Connection>), N(Box<Connection>), O(Box<Connection>), P(Index),
    }
}

/// What the macro defines for itself gets into nobody's way, however the caller calls his own.
mod names_of_the_caller {
    use flintlock_queues::Word;

    #[derive(Debug, PartialEq)]
    #[repr(align(64))]
    struct Mask(u8);

    flintlock_queues::tagged! {
        #[derive(Debug, PartialEq)]
        enum Kind {
            Kind(Box<Mask>),
            MASK(Box<[u64; 2]>),
        }
    }

    #[test]
    fn a_kind_is_an_enum_as_any_other() {
        for make in [|| Kind::Kind(Box::new(Mask(1))), || Kind::MASK(Box::new([2, 3]))] {
            let word = make().into_word();
            // SAFETY: [test-word] the word comes from `into_word` of the same type, once.
            #[expect(unsafe_code, reason = "the trait's round trip itself is under test")]
            let again = unsafe { Kind::from_word(word) };
            assert_eq!(again, make());
        }
    }

    flintlock_queues::tagged! {
        enum Outer {
            A(Box<Kind>),
            B(Box<u64>),
        }
    }

    #[test]
    fn a_pointee_may_be_called_kind() {
        assert_eq!(<Outer as Word>::SPARE, 6);
        let kind = Kind::Kind(Box::new(Mask(7)));
        assert!(
            matches!(Outer::A(Box::new(kind)), Outer::A(kind) if matches!(*kind, Kind::Kind(_)))
        );
        assert!(matches!(Outer::B(Box::new(8)), Outer::B(number) if *number == 8));
    }
}

/// References and pinned boxes are words too; pinned, the pointee stays where it is.
#[test]
fn references_and_pins_cross() {
    static NUMBERS: [u64; 2] = [5, 6];
    let (mut producer, mut consumer) = spsc::ring_in::<&'static u64, Words>(2);
    producer.push(&NUMBERS[1]).expect("room");
    assert!(consumer.pop().is_ok_and(|number| std::ptr::eq(number, &NUMBERS[1])));

    let (mut producer, mut consumer) = spsc::ring_in::<Tagged<Pin<Box<Connection>>>, Words>(2);
    let pinned = Box::pin(Connection(9));
    let address = &raw const *pinned;
    producer.push(Tagged::new(4, pinned)).expect("room");
    let (kind, pinned) = consumer.pop().expect("it is there").into_parts();
    assert_eq!((kind, pinned.0), (4, 9));
    assert_eq!(&raw const *pinned, address);
}

fn job() -> impl Strategy<Value = (u8, Vec<u8>)> {
    (0_u8..4, prop::collection::vec(any::<u8>(), 0..20))
}

fn make((kind, bytes): &(u8, Vec<u8>)) -> Job {
    let value = || Value(bytes.clone());
    match kind {
        0 => Job::Read(Box::new(value())),
        1 => Job::Write(Box::new(value())),
        2 => Job::Free(Arc::new(value())),
        _ => Job::Accept(Index::new(bytes.len())),
    }
}

proptest! {
    #[test]
    fn enums_come_out_of_every_ring_as_they_went_in(jobs in prop::collection::vec(job(), 1..60)) {
        let (mut single, mut single_end) = spsc::ring_in::<Job, Words>(64);
        let (mut spread, mut spread_end) = spmc::ring_in::<Job, Words>(64);
        let mut answers = rings::ring_in::<Job, Words>(64);
        let mut answer = answers.add_producer();
        let (mut common, mut common_end) = shared::ring_in::<Job, Words>(64);
        for parts in &jobs {
            single.push(make(parts)).expect("room");
            spread.push(make(parts)).expect("room");
            answer.push(make(parts)).expect("room");
            common.push(make(parts)).expect("room");
        }
        for parts in &jobs {
            prop_assert_eq!(single_end.pop(), Ok(make(parts)));
            prop_assert_eq!(spread_end.pop(), Ok(make(parts)));
            prop_assert_eq!(answers.pop(), Ok(make(parts)));
            prop_assert_eq!(common_end.pop(), Ok(make(parts)));
        }
    }

    #[test]
    fn every_kind_round_trips(kind in 0_u8..16, number in any::<u64>()) {
        let boxed = Tagged::<Box<Connection>>::new(kind, Box::new(Connection(number)));
        prop_assert_eq!(boxed.kind(), kind);
        prop_assert_eq!(boxed.into_parts(), (kind, Box::new(Connection(number))));

        let value = Arc::new(Connection(number));
        let shared = Tagged::<Arc<Connection>>::new(kind, Arc::clone(&value));
        prop_assert_eq!(Arc::strong_count(&value), 2);
        let (again, same) = shared.into_parts();
        prop_assert!(again == kind && Arc::ptr_eq(&same, &value));

        let index = Index::new(number as usize & Index::MAX.value());
        prop_assert_eq!(Tagged::<Index>::new(kind, index).into_parts(), (kind, index));
    }
}

/// The spare bits a type promises are zero, and what it takes is one bit of them a kind doubles.
#[test]
fn spare_bits_are_what_alignment_leaves() {
    assert_eq!(<Box<Connection> as Word>::SPARE, 31);
    assert_eq!(<Tagged<Box<Connection>, 16> as Word>::SPARE, 16, "one bit is left for the lap");
    assert_eq!(<Tagged<Box<Connection>, 5> as Word>::SPARE, 24, "five kinds need three bits");
    assert_eq!(<Tagged<Box<Connection>, 1> as Word>::SPARE, 31, "one kind needs none");
    assert_eq!(<Job as Word>::SPARE, 12, "of 16 bytes less two bits of kinds");
    assert_eq!(<Sixteen as Word>::SPARE, 16);
    assert_eq!(<Box<u8> as Word>::SPARE, 0);
}

/// What is packed is dropped with the word, once.
#[test]
fn dropping_a_word_drops_what_it_owns() {
    let value = Arc::new(Connection(1));
    drop(Tagged::<Arc<Connection>>::new(3, Arc::clone(&value)));
    assert_eq!(Arc::strong_count(&value), 1);
    let (mut producer, consumer) = spsc::ring_in::<Tagged<Arc<Connection>>, Words>(8);
    for kind in 0..8 {
        producer.push(Tagged::new(kind, Arc::clone(&value))).expect("room");
    }
    assert_eq!(Arc::strong_count(&value), 9);
    drop(consumer);
    assert_eq!(Arc::strong_count(&value), 1, "the consumer drops what it can see");
    producer.push(Tagged::new(0, Arc::clone(&value))).expect_err("the known room is used up");
    drop(producer);
    assert_eq!(Arc::strong_count(&value), 1);
}

/// All sixteen variants of an enum keep their kind, through a ring.
#[test]
fn sixteen_variants_fit_with_a_lap() {
    let (mut producer, mut consumer) = spmc::ring_in::<Sixteen, Words>(2);
    for lap in 0..3 {
        producer.push(Sixteen::O(Box::new(Connection(lap)))).expect("room");
        producer.push(Sixteen::P(Index::new(7))).expect("room");
        let connection = match consumer.pop() {
            Ok(Sixteen::O(connection)) => connection,
            other => panic!("another kind than was pushed: {}", other.is_ok()),
        };
        assert_eq!(connection.0, lap);
        assert!(matches!(consumer.pop(), Ok(Sixteen::P(index)) if index.value() == 7));
    }
    type Make = fn(Box<Connection>) -> Sixteen;
    let makers: [Make; 15] = [
        Sixteen::A,
        Sixteen::B,
        Sixteen::C,
        Sixteen::D,
        Sixteen::E,
        Sixteen::F,
        Sixteen::G,
        Sixteen::H,
        Sixteen::I,
        Sixteen::J,
        Sixteen::K,
        Sixteen::L,
        Sixteen::M,
        Sixteen::N,
        Sixteen::O,
    ];
    for (kind, make) in makers.into_iter().enumerate() {
        let word = make(Box::new(Connection(kind as u64))).into_word();
        assert_eq!(word.addr() & 15, kind, "the position of the variant");
        // SAFETY: [test-word] the word comes from `into_word` of the same type, once.
        #[expect(unsafe_code, reason = "the trait's round trip itself is under test")]
        drop(unsafe { Sixteen::from_word(word) });
    }
}
