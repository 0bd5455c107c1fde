//! Clients: what the server remembers of each connection.
//!
//! Main thread. A client has two halves: the session here, which never leaves the main thread, and
//! the connection half (`net::conn::ConnIo`: socket, buffers, parser), which moves into a job while
//! a worker reads or writes. While it is away its place is empty, so the type system forbids two
//! threads on one client.

use std::mem::offset_of;
use std::net::SocketAddr;

use crate::blocked::Blocked;
use crate::client_memory::Counted;
use crate::command::{Command, OwnedRequest};
use crate::net::conn::ConnIo;
use crate::pubsub::Subscriptions;
use crate::resp::encode::{Mark, Proto};
use crate::tier::prepare::Prepared;
use crate::util::prefetch::prefetch_lines;
use crate::waiters::Awaited;
use crate::watch::Watching;

/// Names a client: index and generation, so that a late answer never reaches a successor.
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Hash, Debug)]
pub(crate) struct ClientKey {
    index: u32,
    generation: u32,
}

impl ClientKey {
    /// The pseudo client that replays the journal; always there.
    pub(crate) const INTERNAL: Self = Self { index: 0, generation: 0 };

    /// The key as one word, for poll tokens.
    pub(crate) fn to_word(self) -> usize {
        self.index as usize | (self.generation as usize) << 32
    }

    /// The key of a word.
    pub(crate) fn from_word(word: usize) -> Self {
        Self { index: word as u32, generation: (word >> 32) as u32 }
    }
}

/// Commands queued since MULTI.
#[derive(Debug, Default)]
pub(crate) struct Multi {
    /// In order.
    pub queue: Vec<OwnedRequest>,
    /// Memory of the queue, in bytes.
    pub bytes: usize,
    /// Whether a command could not be queued, so that EXEC must refuse.
    pub failed: bool,
}

/// Why a client must go, and how soon.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Closing {
    /// After its replies were sent: QUIT, a protocol error, its own CLIENT KILL, the end of what
    /// the peer sends.
    AfterReply,
    /// At once: killed by another, or the connection is broken.
    Now,
}

/// What stays on the main thread. Laid out as written: what each request looks at is in front.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Session {
    /// Why the client is to be closed, if it is.
    pub closing: Option<Closing>,
    /// Protocol version.
    pub proto: Proto,
    /// Whether AUTH succeeded or is not needed; see [`Session::authenticate`].
    pub authenticated: bool,
    /// Before more of its input is parsed here, it is held to limits that have changed.
    pub limits_changed: bool,
    /// A watched key changed.
    pub cas_broken: bool,
    /// Whether it has `subscriptions`.
    pub subscribes: bool,
    /// CLIENT NO-EVICT: `maxmemory-clients` never costs this client its connection.
    pub no_evict: bool,
    /// Selected database.
    pub db: usize,
    /// Unix time of the last bytes that came or went, in milliseconds.
    pub last_ms: u64,
    /// The last command.
    pub last_command: Option<&'static Command>,
    /// What its request waits for.
    pub blocked: Option<Blocked>,
    /// Replies that must not be sent yet, if there are any.
    pub held: Option<Held>,
    /// Open transaction.
    pub multi: Option<Multi>,
    /// Keys under WATCH.
    pub watching: Watching,
    /// What its request has gathered so far; most requests run at once and gather nothing.
    pub prepared: Option<Box<Prepared>>,
    /// What it has subscribed to, if anything.
    pub subscriptions: Option<Box<Subscriptions>>,
    /// The elements that its request waits for, from when it finds none until it is answered.
    pub awaited: Option<Box<Awaited>>,
    /// Number shown by CLIENT ID; never used again.
    pub id: u64,
    /// Peer and own address, as CLIENT LIST shows them.
    pub addr: String,
    pub laddr: String,
    /// Descriptor number, for CLIENT LIST.
    pub fd: i32,
    /// CLIENT SETNAME.
    pub name: Vec<u8>,
    /// CLIENT SETINFO.
    pub lib_name: Vec<u8>,
    pub lib_ver: Vec<u8>,
    /// Unix time of connecting, in milliseconds.
    pub created_ms: u64,
    /// Since when more replies wait than the soft limit, in milliseconds of the clock of intervals.
    pub behind_since_ms: Option<u64>,
}

