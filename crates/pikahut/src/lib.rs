//! Stacks for tests and for the demo: private Incus daemons and a fake Incus with scripted faults.
