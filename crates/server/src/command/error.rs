//! Error replies of commands. Texts that a single family needs stand in its file.
//!
//! A command that returns an error has changed nothing. Texts are those of redis-server 7.0.15.

use std::borrow::Cow;

use flintlock_diskcache::cache::job::Failure;
use flintlock_diskcache::storage::ErrorKind;

/// An error reply, without its leading `-`.
#[derive(Clone, Eq, PartialEq, Debug)]
pub(crate) struct Error(Cow<'static, [u8]>);

macro_rules! texts {
    ($($(#[$doc:meta])* $name:ident = $text:literal;)*) => {
        $($(#[$doc])* pub(crate) const $name: Self = Self(Cow::Borrowed($text.as_bytes()));)*
    };
}

impl Error {
    texts! {
        /// An option that is unknown, doubled or in the wrong place.
        SYNTAX = "ERR syntax error";
        /// The key holds another type.
        WRONG_TYPE = "WRONGTYPE Operation against a key holding the wrong kind of value";
        /// Not a 64-bit integer.
        NOT_INTEGER = "ERR value is not an integer or out of range";
        /// Not a 32-bit integer.
        NOT_INT = "ERR value is out of range, value must between -2147483648 and 2147483647";
        /// A result that does not fit 64 bits.
        OVERFLOW = "ERR increment or decrement would overflow";
        /// DECRBY by the one number that has no negative.
        DECREMENT_OVERFLOW = "ERR decrement would overflow";
        /// A negative count or one that is no number.
        NOT_POSITIVE = "ERR value is out of range, must be positive";
        /// A count of which no reply could be made.
        OUT_OF_RANGE = "ERR value is out of range";
        /// Not a floating-point number.
        NOT_FLOAT = "ERR value is not a valid float";
        /// A score of infinity minus infinity.
        NAN_SCORE = "ERR resulting score is not a number (NaN)";
        /// A floating-point sum that is no finite number.
        NAN_SUM = "ERR increment would produce NaN or Infinity";
        /// A command that needs the key.
        NO_SUCH_KEY = "ERR no such key";
        /// SELECT of a database that is not there.
        DB_OUT_OF_RANGE = "ERR DB index is out of range";
        /// A source that is its own destination.
        SAME_OBJECT = "ERR source and destination objects are the same";
        /// A cursor that is no number.
        INVALID_CURSOR = "ERR invalid cursor";
        /// A string that would pass `proto-max-bulk-len`.
        STRING_TOO_LONG = "ERR string exceeds maximum allowed size (proto-max-bulk-len)";
        /// A value that would no longer fit into a record of the store.
        VALUE_TOO_LARGE = "ERR value exceeds maximum allowed size (3 GiB with a store on disk)";
        /// A write when memory is full.
        OOM = "OOM command not allowed when used memory > 'maxmemory'.";
        /// A request that waited for the disk when the server ended.
        STORE_CLOSING = "IOERR the server is shutting down";
        /// Any command before AUTH.
        NO_AUTH = "NOAUTH Authentication required.";
        /// AUTH with the wrong user or password.
        WRONG_PASS = "WRONGPASS invalid username-password pair or user is disabled.";
        /// HELLO with a version that does not exist.
        NO_PROTO = "NOPROTO unsupported protocol version";
        /// MULTI inside MULTI.
        NESTED_MULTI = "ERR MULTI calls can not be nested";
        /// WATCH inside MULTI.
        WATCH_IN_MULTI = "ERR WATCH inside MULTI is not allowed";
        /// EXEC outside MULTI.
        EXEC_WITHOUT_MULTI = "ERR EXEC without MULTI";
        /// DISCARD outside MULTI.
        DISCARD_WITHOUT_MULTI = "ERR DISCARD without MULTI";
        /// A command that needs keys which are on disk only and which it could not declare. Nobody
        /// sees it but in a transaction that made the need itself.
        LATE_KEYS = "TRYAGAIN the command turned out to need keys that are on disk only";
        /// A command that waits for an element. Nobody sees it.
        WAITS = "TRYAGAIN the command waits";
        /// EXEC after a command that could not be queued.
        EXEC_ABORT = "EXECABORT Transaction discarded because of previous errors.";
    }

    /// An error with a text of its own; a line end in it will be sent as a space.
    pub(crate) fn text(text: impl Into<Vec<u8>>) -> Self {
        Self(Cow::Owned(text.into()))
    }

    /// A fixed error that only one command gives.
    pub(crate) const fn fixed(text: &'static str) -> Self {
        Self(Cow::Borrowed(text.as_bytes()))
    }

    /// EXEC that was itself refused, for the reason of `cause`.
    pub(crate) fn exec_abort(cause: &Self) -> Self {
        let reason = cause.0.strip_prefix(b"ERR ").unwrap_or(&cause.0);
        let text = b"EXECABORT Transaction discarded because of: ";
        Self::text([text.as_slice(), reason].concat())
    }

    /// A write while the store cannot take it; the text says what the operator must look at.
    pub(crate) fn refused(failure: &Failure) -> Self {
        if failure.kind == ErrorKind::NoSpace {
            return Self::fixed("DISKFULL no space left for the store: reads and deletes go on");
        }
        Self::text(format!("MISCONF Errors writing to the store, writes are refused: {failure}"))
    }

    /// A change that was made in memory while the journal could not be written.
    pub(crate) fn not_durable(failure: &Failure) -> Self {
        Self::text(format!("MISCONF The change was made in memory and is not durable: {failure}"))
    }

    /// A subcommand that does not take these arguments.
    pub(crate) fn subcommand(name: &str, sub: &[u8]) -> Self {
        let text = b"ERR unknown subcommand or wrong number of arguments for '";
        Self::text([text, sub, b"'. Try ", name.as_bytes(), b" HELP."].concat())
    }

    /// Too few or too many arguments.
    pub(crate) fn arity(name: &str) -> Self {
        Self::text(format!("ERR wrong number of arguments for '{name}' command"))
    }

    /// A command that a subscriber may not send in RESP2.
    pub(crate) fn only_subscribes(name: &str) -> Self {
        Self::text(format!(
            "ERR Can't execute '{name}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / \
             RESET are allowed in this context"
        ))
    }

    /// An expire time that is negative or too large.
    pub(crate) fn expire_time(name: &str) -> Self {
        Self::text(format!("ERR invalid expire time in '{name}' command"))
    }

    /// A name that no command has. Shows at most 128 bytes of the name and of the arguments.
    pub(crate) fn unknown_command<'a>(name: &[u8], args: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut text = b"ERR unknown command '".to_vec();
        text.extend_from_slice(c_string(name, 128));
        text.extend_from_slice(b"', with args beginning with: ");
        let mut shown = 0;
        for arg in args {
            if shown >= 128 {
                break;
            }
            let part = c_string(arg, 128 - shown);
            text.push(b'\'');
            text.extend_from_slice(part);
            text.extend_from_slice(b"' ");
            shown += part.len() + 3;
        }
        Self::text(text)
    }

    /// A name that no subcommand of `command` has.
    pub(crate) fn unknown_subcommand(command: &str, name: &[u8]) -> Self {
        let mut text = b"ERR unknown subcommand '".to_vec();
        text.extend_from_slice(c_string(name, 128));
        text.extend_from_slice(b"'. Try ");
        text.extend_from_slice(command.to_ascii_uppercase().as_bytes());
        text.extend_from_slice(b" HELP.");
        Self::text(text)
    }

    /// The text.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The first word, which clients tell errors apart by.
    pub(crate) fn prefix(&self) -> &[u8] {
        self.0.split(|b| *b == b' ').next().unwrap_or_default()
    }
}

/// What a `%.*s` of C shows: up to `max` bytes, and nothing from a NUL byte on.
fn c_string(bytes: &[u8], max: usize) -> &[u8] {
    let shown = &bytes[..bytes.len().min(max)];
    let end = memchr::memchr(0, shown).unwrap_or(shown.len());
    &shown[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_commands_show_a_bounded_part_of_what_was_sent() {
        let long = [b'a'; 1000];
        let error = Error::unknown_command(b"foo", [&b"x"[..], &long, b"y"].into_iter());
        let text = String::from_utf8(error.as_bytes().to_vec()).unwrap();
        assert!(text.starts_with("ERR unknown command 'foo', with args beginning with: 'x' 'aaa"));
        assert!(text.len() < 220, "{}", text.len());
        assert_eq!(error.prefix(), b"ERR");
    }

    #[test]
    fn a_prefix_is_the_first_word() {
        assert_eq!(Error::WRONG_TYPE.prefix(), b"WRONGTYPE");
        assert_eq!(Error::text("LONE").prefix(), b"LONE");
    }
}