/// Replies that wait for the journal: from the first one on that acknowledges a change.
#[derive(Copy, Clone, Debug)]
pub(crate) struct Held {
    /// They may be sent once the journal is durable up to here.
    pub until: u64,
    /// Where they begin in the output.
    pub mark: Mark,
    /// How many there are.
    pub replies: usize,
}

impl Session {
    fn new(id: u64, now_ms: u64) -> Self {
        Self {
            id,
            addr: String::new(),
            laddr: String::new(),
            fd: -1,
            name: Vec::new(),
            lib_name: Vec::new(),
            lib_ver: Vec::new(),
            db: 0,
            proto: Proto::default(),
            authenticated: false,
            limits_changed: false,
            multi: None,
            watching: Watching::default(),
            cas_broken: false,
            created_ms: now_ms,
            behind_since_ms: None,
            last_ms: now_ms,
            last_command: None,
            closing: None,
            blocked: None,
            prepared: None,
            awaited: None,
            held: None,
            no_evict: false,
            subscribes: false,
            subscriptions: None,
        }
    }

    /// From now on it is one that has authenticated, or has not: strangers may send less.
    pub(crate) fn authenticate(&mut self, authenticated: bool) {
        self.authenticated = authenticated;
        self.limits_changed = true;
    }

    /// For noting what its request has gathered.
    pub(crate) fn prepared(&mut self) -> &mut Prepared {
        self.prepared.get_or_insert_default()
    }

    /// Bytes of memory of the session.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Client>()
            + self.name.capacity()
            + self.lib_name.capacity()
            + self.lib_ver.capacity()
            + self.watching.memory_bytes()
            + self.multi.as_ref().map_or(0, |m| m.bytes)
            + self.prepared.as_ref().map_or(0, |prepared| prepared.memory_bytes())
            + self.subscriptions.as_ref().map_or(0, |own| own.memory_bytes())
            + self.awaited.as_ref().map_or(0, |awaited| awaited.memory_bytes())
    }
}

/// One client. Laid out as written, the session behind what each event looks at.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Client {
    /// The half that moves; `None` while a worker has it or a command of the client runs.
    pub io: Option<Box<ConnIo>>,
    /// A worker has the half: nothing runs for the client and it cannot be closed until it is
    /// back; what happens meanwhile is noted here.
    pub away: bool,
    /// Readiness that arrived and was not used up: with edge-triggered polling it comes only once.
    pub readable: bool,
    /// The peer sends no more: read on until the end is seen, whatever short reads suggest.
    pub read_to_end: bool,
    /// The end was seen, or the connection broke.
    pub peer_gone: bool,
    /// Requests were left because of too much output: go on when it was sent.
    pub unfinished: bool,
    /// Parsed requests wait in the half: nothing is read before they have run. Kept here since
    /// looking at a half that a worker had is a miss for each line.
    pub waiting: bool,
    /// More than `OUTPUT_HIGH` waits in the half to be sent: nothing is read meanwhile.
    pub full: bool,
    /// In the list of clients to serve this turn.
    pub in_ready: bool,
    /// In the list of clients with replies to send.
    pub in_writes: bool,
    /// A write came short; writable readiness is awaited.
    pub write_blocked: bool,
    /// The half that stays.
    pub session: Session,
    /// What the client counts for in the book of [`crate::client_memory`].
    pub counted: Option<Counted>,
}

/// A place for a client; begins on a line of its own.
#[derive(Debug)]
#[repr(C, align(64))]
struct Slot {
    /// Of the client that is here, or of the next one.
    generation: u32,
    client: Option<Client>,
}

/// Who asks for a client, that is for how much of it.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub(crate) enum Look {
    /// Somebody who puts its half back after a write.
    Sent,
    /// Somebody who has news of it and may lend its half.
    News,
    /// Somebody who runs its requests.
    Run,
}

impl Look {
    fn lines(self) -> usize {
        match self {
            Self::Sent => 1,
            Self::News => 2,
            Self::Run => 3,
        }
    }
}

// What these say is in those lines.
const _: () = {
    let session = offset_of!(Slot, client) + offset_of!(Client, session);
    assert!(session + offset_of!(Session, last_ms) <= 64);
    assert!(session + offset_of!(Session, held) <= 128);
    assert!(session + offset_of!(Session, watching) <= 192);
};

/// All clients.
#[derive(Debug)]
pub(crate) struct Clients {
    slots: Vec<Slot>,
    free: Vec<u32>,
    len: usize,
    next_id: u64,
}

