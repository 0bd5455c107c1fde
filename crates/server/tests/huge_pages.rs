//! Huge pages: the process asks for them by itself, and its keys lie in them.

#[expect(dead_code, reason = "each test binary uses its own part of the harness")]
mod common;

use std::fs;

use common::server::{Kind, Server};

/// Each has a megabyte of values: together many times a huge page, which is 2 MiB on most machines.
const REQUESTS: usize = 64;
const VALUES: usize = 1024;

/// Bytes of a process in huge pages.
fn huge_bytes(pid: u32) -> u64 {
    let path = format!("/proc/{pid}/smaps_rollup");
    let text = fs::read_to_string(&path).unwrap_or_else(|why| panic!("{path}: {why}"));
    let line = text.lines().find_map(|line| line.strip_prefix("AnonHugePages:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")).expect("a size");
    kib.parse::<u64>().expect("a number") * 1024
}

#[test]
fn keys_lie_in_huge_pages() {
    let policy = fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled");
    if !policy.is_ok_and(|policy| !policy.contains("[never]")) || !cfg!(target_env = "gnu") {
        println!("skipped: this system gives no huge pages to a heap");
        return;
    }
    if std::env::var("GLIBC_TUNABLES").is_ok_and(|all| all.contains("glibc.malloc.hugetlb")) {
        println!("skipped: the environment has decided on them");
        return;
    }
    let server = Server::start(Kind::Flintlock, &["--store", "memory"]);
    let mut client = server.connect();
    let value = "x".repeat(1000);
    for request in 0..REQUESTS {
        let pairs: Vec<String> =
            (0..VALUES).map(|number| format!("{request}:{number} {value}")).collect();
        client.ok(&format!("MSET {}", pairs.join(" ")));
    }
    assert!(huge_bytes(server.pid()) > 0, "not one in {REQUESTS} MiB");
}
