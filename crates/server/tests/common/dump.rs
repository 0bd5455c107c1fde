//! Everything a server holds, as a comparable list: the state behind the replies.

use super::client::Client;
use super::reply::{Reply, Value};
use super::words;

/// One key as `db/key type ttl-or-none value`, for all keys of databases `0..databases`, sorted.
///
/// Sets, hashes and sorted sets are compared without regard to order of storage; a time to live is
/// compared in hours, because the two servers are asked at different moments.
pub(crate) fn dump(client: &mut Client, databases: usize) -> Vec<String> {
    let mut out = Vec::new();
    for database in 0..databases {
        client.ok(&format!("SELECT {database}"));
        let mut keys: Vec<Vec<u8>> = client.ok("KEYS *").leaves();
        keys.sort();
        for key in keys {
            out.push(format!("{database}/{} {}", words::show(&key), one(client, &key)));
        }
        let count = client.ok("DBSIZE").integer().expect("DBSIZE is a number");
        out.push(format!("{database} holds {count}"));
    }
    client.ok("SELECT 0");
    out
}

fn one(client: &mut Client, key: &[u8]) -> String {
    let mut ask = |words: &[&[u8]]| -> Reply {
        client.try_command(words).unwrap_or_else(|missing| panic!("while dumping: {missing}"))
    };
    let kind = ask(&[b"TYPE", key]).text().expect("TYPE is a text").to_vec();
    let left = ask(&[b"PTTL", key]).integer().expect("PTTL is a number");
    let mut value = match kind.as_slice() {
        b"string" => ask(&[b"GET", key]).value,
        b"list" => ask(&[b"LRANGE", key, b"0", b"-1"]).value,
        b"set" => ask(&[b"SMEMBERS", key]).value,
        b"hash" => ask(&[b"HGETALL", key]).value,
        b"zset" => ask(&[b"ZRANGE", key, b"0", b"-1", b"WITHSCORES"]).value,
        _ => Value::Line(b"+gone".to_vec()),
    };
    match kind.as_slice() {
        b"set" => value.sort_items(),
        b"hash" => value.sort_pairs(),
        _ => {}
    }
    let mut leaves = Vec::new();
    flatten(&value, &mut leaves);
    let time = if left < 0 { "forever".to_owned() } else { format!("{}h", left / 3_600_000) };
    format!("{} {time} {}", words::show(&kind), words::show_all(&leaves))
}

fn flatten(value: &Value, out: &mut Vec<Vec<u8>>) {
    match value {
        Value::Items(_, items) => items.iter().flatten().for_each(|item| flatten(item, out)),
        Value::Pairs(_, pairs) => pairs.iter().for_each(|(key, item)| {
            flatten(key, out);
            flatten(item, out);
        }),
        leaf => out.extend(leaf.text().map(<[u8]>::to_vec)),
    }
}