impl Clients {
    /// Nobody but the internal client.
    pub(crate) fn new() -> Self {
        let mut internal = Session::new(0, 0);
        internal.authenticated = true;
        let client = Client::new(internal, None);
        Self {
            slots: vec![Slot { generation: 0, client: Some(client) }],
            free: Vec::new(),
            len: 0,
            next_id: 1,
        }
    }

    /// Connected clients.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds a client.
    pub(crate) fn insert(
        &mut self,
        io: Box<ConnIo>,
        now_ms: u64,
        peer: SocketAddr,
        local: SocketAddr,
    ) -> ClientKey {
        let mut session = Session::new(self.next_id, now_ms);
        self.next_id += 1;
        self.len += 1;
        session.addr = peer.to_string();
        session.laddr = local.to_string();
        session.fd = io.fd();
        let client = Some(Client::new(session, Some(io)));
        if let Some(index) = self.free.pop() {
            let slot = &mut self.slots[index as usize];
            slot.client = client;
            return ClientKey { index, generation: slot.generation };
        }
        self.slots.push(Slot { generation: 0, client });
        let index = u32::try_from(self.slots.len() - 1).expect("maxclients is far below 2^32");
        ClientKey { index, generation: 0 }
    }

    /// Takes a client out.
    pub(crate) fn remove(&mut self, key: ClientKey) -> Option<Client> {
        assert!(key != ClientKey::INTERNAL, "the internal client stays");
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation != key.generation {
            return None;
        }
        let client = slot.client.take()?;
        slot.generation = slot.generation.wrapping_add(1);
        self.free.push(key.index);
        self.len -= 1;
        Some(client)
    }

    /// A client, unless it is gone.
    pub(crate) fn get_mut(&mut self, key: ClientKey) -> Option<&mut Client> {
        let slot = self.slots.get_mut(key.index as usize)?;
        if slot.generation == key.generation { slot.client.as_mut() } else { None }
    }

    /// A client, unless it is gone.
    pub(crate) fn get(&self, key: ClientKey) -> Option<&Client> {
        let slot = self.slots.get(key.index as usize)?;
        if slot.generation == key.generation { slot.client.as_ref() } else { None }
    }

    /// Asks for the lines of a client that is looked at soon.
    pub(crate) fn prefetch(&self, key: ClientKey, look: Look) {
        if let Some(slot) = self.slots.get(key.index as usize) {
            prefetch_lines(slot, look.lines());
        }
    }

    /// Asks for the lines of its half, if that is at home.
    pub(crate) fn prefetch_half(&self, key: ClientKey) {
        if let Some(io) = self.get(key).and_then(|client| client.io.as_ref()) {
            io.prefetch_all();
        }
    }

    /// The session of a client that is known to be there: one whose command runs.
    pub(crate) fn session(&self, key: ClientKey) -> &Session {
        &self.get(key).expect("a running command has a client").session
    }

    /// As [`Clients::session`].
    pub(crate) fn session_mut(&mut self, key: ClientKey) -> &mut Session {
        &mut self.get_mut(key).expect("a running command has a client").session
    }

    /// Every connected client.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (ClientKey, &Client)> {
        self.slots.iter().enumerate().skip(1).filter_map(|(index, slot)| {
            let key = ClientKey { index: index as u32, generation: slot.generation };
            Some((key, slot.client.as_ref()?))
        })
    }

    /// Every connected client, to change it.
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Client> {
        self.slots.iter_mut().skip(1).filter_map(|slot| slot.client.as_mut())
    }
}

impl Client {
    /// Bytes of memory that are in sight: buffers that are away are not.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.session.memory_bytes() + self.io.as_ref().map_or(0, |io| io.memory_bytes())
    }

    /// Puts the client into the list of those with replies to send, once.
    pub(crate) fn enlist_write(&mut self, key: ClientKey, writes: &mut Vec<ClientKey>) {
        if !self.in_writes {
            self.in_writes = true;
            writes.push(key);
        }
    }

    fn new(session: Session, io: Option<Box<ConnIo>>) -> Self {
        Self {
            session,
            io,
            away: false,
            readable: false,
            read_to_end: false,
            peer_gone: false,
            unfinished: false,
            waiting: false,
            full: false,
            in_ready: false,
            in_writes: false,
            write_blocked: false,
            counted: None,
        }
    }
}
