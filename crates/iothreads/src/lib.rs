//! An adaptive thread pool for event loops (see README.md).
