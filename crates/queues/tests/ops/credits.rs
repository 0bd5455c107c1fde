//! The shared ring with credits: no push waits, so items come out in the order they went in.
//!
//! Owns the twin of `mpsc::shared::credited`, which is exact. One thread.

use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use flintlock_queues::mpsc::shared::{self, CreditConsumer, CreditProducer, Credits};
use flintlock_queues::{Layout, PopError};

use super::{Item, MaySlice, Op, choose};

/// A producer and the credits it keeps for later.
pub(super) struct Side<T, L: Layout<T>> {
    pub(super) handle: CreditProducer<T, L>,
    pub(super) purse: Credits,
}

impl<T, L: Layout<T>> Side<T, L> {
    fn fill_purse(&mut self, mut credits: Credits) {
        while let Some(credit) = credits.take() {
            self.purse.add(credit);
        }
    }
}

/// The slices of the shared ring with credits.
pub(super) type CreditSlices<T, L> = MaySlice<Side<T, L>, CreditConsumer<T, L>, T>;

/// Several producers, the consumer and what was pushed and not popped.
struct Credited<T, L: Layout<T>> {
    producers: Vec<Side<T, L>>,
    main: CreditConsumer<T, L>,
    visible: VecDeque<usize>,
    next: usize,
    live: Rc<Cell<usize>>,
    slices: CreditSlices<T, L>,
}

impl<T: Item, L: Layout<T>> Credited<T, L> {
    fn apply(&mut self, op: Op) {
        match op {
            Op::Push { who } => self.push(who),
            Op::PushDeferred { who } => self.keep_credit(who),
            Op::Commit { who } => {
                if let Some(side) = choose(&mut self.producers, who) {
                    side.handle.commit();
                    self.main.refund(std::mem::take(&mut side.purse));
                }
            }
            Op::PushBatch { who, count } => self.push_batch(who, usize::from(count)),
            Op::PushSlice { who, count } => self.push_slice(who, usize::from(count)),
            Op::Pop { .. } => self.pop(),
            Op::PopBatch { count, .. } | Op::PopSlice { count, .. } => {
                self.pop_batch(usize::from(count), matches!(op, Op::PopSlice { .. }));
            }
            Op::Add if self.producers.len() < 4 => {
                let more = self.producers.first().map(|side| side.handle.clone());
                let side = |handle| Side { handle, purse: Credits::default() };
                self.producers.extend(more.map(side));
            }
            Op::DropProducer { who } if !self.producers.is_empty() => {
                let index = usize::from(who) % self.producers.len();
                self.main.refund(self.producers.remove(index).purse);
            }
            Op::Add | Op::DropProducer { .. } | Op::DropConsumer { .. } => {}
        }
    }

    fn push(&mut self, who: u8) {
        let Some(side) = choose(&mut self.producers, who) else { return };
        let credit = side.purse.take().or_else(|| self.main.credit());
        let Some(credit) = credit else {
            return assert_eq!(self.main.given(), self.main.capacity(), "credits for all slots");
        };
        side.handle.push(credit, T::make(self.next, &self.live));
        self.visible.push_back(self.next);
        self.next += 1;
    }

    fn keep_credit(&mut self, who: u8) {
        if let Some(side) = choose(&mut self.producers, who)
            && let Some(credit) = self.main.credit()
        {
            side.purse.add(credit);
        }
    }

    /// A batch from a purse that is full enough, or not; some iterators break off by a panic.
    fn push_batch(&mut self, who: u8, count: usize) {
        let Some(side) = choose(&mut self.producers, who) else { return };
        side.fill_purse(self.main.credits(count / 2));
        let expected = count.min(side.purse.len());
        let breaks_at = if count % 4 == 3 { count / 2 } else { usize::MAX };
        let (first, live, before) = (self.next, &self.live, side.purse.len());
        let mut made = 0;
        let mut items = (0..count).map(|number| {
            if number == breaks_at {
                resume_unwind(Box::new("broken off"));
            }
            made += 1;
            T::make(first + number, live)
        });
        let push = || side.handle.push_batch(&mut side.purse, &mut items);
        match catch_unwind(AssertUnwindSafe(push)) {
            Ok(pushed) => assert_eq!(pushed, expected, "one for each credit"),
            Err(_) => assert!(breaks_at < expected, "broken off where it said"),
        }
        assert_eq!(made, expected.min(breaks_at), "no item is taken without a credit");
        assert_eq!(before - side.purse.len(), made, "no credit is used without an item");
        self.visible.extend(first..first + made);
        self.next += made;
    }

    fn push_slice(&mut self, who: u8, count: usize) {
        let Some(slices) = &self.slices else { return self.push_batch(who, count) };
        let Some(side) = choose(&mut self.producers, who) else { return };
        side.fill_purse(self.main.credits(count / 2));
        let (expected, first, live) = (count.min(side.purse.len()), self.next, &self.live);
        let left = side.purse.len() - expected;
        let pushed = slices.push(side, (first..first + count).map(|number| T::make(number, live)));
        assert_eq!((pushed, side.purse.len()), (expected, left), "one for each credit");
        self.visible.extend(first..first + pushed);
        self.next += pushed;
    }

    fn pop(&mut self) {
        match (self.main.pop(), self.visible.pop_front()) {
            (Ok(item), Some(number)) => self.assert_is(&item, number),
            (Err(PopError::Empty), None) => assert!(!self.producers.is_empty()),
            (Err(PopError::Closed), None) => assert!(self.producers.is_empty()),
            (popped, twin) => panic!("{:?} but the twin has {twin:?}", popped.map(|i| i.number())),
        }
    }

    fn pop_batch(&mut self, max: usize, is_slice: bool) {
        let expected = max.min(self.visible.len());
        let mut got = Vec::new();
        match &self.slices {
            Some(slices) if is_slice => got = slices.pop(&mut self.main, max),
            _ => assert_eq!(self.main.pop_batch(max, |item| got.push(item)), expected),
        }
        assert_eq!(got.len(), expected);
        for item in got {
            let number = self.visible.pop_front().expect("no more than there is");
            self.assert_is(&item, number);
        }
    }

    /// Whether `item` is the one of `number`, also if it does not hold the whole number.
    fn assert_is(&self, item: &T, number: usize) {
        assert_eq!(item.number(), T::make(number, &self.live).number());
    }

    fn check(&self) {
        let kept: usize = self.producers.iter().map(|side| side.purse.len()).sum();
        assert_eq!(self.main.given(), self.visible.len() + kept, "each credit is somewhere");
        assert_eq!(self.main.len(), self.visible.len());
        assert_eq!(self.main.is_empty(), self.visible.is_empty());
        assert_eq!(self.main.is_closed(), self.producers.is_empty());
        if T::COUNTED {
            assert_eq!(self.live.get(), self.visible.len(), "no item is lost or kept");
        }
    }
}

/// `mpsc::shared::credited` of one layout against its twin.
pub(super) fn credited_ops<T: Item, L: Layout<T>>(
    capacity: usize,
    first: usize,
    ops: &[Op],
    slices: CreditSlices<T, L>,
) {
    let (handle, main) = shared::credited_at::<T, L>(capacity, first);
    let (visible, live) = (VecDeque::new(), Rc::default());
    let producers = vec![Side { handle, purse: Credits::default() }];
    let mut credited = Credited { producers, main, visible, next: 0, live, slices };
    for op in ops {
        credited.apply(*op);
        credited.check();
    }
    let live = Rc::clone(&credited.live);
    drop(credited);
    assert_eq!(live.get(), 0, "every item is dropped in the end");
}
