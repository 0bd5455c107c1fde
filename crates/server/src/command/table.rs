//! The command table: every row, found by name.
//!
//! Any thread (workers look commands up while they parse). Built once, never changed.

use std::sync::LazyLock;

use super::{
    Command, Flags, bitfield, bitmap, blocking, connection, explain, generic, hash, introspect,
    iothreads, lcs, list, memory, object, pubsub, scan, server, set, slowlog, sort, string,
    transaction, zset,
};

/// Longest name of a command, in bytes.
const NAME_MAX: usize = 32;
/// Slots of the name index; a power of two, far above the number of commands.
const SLOTS: usize = 1024;

struct Table {
    rows: Vec<Command>,
    /// Row number plus one by hash of the name, 0 if empty; open addressing.
    index: Box<[u16; SLOTS]>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| {
    let families: [Vec<Command>; 22] = [
        string::commands(),
        lcs::commands(),
        bitmap::commands(),
        bitfield::commands(),
        list::commands(),
        blocking::commands(),
        hash::commands(),
        set::commands(),
        zset::commands(),
        generic::commands(),
        object::commands(),
        sort::commands(),
        scan::commands(),
        transaction::commands(),
        connection::commands(),
        pubsub::commands(),
        explain::commands(),
        introspect::commands(),
        iothreads::commands(),
        memory::commands(),
        slowlog::commands(),
        server::commands(),
    ];
    let mut rows: Vec<Command> = families.into_iter().flatten().collect();
    let mut index = Box::new([0u16; SLOTS]);
    assert!(rows.len() < SLOTS / 2, "the index must stay sparse");
    for (id, row) in rows.iter_mut().enumerate() {
        assert!(row.name.len() <= NAME_MAX, "NAME_MAX covers every name");
        row.id = id as u16;
        let mut slot = hash(row.name.as_bytes());
        while index[slot] != 0 {
            slot = (slot + 1) % SLOTS;
        }
        index[slot] = id as u16 + 1;
    }
    Table { rows, index }
});

/// Position of a name in the index, letter case ignored.
fn hash(name: &[u8]) -> usize {
    let mut hash = 0xcbf2_9ce4_8422_2325u64 ^ name.len() as u64;
    for byte in name {
        hash = (hash ^ u64::from(byte | 0x20)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    (hash >> 40) as usize % SLOTS
}

/// Finds a command by name, in any letter case; `client|id` finds a subcommand.
pub(crate) fn lookup(name: &[u8]) -> Option<&'static Command> {
    if name.len() > NAME_MAX {
        return None;
    }
    let table = &*TABLE;
    let mut slot = hash(name);
    loop {
        let row = usize::from(table.index[slot]).checked_sub(1)?;
        let command = &table.rows[row];
        if command.name.as_bytes().eq_ignore_ascii_case(name) {
            return Some(command);
        }
        slot = (slot + 1) % SLOTS;
    }
}

/// Finds the row of a request: of the subcommand where the first word only groups them, or of the
/// group itself if there is no such subcommand, which dispatch then refuses.
pub(crate) fn lookup_request(name: &[u8], second: Option<&[u8]>) -> Option<&'static Command> {
    // A bar would name a subcommand as if it were a command.
    let command = lookup(name).filter(|_| !name.contains(&b'|'))?;
    match second {
        Some(sub) if command.flags.has(Flags::CONTAINER) && sub.len() < NAME_MAX => {
            let mut full = Vec::with_capacity(name.len() + 1 + sub.len());
            full.extend_from_slice(name);
            full.push(b'|');
            full.extend_from_slice(sub);
            Some(lookup(&full).unwrap_or(command))
        }
        _ => Some(command),
    }
}

/// The rows under a container.
pub(crate) fn subcommands(container: &Command) -> impl Iterator<Item = &'static Command> {
    let name = container.name;
    let is_sub =
        move |full: &str| full.strip_prefix(name).is_some_and(|rest| rest.starts_with('|'));
    TABLE.rows.iter().filter(move |row| is_sub(row.name))
}

/// Every row, in table order.
pub(crate) fn all() -> &'static [Command] {
    &TABLE.rows
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_row_is_found_by_its_name_in_any_case() {
        let mut names = HashSet::new();
        for row in all() {
            assert!(names.insert(row.name), "{} twice", row.name);
            // A dot ends the prefix of commands that only this server has.
            let is_name_byte = |b: u8| b.is_ascii_lowercase() || b"|.-_".contains(&b);
            assert!(row.name.bytes().all(is_name_byte), "{}", row.name);
            for name in [row.name.to_string(), row.name.to_uppercase()] {
                assert_eq!(lookup(name.as_bytes()).map(|c| c.name), Some(row.name));
            }
        }
        for name in [&b""[..], b"nosuch", b"get ", &[b'g'; 100], b"\0\xff"] {
            assert!(lookup(name).is_none());
        }
    }

    #[test]
    fn subcommands_are_found_under_their_container_only() {
        let name = |a: &str, b| lookup_request(a.as_bytes(), b).map(|c| c.name);
        assert_eq!(name("CLIENT", Some(&b"Id"[..])), Some("client|id"));
        assert_eq!(name("client", Some(b"nosuch")), Some("client"));
        assert_eq!(name("client", None), Some("client"));
        assert_eq!(name("client|id", None), None);
        assert_eq!(name("get", Some(b"id")), Some("get"));
        let client = lookup(b"client").expect("a row");
        assert!(subcommands(client).count() > 3);
        assert!(subcommands(client).all(|c| c.name.starts_with("client|")));
    }
}
