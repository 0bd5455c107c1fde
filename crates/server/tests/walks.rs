//! KEYS while keys come, go and leave memory: what it shows is one moment, as in redis-server, also
//! of keys that are on disk only.

#[expect(dead_code, reason = "each test binary uses its own part of the harness")]
mod common;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use common::client::Client;
use common::rng::Rng;
use common::server::Server;

/// Changed keys reach the disk at once, so that memory may forget them during a walk.
const SETTING: &[&str] = &["--maxmemory", "2mb", "--appendfsync", "no", "--flush-delay-ms", "0"];
/// Far more keys than memory holds, and than one stretch of a walk.
const BALLAST: usize = 6_000;
const TOKENS: usize = 30;
const LOOKS: usize = 12;

fn ballast(client: &mut Client) {
    let value = "b".repeat(700);
    let all: Vec<usize> = (0..BALLAST).collect();
    for some in all.chunks(200) {
        let command = |n: &usize| vec!["SET".to_owned(), format!("ballast:{n}"), value.clone()];
        let replies = client.pipeline(&some.iter().map(command).collect::<Vec<_>>());
        assert!(replies.iter().all(|reply| reply.as_ref().is_ok_and(|r| r.raw == b"+OK\r\n")));
    }
}

/// Gives tokens other names, each in a transaction, and reads ballast, which drives them out.
fn rename_tokens(client: &mut Client, ends: &AtomicBool) {
    let mut rng = Rng::new(1);
    let mut names = [0; TOKENS];
    while !ends.load(Ordering::Acquire) {
        let token = rng.below(TOKENS);
        let (old, new) = (names[token], 1 + rng.below(1000));
        if old == new {
            continue;
        }
        client.ok("MULTI");
        client.ok(&format!("DEL token:{token}:{old}"));
        client.ok(&format!("SET token:{token}:{new} value"));
        assert!(!client.ok("EXEC").is_null());
        names[token] = new;
        let others: Vec<_> = (0..200).map(|_| format!("ballast:{}", rng.below(BALLAST))).collect();
        client.ok(&format!("MGET {}", others.join(" ")));
    }
}

fn each_token_once(names: &[Vec<u8>]) {
    let mut seen = BTreeMap::<&[u8], Vec<&[u8]>>::new();
    for name in names {
        let token = name.split(|byte| *byte == b':').nth(1).expect("token:NUMBER:NAME");
        seen.entry(token).or_default().push(name);
    }
    let wrong: Vec<_> = seen.values().filter(|names| names.len() != 1).collect();
    assert!(wrong.is_empty(), "under several names: {wrong:?}");
    assert_eq!(seen.len(), TOKENS, "some under no name");
}

#[test]
fn a_key_renamed_during_keys_is_seen_under_one_name() {
    let server = Server::subject_or(SETTING, &[]);
    let mut client = server.connect();
    ballast(&mut client);
    (0..TOKENS).for_each(|token| drop(client.ok(&format!("SET token:{token}:0 value"))));
    let ends = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| rename_tokens(&mut server.connect(), &ends));
        let looked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            for _ in 0..LOOKS {
                each_token_once(&client.ok("KEYS token:*").leaves());
                client.ok("MULTI");
                client.ok("KEYS token:*");
                each_token_once(&client.ok("EXEC").leaves());
            }
        }));
        ends.store(true, Ordering::Release);
        writer.join().expect("the writer is served");
        looked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}
