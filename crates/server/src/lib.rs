//! Flintlock, a Redis-protocol server.
