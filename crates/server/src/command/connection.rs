//! Commands about the connection itself: greeting, authentication, CLIENT.

use crate::client::{Client, Closing, Session};
use crate::client_memory::OUTPUT_FREE;
use crate::pause::Mode;
use crate::pubsub::Kind;
use crate::resp::encode::{Proto, Reply};
use crate::server::Server;
use crate::types::number::parse_i64;
use crate::waiters::Unserved;

use super::reach::database;
use super::{Command, Ctx, Error, Flags, Keys, Request, transaction};

const ANY: Flags = Flags::NOSCRIPT.or(Flags::LOADING).or(Flags::STALE);
const OPEN: Flags = ANY.or(Flags::NO_AUTH).or(Flags::FAST).or(Flags::ALLOW_BUSY);
const SELECT: &[Flags] = &[Flags::LOADING, Flags::STALE, Flags::FAST, Flags::SELECTS];
const LEAVE: &[Flags] = &[OPEN, Flags::UNQUEUED, Flags::ENDS_MULTI, Flags::SUBSCRIBER];
const NONE: Keys = Keys::NONE;

/// The rows of this family.
pub(super) fn commands() -> Vec<Command> {
    vec![
        Command::new("ping", ping, -1, &[Flags::FAST, Flags::SUBSCRIBER], NONE),
        Command::new("echo", echo, 2, &[Flags::FAST, Flags::LOADING, Flags::STALE], NONE),
        Command::new("hello", hello, -1, &[OPEN], NONE),
        Command::new("auth", auth, -2, &[OPEN], NONE),
        Command::new("select", select, 2, SELECT, NONE),
        Command::new("quit", quit, -1, LEAVE, NONE),
        Command::new("reset", reset, 1, LEAVE, NONE),
        Command::new("client", super::container, -2, &[Flags::CONTAINER], NONE),
        Command::new("client|id", client_id, 2, &[ANY], NONE),
        Command::new("client|setname", client_setname, 3, &[ANY], NONE),
        Command::new("client|getname", client_getname, 2, &[ANY], NONE),
        Command::new("client|setinfo", client_setinfo, 4, &[ANY], NONE),
        Command::new("client|list", client_list, -2, &[ANY, Flags::ADMIN], NONE),
        Command::new("client|info", client_info, 2, &[ANY], NONE),
        Command::new("client|kill", client_kill, -3, &[ANY, Flags::ADMIN], NONE),
        Command::new("client|no-evict", client_no_evict, 3, &[ANY, Flags::ADMIN], NONE),
        Command::new("client|pause", client_pause, -3, &[ANY, Flags::ADMIN], NONE),
        Command::new("client|unblock", client_unblock, -3, &[ANY, Flags::ADMIN], NONE),
        Command::new("client|unpause", client_unpause, 2, &[ANY, Flags::ADMIN], NONE),
        Command::new("client|help", super::help, 2, &[Flags::LOADING, Flags::STALE], NONE),
    ]
}

fn ping(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    match (request.len(), request.get(1)) {
        (1 | 2, text) if ctx.session().only_subscribes() => {
            reply.array(2);
            reply.bulk(b"pong");
            reply.bulk(text.unwrap_or_default());
        }
        (1, _) => reply.simple("PONG"),
        (2, Some(text)) => reply.bulk(text),
        _ => return Err(Error::arity("ping")),
    }
    Ok(())
}

fn echo(_: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    reply.bulk(request.arg(1));
    Ok(())
}

/// What a password check found.
fn check_password(ctx: &mut Ctx<'_>, user: &[u8], password: &[u8]) -> Result<(), Error> {
    let wanted = ctx.server.config.requirepass.expose();
    let right = wanted.is_empty() || same_bytes(wanted, password);
    if user != b"default" || !right {
        return Err(Error::WRONG_PASS);
    }
    ctx.session().authenticate(true);
    Ok(())
}

