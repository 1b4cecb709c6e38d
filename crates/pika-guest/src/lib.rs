//! The binaries inside an instance: the job runner, the lifecycle publisher, what prepares a managed agent, and what is
//! PID 1 before systemd.
//!
//! Owns the guest's half of the contract: the state directory, one run at a time with its supervisor, log and
//! terminal record, the archive of what a run left, and the lifecycle files. Never talks to Incus or to any
//! network, never follows a symlink below the state directory, never runs a thread or an async runtime.
//!
//! ```text
//! start ----spawns, hands over the request----> supervise ----spawns----> exec-job ----execs----> bash
//!   |                                             |  owns log, deadline, cgroup, result, record
//! attach <---log bytes, record------------------- /run/pika-cloud/logs/guest.log, /run/pika-runner/record
//! stop   ----control socket---------------------> supervise
//! ```

pub mod agent;
pub mod arguments;
pub mod attach;
pub mod cgroup;
pub mod clock;
pub mod collect;
pub mod control;
pub mod error_text;
pub mod files;
pub mod follow;
pub mod followers;
pub mod glob;
pub mod init;
pub mod job;
pub mod layout;
pub mod lifecycle_cli;
pub mod mounts;
pub mod network;
pub mod output;
pub mod probe;
pub mod publish;
pub mod relay;
pub mod request;
pub mod run_state;
pub mod runner_cli;
pub mod start;
pub mod state_dir;
pub mod stop;
pub mod supervise;
pub mod wait;
pub mod workspace;
