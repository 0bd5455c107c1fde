//! The cache as a whole, against a model: on one thread, with everything driven by the test.

mod batches;
mod scenarios;
mod sim;
mod simulation;
mod troubles;