/// Compares in time that depends on the guess's length only.
fn same_bytes(secret: &[u8], guess: &[u8]) -> bool {
    let mut differ = secret.len() ^ guess.len();
    for (i, byte) in guess.iter().enumerate() {
        differ |= usize::from(byte ^ secret[i % secret.len()]);
    }
    std::hint::black_box(differ) == 0
}

fn auth(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    match request.len() {
        2 if ctx.server.config.requirepass.is_unset() => {
            return Err(Error::fixed(
                "ERR AUTH <password> called without any password configured for the default \
                 user. Are you sure your configuration is correct?",
            ));
        }
        2 => check_password(ctx, b"default", request.arg(1))?,
        3 => check_password(ctx, request.arg(1), request.arg(2))?,
        _ => return Err(Error::SYNTAX),
    }
    reply.ok();
    Ok(())
}

/// A client name: printable ASCII without spaces, as CLIENT LIST must stay parseable.
fn check_name(name: &[u8], error: &'static str) -> Result<(), Error> {
    let printable = name.iter().all(|b| (b'!'..=b'~').contains(b));
    if printable { Ok(()) } else { Err(Error::fixed(error)) }
}

const BAD_NAME: &str = "ERR Client names cannot contain spaces, newlines or special characters.";

/// Options behind HELLO's version.
#[derive(Default)]
struct Hello<'a> {
    auth: Option<(&'a [u8], &'a [u8])>,
    name: Option<&'a [u8]>,
}

impl<'a> Hello<'a> {
    fn parse(request: &Request<'a>) -> Result<Self, Error> {
        let mut options = Self::default();
        let mut rest = request.from(2);
        while let Some(word) = rest.next() {
            let left = rest.len();
            match word.to_ascii_lowercase().as_slice() {
                b"auth" if left >= 2 => {
                    let user = rest.next().unwrap_or_default();
                    options.auth = Some((user, rest.next().unwrap_or_default()));
                }
                b"setname" if left >= 1 => {
                    let name = rest.next().unwrap_or_default();
                    check_name(name, BAD_NAME)?;
                    options.name = Some(name);
                }
                _ => {
                    let text = [b"ERR Syntax error in HELLO option '", word, b"'"].concat();
                    return Err(Error::text(text));
                }
            }
        }
        Ok(options)
    }
}

