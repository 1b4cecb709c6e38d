//! Tests of the client against a real Incus daemon.
