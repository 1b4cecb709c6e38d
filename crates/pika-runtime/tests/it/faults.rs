//! A crash, or a request or answer that is lost, at every point of ensure and destroy, on the fake Incus: whatever
//! is left, one further pass ends in the wanted state or in nothing, and never in an orphan.

mod at_every_request;
mod at_every_step;
mod situation;
