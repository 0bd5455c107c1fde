//! Small pure helpers that several parts of the server share. Any thread.
//!
//! A helper lives here only when two areas need the same byte-for-byte behaviour; each file says
//! what it must agree with. They are public so that fuzz targets can reach them.

pub mod glob;
#[cfg(test)]
pub(crate) mod oracle;
#[cfg(test)]
pub(crate) mod page;
pub(crate) mod prefetch;
pub mod quote;

/// What the operating system says about `error`, without the number that Rust appends: the form
/// that operators know from `strerror`.
pub(crate) fn os_text(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.rsplit_once(" (os error ") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}
