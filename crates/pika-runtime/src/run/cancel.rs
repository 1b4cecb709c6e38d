//! Owns the end of a run by the host: `cancel`. It asks the guest's runner, which ends everything that the job
//! started; what the run then ended with comes by the one way to a verdict.

use std::time::Duration;

use pika_incus::{CaptureLimits, ExecError, ExecRequest};

use crate::runner;
use crate::runtimes::{Runtime, Runtimes};

/// How much longer than its grace a cancel may take.
const MARGIN: Duration = Duration::from_secs(15);
const OUTPUT: CaptureLimits = CaptureLimits {
    stdout_max: 4096,
    stderr_max: 4096,
};

/// A run that could not be asked to end. Destroying the runtime ends it for certain.
#[derive(Debug, thiserror::Error)]
pub enum CancelError {
    /// The runner could not be executed.
    #[error(
        "the runner of instance {instance_name} can't be asked to end the run; destroy the runtime to end it"
    )]
    Exec {
        /// The instance.
        instance_name: String,
        /// What happened.
        #[source]
        source: ExecError,
    },
    /// The runner refused.
    #[error(
        "the runner of instance {instance_name} did not end the run (status {code}: {said}); destroy the runtime to end it"
    )]
    Refused {
        /// The instance.
        instance_name: String,
        /// Its exit status.
        code: i32,
        /// What it said.
        said: String,
    },
}

impl Runtimes {
    /// Asks the guest to end a run: TERM, `grace`, then KILL of everything. Whoever follows the run gets its record.
    ///
    /// # Errors
    /// When the guest can't be asked.
    pub async fn cancel(
        &self,
        runtime: &Runtime,
        nonce: &str,
        grace: Duration,
    ) -> Result<(), CancelError> {
        let secs = grace.as_secs().to_string();
        let mut request = ExecRequest::new(runner::command(&[
            "stop",
            "--nonce",
            nonce,
            "--grace-secs",
            &secs,
        ]));
        request.cwd = Some("/".to_owned());
        let instance_name = runtime.instance_name().to_owned();
        let client = self.client(runtime.project());
        match client
            .exec_capture(&instance_name, &request, OUTPUT, grace + MARGIN)
            .await
        {
            Ok(output) if output.exit_code == 0 => Ok(()),
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr);
                let said = said.chars().filter(|c| !c.is_control()).take(300).collect();
                Err(CancelError::Refused {
                    instance_name,
                    code: output.exit_code,
                    said,
                })
            }
            Err(source) => Err(CancelError::Exec {
                instance_name,
                source,
            }),
        }
    }
}
