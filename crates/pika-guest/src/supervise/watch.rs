//! Owns the time from the command's start to its end: one poll loop over its output, its process, the runner's sockets
//! and the clock.
//!
//! ```text
//! Running --exit--> Draining --pipe closed or limit--> over
//! Running --deadline, stop, log error--> Ending (TERM) --grace--> Killed --exit--> Draining
//!                                        Ending --everything gone--> over
//! ```

use std::os::fd::OwnedFd;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};

use super::ending::Cause;
use super::log::{LogPump, Pumped};
use crate::cgroup::JobCgroup;
use crate::control::Control;
use crate::followers::Followers;
use crate::wait::poll_until;

/// How long the command has between TERM and KILL at its deadline.
pub(super) const DEADLINE_GRACE: Duration = Duration::from_secs(5);
/// How long output may still come from processes that outlive the command, before they are ended.
const DRAIN_LIMIT: Duration = Duration::from_millis(500);
/// How long a killed process has to be gone.
const KILL_LIMIT: Duration = Duration::from_secs(5);
/// How often the cgroup is looked at while it ends.
const ENDING_PAUSE: Duration = Duration::from_millis(20);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Running { deadline: Instant },
    Ending { kill_at: Instant },
    Killed { until: Instant },
    Draining { until: Instant },
}

/// What the watch saw.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) status: Option<ExitStatus>,
    pub(super) cause: Option<Cause>,
    pub(super) log_error: Option<String>,
    pub(super) left_behind: usize,
}

/// A command under watch.
pub(super) struct Watch<'a> {
    child: Child,
    pidfd: OwnedFd,
    cgroup: &'a JobCgroup,
    control: &'a Control,
    followers: &'a Followers,
    pump: &'a mut LogPump,
    phase: Phase,
    seen: Seen,
}

impl<'a> Watch<'a> {
    pub(super) fn new(
        child: Child,
        cgroup: &'a JobCgroup,
        (control, followers): (&'a Control, &'a Followers),
        pump: &'a mut LogPump,
        deadline: Instant,
    ) -> std::io::Result<Watch<'a>> {
        let pidfd = pidfd_open(pid_of(&child), PidfdFlags::empty())?;
        let seen = Seen {
            status: None,
            cause: None,
            log_error: None,
            left_behind: 0,
        };
        Ok(Watch {
            child,
            pidfd,
            cgroup,
            control,
            followers,
            pump,
            phase: Phase::Running { deadline },
            seen,
        })
    }

    /// Watches until the command and all that it started are gone, or can't be ended.
    pub(super) fn run(mut self) -> Seen {
        while !self.step(Instant::now()) {
            self.wait();
        }
        self.seen.left_behind = self.cgroup.processes().len();
        self.kill();
        if self.seen.status.is_none() {
            self.seen.status = self.child.try_wait().ok().flatten();
        }
        // What was written before the kill is in the pipe by now; nobody is left to write more.
        let until = Instant::now() + DRAIN_LIMIT;
        while Instant::now() < until && self.pump_once() == Pumped::More {}
        self.seen
    }

    /// Waits for one of the sources, or for the next point in time, and takes in what came.
    fn wait(&mut self) {
        let exited = self.seen.status.is_some();
        let mut fds = vec![
            PollFd::new(self.control.socket(), PollFlags::IN),
            PollFd::new(self.followers.socket(), PollFlags::IN),
        ];
        if !exited {
            fds.push(PollFd::new(&self.pidfd, PollFlags::IN));
        }
        if let Some(pipe) = self.pump.pipe() {
            fds.push(PollFd::from_borrowed_fd(pipe, PollFlags::IN));
        }
        let (Phase::Running { deadline: at }
        | Phase::Ending { kill_at: at }
        | Phase::Killed { until: at }
        | Phase::Draining { until: at }) = self.phase;
        let ending = exited && matches!(self.phase, Phase::Ending { .. });
        let at = if ending {
            at.min(Instant::now() + ENDING_PAUSE)
        } else {
            at
        };
        // Whatever poll says, each source is asked without blocking.
        let _readiness = poll_until(&mut fds, Some(at));
        let before = self.pump.bytes();
        let _pumped = self.pump_once();
        if self.pump.bytes() > before {
            self.followers.tell();
        }
        self.followers.accept();
        if !exited {
            self.seen.status = self.child.try_wait().ok().flatten();
        }
        if let Some(grace) = self.control.answer() {
            self.end(Cause::Stop, grace);
        }
    }

    fn pump_once(&mut self) -> Pumped {
        match self.pump.pump() {
            Ok(pumped) => pumped,
            Err(error) => {
                self.pump.close();
                self.seen.log_error = Some(error.to_string());
                self.end(Cause::Log, Duration::ZERO);
                Pumped::Closed
            }
        }
    }

    /// Asks everything to end, unless that has been asked already; a shorter grace counts.
    fn end(&mut self, cause: Cause, grace: Duration) {
        let kill_at = Instant::now() + grace;
        match self.phase {
            Phase::Running { .. } | Phase::Draining { .. } => {
                if self.seen.status.is_none() {
                    self.seen.cause = Some(cause);
                }
                self.signal(Signal::TERM);
                self.phase = Phase::Ending { kill_at };
            }
            Phase::Ending { kill_at: before } => {
                self.phase = Phase::Ending {
                    kill_at: kill_at.min(before),
                }
            }
            Phase::Killed { .. } => {}
        }
    }

    /// Goes on to the next phase if it is time. Whether the watch is over.
    fn step(&mut self, now: Instant) -> bool {
        let exited = self.seen.status.is_some();
        match self.phase {
            Phase::Running { .. } if exited => {
                self.phase = Phase::Draining {
                    until: now + DRAIN_LIMIT,
                }
            }
            Phase::Running { deadline } if now >= deadline => {
                self.end(Cause::Deadline, DEADLINE_GRACE)
            }
            Phase::Running { .. } => {}
            Phase::Ending { .. } if exited && self.cgroup.processes().is_empty() => return true,
            Phase::Ending { kill_at } if now >= kill_at => {
                self.kill();
                self.phase = Phase::Killed {
                    until: Instant::now() + KILL_LIMIT,
                };
            }
            Phase::Ending { .. } => {}
            Phase::Killed { .. } if exited => {
                self.phase = Phase::Draining {
                    until: now + DRAIN_LIMIT,
                }
            }
            Phase::Killed { until } => return now >= until,
            Phase::Draining { until } => return now >= until || self.pump.pipe().is_none(),
        }
        exited && matches!(self.phase, Phase::Draining { .. }) && self.pump.pipe().is_none()
    }

    fn signal(&self, signal: Signal) {
        if self.seen.status.is_none() {
            // One that is gone by now is what is wanted.
            let _gone = kill_process_group(pid_of(&self.child), signal);
        }
        self.cgroup.signal(signal);
    }

    fn kill(&self) {
        self.signal(Signal::KILL);
        let _empty = self.cgroup.kill();
    }
}

fn pid_of(child: &Child) -> Pid {
    let raw = i32::try_from(child.id()).expect("the kernel's process ids are below 2^22");
    Pid::from_raw(raw).expect("a child's process id is not 0")
}