fn hello(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let proto = match request.get(1).map(parse_i64) {
        None => None,
        Some(Some(2)) => Some(Proto::Resp2),
        Some(Some(3)) => Some(Proto::Resp3),
        Some(Some(_)) => return Err(Error::NO_PROTO),
        Some(None) => {
            return Err(Error::fixed("ERR Protocol version is not an integer or out of range"));
        }
    };
    let options = Hello::parse(request)?;
    if let Some((user, password)) = options.auth {
        check_password(ctx, user, password)?;
    }
    let session = ctx.session();
    if !session.authenticated {
        return Err(Error::fixed(
            "NOAUTH HELLO must be called with the client already authenticated, otherwise the \
             HELLO AUTH <user> <pass> option can be used to authenticate the client and select \
             the RESP protocol version at the same time",
        ));
    }
    if let Some(name) = options.name {
        session.name = name.to_vec();
    }
    session.proto = proto.unwrap_or(session.proto);
    let (proto, id) = (session.proto, session.id);
    reply.proto = proto;
    reply.map(7);
    reply.bulk(b"server");
    reply.bulk(b"flintlock");
    reply.bulk(b"version");
    reply.bulk(crate::REDIS_VERSION.as_bytes());
    reply.bulk(b"proto");
    reply.int(if proto == Proto::Resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.int(id.cast_signed());
    reply.bulk(b"mode");
    reply.bulk(b"standalone");
    reply.bulk(b"role");
    reply.bulk(b"master");
    reply.bulk(b"modules");
    reply.array(0);
    Ok(())
}

fn select(ctx: &mut Ctx<'_>, request: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    ctx.session().db = database(request.arg(1), ctx.server.keyspace.dbs.len())?;
    reply.ok();
    Ok(())
}

fn quit(ctx: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    ctx.session().closing = Some(Closing::AfterReply);
    reply.ok();
    Ok(())
}

fn reset(ctx: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let open = ctx.server.config.requirepass.is_unset();
    transaction::unwatch_all(ctx);
    let Server { pubsub, clients, .. } = &mut *ctx.server;
    pubsub.forget(ctx.client, clients.session_mut(ctx.client));
    let session = ctx.session();
    session.multi = None;
    session.db = 0;
    session.proto = Proto::Resp2;
    session.name.clear();
    session.no_evict = false;
    session.authenticate(open);
    reply.proto = Proto::Resp2;
    reply.simple("RESET");
    Ok(())
}

fn client_id(ctx: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    reply.int(ctx.session().id.cast_signed());
    Ok(())
}

fn client_setname(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    check_name(request.arg(2), BAD_NAME)?;
    ctx.session().name = request.arg(2).to_vec();
    reply.ok();
    Ok(())
}

fn client_getname(ctx: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    match ctx.session().name.as_slice() {
        b"" => reply.null(),
        name => reply.bulk(name),
    }
    Ok(())
}

fn client_setinfo(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    let (attribute, value) = (request.arg(2), request.arg(3));
    let name = attribute.to_ascii_lowercase();
    if name != b"lib-name" && name != b"lib-ver" {
        return Err(Error::text([b"ERR Unrecognized option '", attribute, b"'"].concat()));
    }
    if name == b"lib-name" {
        check_name(value, "ERR lib-name cannot contain spaces, newlines or special characters.")?;
        ctx.session().lib_name = value.to_vec();
    } else {
        check_name(value, "ERR lib-ver cannot contain spaces, newlines or special characters.")?;
        ctx.session().lib_ver = value.to_vec();
    }
    reply.ok();
    Ok(())
}

fn client_no_evict(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    ctx.session().no_evict = match request.arg(2).to_ascii_lowercase().as_slice() {
        b"on" => true,
        b"off" => false,
        _ => return Err(Error::SYNTAX),
    };
    reply.ok();
    Ok(())
}

fn client_pause(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    let mode = match (request.len(), request.get(3).map(<[u8]>::to_ascii_lowercase).as_deref()) {
        (3, _) | (4, Some(b"all")) => Mode::All,
        (4, Some(b"write")) => Mode::Writes,
        (4, _) => return Err(Error::fixed("ERR CLIENT PAUSE mode must be WRITE or ALL")),
        _ => return Err(Error::subcommand("CLIENT", request.arg(1))),
    };
    let number = parse_i64(request.arg(2));
    let number = number.ok_or(Error::fixed("ERR timeout is not an integer or out of range"))?;
    let ms = u64::try_from(number).map_err(|_| Error::fixed("ERR timeout is negative"))?;
    let server = &mut *ctx.server;
    // As in Redis a time beyond what its clock can say is over already, and so is none.
    let is_time = ms > 0 && server.now_ms.cast_signed().checked_add(number).is_some();
    let until_ms = if is_time { server.mono_ms + ms } else { 0 };
    server.pause.begin(mode, until_ms, server.mono_ms);
    reply.ok();
    Ok(())
}

fn client_unblock(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    let how = match (request.len(), request.get(3).map(<[u8]>::to_ascii_lowercase).as_deref()) {
        (3, _) | (4, Some(b"timeout")) => Unserved::TimedOut,
        (4, Some(b"error")) => Unserved::Refused,
        (4, _) => {
            return Err(Error::fixed("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR"));
        }
        _ => return Err(Error::subcommand("CLIENT", request.arg(1))),
    };
    let id = parse_i64(request.arg(2)).ok_or(Error::NOT_INTEGER)?;
    let has_id = |client: &Client| client.session.id.cast_signed() == id;
    let target = ctx.server.clients.iter().find(|(_, client)| has_id(client));
    let target = target.map(|(key, _)| key);
    reply.int(i64::from(target.is_some_and(|key| ctx.server.unblock(key, how))));
    Ok(())
}

fn client_unpause(ctx: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    ctx.server.pause.end();
    reply.ok();
    Ok(())
}

/// The line of one client in CLIENT LIST.
fn describe(now_ms: u64, client: &Client, out: &mut Vec<u8>) {
    let s = &client.session;
    // The half of the client that asks is out on loan to its own command.
    let io = client.io.as_ref();
    let (qbuf, qbuf_free) = io.map_or((0, 0), |io| io.input_state());
    // One buffer here; there a fixed one, and a list of what is beyond.
    let obl = io.map_or(0, |io| io.out.len().min(OUTPUT_FREE));
    let omem = io.filter(|io| io.out.len() > obl).map_or(0, |io| io.out.memory_bytes() - obl);
    let oll = u8::from(omem > 0);
    let mut flags = String::new();
    for (set, flag) in [
        (s.subscribes, 'P'),
        (s.multi.is_some(), 'x'),
        (s.cas_broken, 'd'),
        (s.blocked.is_some(), 'b'),
        (s.closing == Some(Closing::AfterReply), 'c'),
        (s.closing == Some(Closing::Now), 'A'),
        (s.no_evict, 'e'),
    ] {
        flags.extend(set.then_some(flag));
    }
    if flags.is_empty() {
        flags.push('N');
    }
    let count = |kind| s.subscriptions.as_ref().map_or(0, |own| own.len(kind));
    let line = format!(
        "id={} addr={} laddr={} fd={} name={} age={} idle={} flags={flags} db={} sub={} psub={} \
         ssub={} multi={} qbuf={qbuf} qbuf-free={qbuf_free} argv-mem=0 multi-mem={} rbs=0 rbp=0 \
         obl={obl} oll={oll} omem={omem} tot-mem={} events={} cmd={} user=default redir=-1 resp={} \
         lib-name={} lib-ver={}\n",
        s.id,
        s.addr,
        s.laddr,
        s.fd,
        String::from_utf8_lossy(&s.name),
        now_ms.saturating_sub(s.created_ms) / 1000,
        now_ms.saturating_sub(s.last_ms) / 1000,
        s.db,
        count(Kind::Channel),
        count(Kind::Pattern),
        count(Kind::Shard),
        s.multi.as_ref().map_or(-1, |m| m.queue.len() as i64),
        s.multi.as_ref().map_or(0, |m| m.bytes),
        s.memory_bytes() + io.map_or(0, |io| io.memory_bytes()),
        if client.write_blocked { "rw" } else { "r" },
        s.last_command.map_or("NULL", |c| c.name),
        if s.proto == Proto::Resp3 { 3 } else { 2 },
        String::from_utf8_lossy(&s.lib_name),
        String::from_utf8_lossy(&s.lib_ver),
    );
    out.extend_from_slice(line.as_bytes());
}

/// Which clients CLIENT LIST shows or CLIENT KILL ends.
#[derive(Default)]
struct Filter<'a> {
    ids: Vec<u64>,
    addr: Option<&'a [u8]>,
    laddr: Option<&'a [u8]>,
    user: Option<&'a [u8]>,
    /// Whether it has subscriptions.
    subscribes: Option<bool>,
    /// A kind of client that none is.
    nobody: bool,
}

