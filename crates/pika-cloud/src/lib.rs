//! The runtime contract: spec, validation, plan, lifecycle files and policies, without I/O.
