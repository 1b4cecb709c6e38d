//! On the fake daemon.
