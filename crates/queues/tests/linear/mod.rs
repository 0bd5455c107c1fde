//! A checker of linearizability for queues, and the recording of histories for it.
//!
//! A history is a list of operations, each with the moments it began and ended and with its
//! answer. It is linearizable if there is an order of the operations that keeps "ended before the
//! other began" and in which a plain queue gives the same answers. The search tries every operation
//! that could be next and remembers the states it has been in; histories are at most 24 operations.

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

/// What was done and what came of it. `ring` is the producer whose ring it was, 0 where there is
/// one ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    Pushed {
        ring: usize,
        item: u32,
    },
    Refused {
        ring: usize,
    },
    /// What a pop or a claim took; the rings are found from the items.
    Popped(Vec<u32>),
    Empty,
}

/// An operation of a history.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    began: u32,
    ended: u32,
    event: Event,
}

/// The specification: a plain queue for each ring, and how strict the refusals are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spec {
    pub(crate) rings: usize,
    pub(crate) capacity: usize,
    /// A refusal means that the ring was full at some moment of the push.
    pub(crate) full_is_exact: bool,
    /// An empty answer means that all rings were empty at some moment of the pop. If not, it may
    /// also mean that a push was under way.
    pub(crate) empty_is_exact: bool,
}

/// Item numbers tell the ring: `ring * RING + n`.
pub(crate) const RING: u32 = 1000;

type State = Vec<VecDeque<u32>>;

impl Spec {
    /// The state after `event`, if the plain queue gives the same answer.
    fn apply(&self, state: &State, event: &Event, push_overlaps: bool) -> Option<State> {
        let mut next = state.clone();
        let fits = match event {
            Event::Pushed { ring, item } => {
                next[*ring].push_back(*item);
                next[*ring].len() <= self.capacity
            }
            Event::Refused { ring } => !self.full_is_exact || next[*ring].len() == self.capacity,
            Event::Popped(items) => {
                items.iter().all(|item| next[(item / RING) as usize].pop_front() == Some(*item))
            }
            Event::Empty => {
                next.iter().all(VecDeque::is_empty) || (!self.empty_is_exact && push_overlaps)
            }
        };
        fits.then_some(next)
    }

    /// Whether `history` is linearizable.
    pub(crate) fn accepts(&self, history: &[Operation]) -> bool {
        assert!(history.len() <= 24, "a history of {} operations", history.len());
        let mut seen = HashSet::new();
        self.search(history, 0, vec![VecDeque::new(); self.rings], &mut seen)
    }

    fn search(
        &self,
        history: &[Operation],
        done: u32,
        state: State,
        seen: &mut HashSet<(u32, State)>,
    ) -> bool {
        if done.count_ones() as usize == history.len() {
            return true;
        }
        if !seen.insert((done, state.clone())) {
            return false;
        }
        let open = |index: &usize| done & (1 << index) == 0;
        let first_end = (0..history.len()).filter(open).map(|index| history[index].ended).min();
        (0..history.len()).filter(open).any(|index| {
            let operation = &history[index];
            // Something else had ended before this began: that one comes first.
            if first_end.is_some_and(|end| end < operation.began) {
                return false;
            }
            let push_overlaps = history.iter().any(|other| {
                matches!(other.event, Event::Pushed { .. })
                    && other.began < operation.ended
                    && other.ended > operation.began
            });
            self.apply(&state, &operation.event, push_overlaps)
                .is_some_and(|next| self.search(history, done | 1 << index, next, seen))
        })
    }
}

/// Records operations of several threads; a moment is a number from one counter.
#[derive(Clone, Debug, Default)]
pub(crate) struct Recorder(Arc<(AtomicU32, Mutex<Vec<Operation>>)>);

impl Recorder {
    /// Runs `operation` and records what it says it did.
    pub(crate) fn record<R>(&self, operation: impl FnOnce() -> (Event, R)) -> R {
        // A locked instruction on each side: what the operation wrote is out before it "ended".
        let began = self.0.0.fetch_add(1, Ordering::SeqCst);
        let (event, result) = operation();
        let ended = self.0.0.fetch_add(1, Ordering::SeqCst);
        self.0.1.lock().expect("no holder panics").push(Operation { began, ended, event });
        result
    }

    /// The history so far.
    pub(crate) fn history(&self) -> Vec<Operation> {
        self.0.1.lock().expect("no holder panics").clone()
    }

    /// Fails with the history if `spec` does not accept it.
    pub(crate) fn assert_accepted_by(&self, spec: Spec) {
        let history = self.history();
        assert!(spec.accepts(&history), "not linearizable under {spec:?}: {history:#?}");
    }
}

/// The checker refuses what is wrong, each wrong in its own way, and accepts what is right.
pub(crate) fn assert_checker_works() {
    let operation = |began, ended, event| Operation { began, ended, event };
    let push = |item| Event::Pushed { ring: 0, item };
    let strict = Spec { rings: 1, capacity: 2, full_is_exact: true, empty_is_exact: true };
    let good = [
        operation(0, 3, push(1)),
        operation(1, 2, push(2)),
        operation(4, 5, Event::Popped(vec![2, 1])),
    ];
    assert!(strict.accepts(&good), "overlapping pushes may be in either order");
    let reordered = [
        operation(0, 1, push(1)),
        operation(2, 3, push(2)),
        operation(4, 5, Event::Popped(vec![2])),
    ];
    assert!(!strict.accepts(&reordered));
    let twice = [
        operation(0, 1, push(1)),
        operation(2, 3, Event::Popped(vec![1])),
        operation(4, 5, Event::Popped(vec![1])),
    ];
    assert!(!strict.accepts(&twice));
    let early = [operation(0, 1, Event::Popped(vec![1])), operation(2, 3, push(1))];
    assert!(!strict.accepts(&early));
    let falsely_empty = [operation(0, 1, push(1)), operation(2, 3, Event::Empty)];
    assert!(!strict.accepts(&falsely_empty));
    let falsely_full = [operation(0, 1, push(1)), operation(2, 3, Event::Refused { ring: 0 })];
    assert!(!strict.accepts(&falsely_full));
    let overfull = [operation(0, 1, push(1)), operation(2, 3, push(2)), operation(4, 5, push(3))];
    assert!(!strict.accepts(&overfull));
    let lenient = Spec { full_is_exact: false, empty_is_exact: false, ..strict };
    assert!(!lenient.accepts(&falsely_empty), "no push was under way");
    let hidden = [
        operation(0, 7, push(1)),
        operation(1, 2, push(2)),
        operation(3, 4, Event::Empty),
        operation(8, 9, Event::Popped(vec![1, 2])),
    ];
    assert!(lenient.accepts(&hidden) && !strict.accepts(&hidden));
}
