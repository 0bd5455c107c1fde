//! Handlers are process-wide and one of them ends the process, so each case runs in a process of
//! its own: the test starts its own binary again, and the environment tells it to be the child.

use std::process::{Command, Output};
use std::time::Duration;

use mio::{Events, Poll};
use signal_hook::consts::SIGPIPE;

use super::*;

const CHILD: &str = "FLINTLOCK_TEST_SIGNALS";

/// Raises the signals named in `script` one by one and prints what the event loop would see.
fn child(script: &str) -> ! {
    let mut poll = Poll::new().expect("poll");
    let mut events = Events::with_capacity(4);
    let mut signals = Signals::install().expect("install");
    poll.registry().register(&mut signals, Token(0), Interest::READABLE).expect("register");
    for name in script.split(' ') {
        let (signal, wakes) = match name {
            "INT" => (SIGINT, true),
            "TERM" => (SIGTERM, true),
            "HUP" => (SIGHUP, false),
            "PIPE" => (SIGPIPE, false),
            "XFSZ" => (SIGXFSZ, false),
            _ => unreachable!("no such step {name}"),
        };
        low_level::raise(signal).expect("raise");
        // raise() returns after the handler has run on this thread, so readiness is there already
        // and a short wait is enough to see that there is none.
        poll.poll(&mut events, Some(Duration::from_millis(50))).expect("poll");
        println!("{name} woken={} {:?}", !events.is_empty(), signals.take());
        assert_eq!(!events.is_empty(), wakes);
        assert_eq!(signals.take(), None, "taken once");
    }
    std::process::exit(0)
}

fn run(script: &str) -> (Option<i32>, Vec<String>) {
    if std::env::var_os(CHILD).is_some_and(|asked| asked == script) {
        child(script);
    }
    let name = std::thread::current().name().expect("tests run on named threads").to_owned();
    let binary = std::env::current_exe().expect("the test binary");
    let Output { status, stdout, .. } = Command::new(binary)
        .args(["--exact", &name, "--nocapture"])
        .env(CHILD, script)
        .output()
        .expect("the test binary runs");
    let stdout = String::from_utf8(stdout).expect("text");
    let lines = stdout.lines().filter_map(|line| line.find(" woken=").map(|_| line.to_owned()));
    (status.code(), lines.collect())
}

#[test]
fn both_signals_wake_the_loop_and_ask_for_a_shutdown() {
    let (code, lines) = run("TERM TERM");
    assert_eq!(code, Some(0));
    assert_eq!(lines, ["TERM woken=true Some(Terminate)", "TERM woken=true Some(Terminate)"]);
}

#[test]
fn the_first_interrupt_asks_and_the_second_exits_at_once() {
    let (code, lines) = run("INT INT");
    assert_eq!(code, Some(INSISTED_STATUS));
    assert_eq!(lines, ["INT woken=true Some(Interrupt)"]);
}

#[test]
fn an_interrupt_after_terminate_exits_at_once() {
    let (code, lines) = run("TERM INT");
    assert_eq!(code, Some(INSISTED_STATUS));
    assert_eq!(lines, ["TERM woken=true Some(Terminate)"]);
}

#[test]
fn signals_of_failed_writes_and_of_a_closed_terminal_are_ignored() {
    let (code, lines) = run("HUP PIPE XFSZ INT");
    assert_eq!(code, Some(0));
    let expected = [
        "HUP woken=false None",
        "PIPE woken=false None",
        "XFSZ woken=false None",
        "INT woken=true Some(Interrupt)",
    ];
    assert_eq!(lines, expected);
}
