//! On a real daemon.

crate::conformance::suite!(crate::support::real);
