//! Cache-line-aware rings (see README.md).
