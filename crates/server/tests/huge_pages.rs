//! Huge pages: keys and values are moved into them, unless the operator says no.

#[expect(dead_code, reason = "each test binary uses its own part of the harness")]
mod common;

use std::fs;
use std::time::{Duration, Instant};

use common::server::{Kind, Server};

/// Each has a megabyte of values: together many times a huge page.
const REQUESTS: u64 = 64;
const VALUES: usize = 1024;
const DEADLINE: Duration = Duration::from_secs(60);

/// A server that holds `REQUESTS` MiB in small values.
fn filled(arguments: &[&str]) -> Server {
    let server = Server::start(Kind::Flintlock, &[&["--store", "memory"], arguments].concat());
    let mut client = server.connect();
    let value = "x".repeat(1000);
    for request in 0..REQUESTS {
        let pairs: Vec<String> =
            (0..VALUES).map(|number| format!("{request}:{number} {value}")).collect();
        client.ok(&format!("MSET {}", pairs.join(" ")));
    }
    server
}

/// A line of a file about the process.
fn line(server: &Server, file: &str, name: &str) -> String {
    let path = format!("/proc/{}/{file}", server.pid());
    let text = fs::read_to_string(&path).unwrap_or_else(|why| panic!("{path}: {why}"));
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("it is told");
    line.trim_start_matches(':').trim().to_owned()
}

/// MiB of the process in huge pages.
fn huge_mib(server: &Server) -> u64 {
    let text = line(server, "smaps_rollup", "AnonHugePages");
    text.strip_suffix(" kB").expect("a size").parse::<u64>().expect("a number") / 1024
}

/// Whether the kernel gives huge pages, and moves memory into them when asked to.
fn can_be_had() -> bool {
    let policy = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let numbers: Vec<u32> = release.split('.').map_while(|part| part.parse().ok()).collect();
    cfg!(all(target_os = "linux", target_env = "gnu"))
        && policy.is_ok_and(|policy| !policy.contains("[never]"))
        && numbers.get(..2).is_some_and(|numbers| numbers >= &[6, 1])
}

/// How often the kernel found no huge page to move memory into.
fn collapses_failed() -> u64 {
    let text = fs::read_to_string("/proc/vmstat").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("thp_collapse_alloc_failed "));
    line.and_then(|count| count.parse().ok()).unwrap_or(0)
}

#[test]
fn keys_and_values_are_moved_into_huge_pages_once_there_are_many() {
    if !can_be_had() {
        println!("skipped: this system moves nothing into huge pages");
        return;
    }
    let failed = collapses_failed();
    let server = filled(&[]);
    let until = Instant::now() + DEADLINE;
    while huge_mib(&server) < REQUESTS / 2 {
        if collapses_failed() > failed {
            println!("skipped: this system has no memory in pieces so large");
            return;
        }
        assert!(Instant::now() < until, "{} of {REQUESTS} MiB", huge_mib(&server));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[cfg(target_os = "linux")]
#[test]
fn an_operator_can_do_without_huge_pages() {
    let server = filled(&["--disable-thp", "yes"]);
    assert_eq!(line(&server, "status", "THP_enabled"), "0");
    assert_eq!(huge_mib(&server), 0);
}
