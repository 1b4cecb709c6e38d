//! Resolves and executes runtime plans on Incus: ensure, run, inspect, collect, destroy, janitor.
