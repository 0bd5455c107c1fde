//! Clients that wait for elements: woken, timed out, unblocked. Main thread.
//!
//! Who is woken when is decided in [`crate::waiters`].

use crate::blocked::Blocked;
use crate::client::ClientKey;
use crate::command::Error;
use crate::resp::encode::Reply;
use crate::waiters::Unserved;

use super::EventLoop;

/// What CLIENT UNBLOCK with ERROR makes of a request.
const UNBLOCKED: Error = Error::fixed("UNBLOCKED client unblocked via CLIENT UNBLOCK");

impl EventLoop {
    /// A command is over: those who wait for what it has put in are served, one request each. What
    /// that puts in serves others, until nobody is left.
    #[inline]
    pub(super) fn serve_waiters(&mut self) {
        if self.server.waiters.has_news() && !self.server.waiters.is_serving {
            self.serve_all_waiters();
        }
    }

    #[cold]
    fn serve_all_waiters(&mut self) {
        self.server.waiters.is_serving = true;
        loop {
            if let Some((key, how)) = self.server.waiters.next_unserved() {
                self.end_wait(key, how);
            } else if let Some(key) = self.server.wake_next() {
                self.run_some(key, 1);
            } else {
                break;
            }
        }
        self.server.waiters.is_serving = false;
    }

    /// Those whose time is over go on.
    pub(super) fn end_late_waits(&mut self) {
        self.server.end_late_waits();
        self.serve_waiters();
    }

    /// Answers the request in front, which found no element.
    fn end_wait(&mut self, key: ClientKey, how: Unserved) {
        let Some(client) = self.server.clients.get_mut(key) else { return };
        let Some(mut io) = client.io.take() else { return };
        if client.session.blocked.take_if(|blocked| matches!(blocked, Blocked::Keys)).is_some() {
            let (session, stats) = (&client.session, &mut self.server.stats);
            let mut reply = Reply::new(&mut io.out, session.proto);
            match how {
                // Whatever the command: BLMOVE too, which elsewhere answers with a null string.
                Unserved::TimedOut => reply.null_array(),
                Unserved::Refused => {
                    reply.error(UNBLOCKED.as_bytes());
                    stats.error(UNBLOCKED.prefix());
                }
            }
            stats.commands += 1;
            if let Some(command) = session.last_command {
                let count = &mut stats.per_command[usize::from(command.id)];
                count.calls += 1;
                count.failed += u64::from(how == Unserved::Refused);
            }
            self.answered(key, &mut io);
        }
        if let Some(client) = self.server.clients.get_mut(key) {
            client.io = Some(io);
        }
        self.run_some(key, 0);
    }
}
