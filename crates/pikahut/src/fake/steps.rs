//! Names of the steps at which the model changes, and at which a crash can be injected.

/// Every step by name, in the order in which the operations make them.
pub const STEPS: [&str; 16] = [
    "create.record",
    "create.root",
    "start.boot",
    "stop.halt",
    "stop.record",
    "freeze",
    "unfreeze",
    "update",
    "delete.root",
    "delete.record",
    "volume.copy",
    "volume.snapshot.record",
    "volume.snapshot",
    "volume.restore",
    "image.import",
    "image.delete",
];
