//! Listening sockets.
//!
//! Main thread. Binding follows redis.conf: an address that begins with `-` may be missing on this
//! machine, any other must bind.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use mio::net::{TcpListener, TcpStream};
use socket2::{Domain, SockRef, Socket, TcpKeepalive, Type};

use crate::config::BindAddress;

/// Binds every address to `port`; with port 0 the first address chooses one for all. Blocks while
/// host names are looked up.
///
/// # Errors
/// The first address that could not be bound, as written, and why.
pub(crate) fn bind_all(
    addresses: &[BindAddress],
    port: u16,
    backlog: i32,
) -> Result<Vec<TcpListener>, (String, io::Error)> {
    let mut listeners = Vec::new();
    let mut port = port;
    for address in addresses {
        let place = format!("{}:{port}", address.host);
        let failed = |error| (place.clone(), error);
        for socket in address.resolve(port).map_err(failed)? {
            match bind_one(socket, backlog) {
                Ok(listener) => {
                    port = listener.local_addr().map_err(failed)?.port();
                    listeners.push(listener);
                }
                Err(error) if address.optional && is_missing(&error) => {}
                Err(error) => return Err(failed(error)),
            }
        }
    }
    Ok(listeners)
}

/// Whether an address cannot be bound because this machine does not have it.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

fn bind_one(address: SocketAddr, backlog: i32) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Longest time before a keep-alive probe that Linux takes; a longer one would be refused.
const KEEPALIVE_MAX_S: u64 = 32767;

/// Settings of an accepted connection: no delay, keep-alive every `keepalive_s` seconds (0: off).
///
/// # Errors
/// The peer may be gone already.
pub(crate) fn set_up(stream: &TcpStream, keepalive_s: u64) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    if keepalive_s > 0 {
        let keepalive_s = keepalive_s.min(KEEPALIVE_MAX_S);
        let interval = Duration::from_secs((keepalive_s / 3).max(1));
        let settings = TcpKeepalive::new()
            .with_time(Duration::from_secs(keepalive_s))
            .with_interval(interval)
            .with_retries(3);
        socket.set_tcp_keepalive(&settings)?;
    }
    Ok(())
}
