//! The binaries inside an instance: the job runner and the lifecycle publisher.