impl Filter<'_> {
    fn admits(&self, session: &Session) -> bool {
        !self.nobody
            && self.subscribes.is_none_or(|wanted| wanted == session.subscribes)
            && (self.ids.is_empty() || self.ids.contains(&session.id))
            && self.addr.is_none_or(|a| a == session.addr.as_bytes())
            && self.laddr.is_none_or(|a| a == session.laddr.as_bytes())
            && self.user.is_none_or(|u| u == b"default")
    }

    fn set_type(&mut self, name: &[u8]) -> Result<(), Error> {
        match name.to_ascii_lowercase().as_slice() {
            b"normal" => self.subscribes = Some(false),
            b"pubsub" => self.subscribes = Some(true),
            b"replica" | b"slave" | b"master" => self.nobody = true,
            _ => return Err(Error::text([b"ERR Unknown client type '", name, b"'"].concat())),
        }
        Ok(())
    }
}

fn client_list(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    let mut filter = Filter::default();
    match request.get(2).map(<[u8]>::to_ascii_lowercase).as_deref() {
        None => {}
        Some(b"type") if request.len() == 4 => filter.set_type(request.arg(3))?,
        Some(b"id") if request.len() > 3 => {
            for id in request.from(3) {
                let id = parse_i64(id).ok_or(Error::fixed("ERR Invalid client ID"))?;
                // No client has a negative number.
                filter.ids.push(u64::try_from(id).unwrap_or(u64::MAX));
            }
        }
        Some(_) => return Err(Error::SYNTAX),
    }
    let mut text = Vec::new();
    let now_ms = ctx.now_ms();
    for (_, client) in ctx.server.clients.iter().filter(|(_, c)| filter.admits(&c.session)) {
        describe(now_ms, client, &mut text);
    }
    reply.verbatim(&text);
    Ok(())
}

