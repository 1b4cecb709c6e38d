//! On the fake daemon.

crate::conformance::suite!(crate::support::fake);
