//! INFO: the server's state as text, in sections.
//!
//! Main thread; reads counters and wakes nothing. Field names are those that exporters and
//! dashboards parse. Cheap, since clients ask for it before their first command.

mod sections;
mod store;

use std::fmt::Write;

use crate::server::Server;

use sections::{
    clients, cluster, commandstats, cpu, errorstats, iothreads, keyspace, memory, persistence,
    replication, server, stats,
};

type Section = fn(&Server, &mut String);

/// Sections in their order: name, whether plain INFO shows it, its writer.
const SECTIONS: &[(&str, bool, Section)] = &[
    ("Server", true, server),
    ("Clients", true, clients),
    ("Memory", true, memory),
    ("Persistence", true, persistence),
    ("Store", true, store::store),
    ("Stats", true, stats),
    ("Replication", true, replication),
    ("CPU", true, cpu),
    ("Iothreads", true, iothreads),
    ("Modules", true, |_, _| {}),
    ("Commandstats", false, commandstats),
    ("Errorstats", true, errorstats),
    ("Cluster", true, cluster),
    ("Keyspace", true, keyspace),
];

/// The text of the sections named; of the default ones if none is.
pub(crate) fn text<'a>(server: &Server, names: impl Iterator<Item = &'a [u8]>) -> String {
    let names: Vec<String> = names.map(|n| String::from_utf8_lossy(n).to_lowercase()).collect();
    let named = |name: &str| names.iter().any(|n| n == name);
    let everything = named("all") || named("everything");
    let defaults = names.is_empty() || named("default");
    let mut out = String::with_capacity(4096);
    for (name, default, write) in SECTIONS {
        if everything || defaults && *default || named(&name.to_lowercase()) {
            if !out.is_empty() {
                out.push_str("\r\n");
            }
            line(&mut out, format_args!("# {name}"));
            write(server, &mut out);
        }
    }
    out
}

/// Writes one line.
fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a string cannot fail.
    let _ = out.write_fmt(text);
    out.push_str("\r\n");
}

/// Bytes for people: `1.50M`.
fn human(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "K", "M", "G", "T"] {
        if value < 1024.0 {
            return if unit == "B" { format!("{bytes}B") } else { format!("{value:.2}{unit}") };
        }
        value /= 1024.0;
    }
    format!("{value:.2}P")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_for_people() {
        assert_eq!(human(0), "0B");
        assert_eq!(human(1023), "1023B");
        assert_eq!(human(1536), "1.50K");
        assert_eq!(human(3 << 30), "3.00G");
    }
}
