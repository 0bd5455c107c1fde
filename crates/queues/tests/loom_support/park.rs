//! The model of a consumer that sleeps, for the models of every queue but tagged words.

use flintlock_queues::sync::{AtomicBool, Edge, Ordering};
use loom::sync::Arc;

use crate::loom_support::{Roles, explore};

/// A consumer lies down as the README says while the producer does `act`: either it sees what was
/// done, or the producer sees that it sleeps. `act` gives back the producer unless it dropped it.
pub(crate) fn park<P: 'static, C: 'static>(
    name: &str,
    fence: Edge,
    ring: fn() -> (P, C),
    act: fn(P) -> Option<P>,
    may_sleep: fn(&C) -> bool,
) {
    for roles in Roles::BOTH {
        explore(&format!("{name} {roles:?}"), move || {
            let (producer, consumer) = ring();
            let sleeps = Arc::new(AtomicBool::new(false));
            let seen = Arc::clone(&sleeps);
            let ((woken, _producer), (asleep, _consumer)) = roles.run(
                move || {
                    let producer = act(producer);
                    (seen.load(Ordering::Relaxed), producer)
                },
                move || {
                    sleeps.store(true, Ordering::Relaxed);
                    fence.fence("park");
                    (may_sleep(&consumer), consumer)
                },
            );
            assert!(!asleep || woken, "the consumer sleeps for ever: nobody wakes it");
        });
    }
}
