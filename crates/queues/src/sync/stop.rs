//! Stopping a thread of a unit test in a critical window, and letting it go again.
//!
//! Owns one gate a thread; test builds only. It must not be reachable from any other build.

use std::cell::RefCell;
use std::sync::{Condvar, Mutex};
use std::thread_local;
use std::time::Duration;

use super::{PlainArc, Window};

#[derive(Debug, Default)]
struct State {
    reached: bool,
    released: bool,
}

/// Where a thread stops, seen from the test that stopped it.
#[derive(Clone, Debug)]
pub(crate) struct Gate(PlainArc<(Mutex<State>, Condvar)>);

thread_local! {
    static ARMED: RefCell<Option<(Window, Gate)>> = const { RefCell::new(None) };
}

/// Longest wait for anything here; a test that hangs is a failed test.
const DEADLINE: Duration = Duration::from_secs(60);

impl Gate {
    /// A gate nobody stands at.
    pub(crate) fn new() -> Self {
        Self(PlainArc::default())
    }

    /// Makes this thread stop at its next `window`, once.
    pub(crate) fn arm(&self, window: Window) {
        ARMED.with(|armed| *armed.borrow_mut() = Some((window, self.clone())));
    }

    /// Waits until the armed thread stands in its window.
    pub(crate) fn wait_reached(&self) {
        self.wait(|state| state.reached, "no thread came to the window");
    }

    /// Lets the thread go on.
    pub(crate) fn release(&self) {
        self.update(|state| state.released = true);
    }

    fn update(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.0.0.lock().expect("no holder panics"));
        self.0.1.notify_all();
    }

    fn wait(&self, done: impl Fn(&State) -> bool, what: &str) {
        let state = self.0.0.lock().expect("no holder panics");
        let (_state, wait) = self
            .0
            .1
            .wait_timeout_while(state, DEADLINE, |state| !done(state))
            .expect("no holder panics");
        assert!(!wait.timed_out(), "{what}");
    }
}

/// Called by the code under test at each window.
pub(crate) fn reached(window: Window) {
    let armed = ARMED.with(|armed| {
        let mut armed = armed.borrow_mut();
        if armed.as_ref().is_some_and(|(at, _)| *at == window) { armed.take() } else { None }
    });
    if let Some((_, gate)) = armed {
        gate.update(|state| state.reached = true);
        gate.wait(|state| state.released, "the thread was not let go");
    }
}
