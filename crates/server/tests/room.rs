//! With a store on disk a request waits for room for what it will take, not for what it says.

#[expect(dead_code, reason = "each test binary uses its own part of the harness")]
mod common;

use common::server::Server;

const MIB: u64 = 1 << 20;

/// A hundred of each, of which each makes two megabytes out of a line. All come in one turn.
#[test]
fn short_requests_for_long_strings_wait_for_room() {
    const COUNT: usize = 100;
    for (line, reply) in [
        ("SETRANGE k{i} 2000000 x", ":2000001"),
        ("SETBIT k{i} 16000000 1", ":0"),
        ("BITFIELD k{i} INCRBY u8 #2000000 7", "*1\r\n:7"),
        ("BITOP NOT k{i} source", ":2000001"),
    ] {
        let server = Server::subject(&["--maxmemory", "32mb", "--appendfsync", "no"]);
        let mut client = server.connect();
        client.ok("SETRANGE source 2000000 x");
        let before = server.peak_bytes();
        let lines = (0..COUNT).map(|i| line.replace("{i}", &i.to_string()));
        let requests: Vec<Vec<String>> =
            lines.map(|line| line.split(' ').map(str::to_owned).collect()).collect();
        for got in client.pipeline(&requests) {
            let got = got.expect("a reply").raw;
            assert_eq!(got, format!("{reply}\r\n").into_bytes(), "{line}");
        }
        let grown = (server.peak_bytes() - before) / MIB;
        assert!(grown < 100, "{line}: {grown} MiB more");
        assert_eq!(client.ok("DBSIZE").integer(), Ok(COUNT as i64 + 1));
    }
}