fn client_info(ctx: &mut Ctx<'_>, _: &Request<'_>, reply: &mut Reply<'_>) -> Result<(), Error> {
    let mut text = Vec::new();
    if let Some(client) = ctx.server.clients.get(ctx.client) {
        describe(ctx.now_ms(), client, &mut text);
    }
    reply.verbatim(&text);
    Ok(())
}

fn client_kill(
    ctx: &mut Ctx<'_>,
    request: &Request<'_>,
    reply: &mut Reply<'_>,
) -> Result<(), Error> {
    let by_address = request.len() == 3;
    let (mut filter, mut skip_me) = (Filter::default(), !by_address);
    if by_address {
        filter.addr = Some(request.arg(2));
    } else if request.len() % 2 == 1 {
        return Err(Error::SYNTAX);
    }
    for i in (2..request.len() - usize::from(by_address)).step_by(2) {
        let value = request.arg(i + 1);
        match request.arg(i).to_ascii_lowercase().as_slice() {
            b"id" => {
                let id = parse_i64(value).and_then(|id| u64::try_from(id).ok());
                let id = id.filter(|id| *id > 0);
                let error = "ERR client-id should be greater than 0";
                filter.ids = vec![id.ok_or(Error::fixed(error))?];
            }
            b"addr" => filter.addr = Some(value),
            b"laddr" => filter.laddr = Some(value),
            b"user" if value == b"default" => filter.user = Some(value),
            b"user" => {
                return Err(Error::text([b"ERR No such user '", value, b"'"].concat()));
            }
            b"type" => filter.set_type(value)?,
            b"skipme" => match value.to_ascii_lowercase().as_slice() {
                b"yes" => skip_me = true,
                b"no" => skip_me = false,
                _ => return Err(Error::SYNTAX),
            },
            _ => return Err(Error::SYNTAX),
        }
    }
    let me = ctx.client;
    let admitted = ctx.server.clients.iter().filter(|(_, c)| filter.admits(&c.session));
    let victims: Vec<_> =
        admitted.map(|(key, _)| key).filter(|key| !(skip_me && *key == me)).collect();
    if by_address && victims.is_empty() {
        return Err(Error::fixed("ERR No such client"));
    }
    for key in &victims {
        // The killer itself still gets its reply.
        let how = if *key == me { Closing::AfterReply } else { Closing::Now };
        ctx.server.close_client(*key, how);
    }
    if by_address {
        reply.ok()
    } else {
        reply.count(victims.len())
    }
    Ok(())
}
