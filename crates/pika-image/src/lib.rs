//! Builds, imports and checks guest images.
//!
//! Owns images and aliases in Incus and the files they are made from. Reads no environment variable and prints
//! nothing: callers pass a [`BuildRequest`] and a [`Progress`].
//!
//! An image's life: [`prepare`] finds every input and its digest, [`PreparedBuild::build`] makes the files or
//! finds them in the cache, [`import()`] uploads them and switches the alias. [`build_import`] does all of it and does
//! as little as needed; [`list`] and [`check`] tell what is there.

mod apt;
mod archive;
mod build;
mod cache;
mod catalog;
mod command;
mod debian;
mod digest;
mod error;
mod guest_binaries;
mod import;
mod npm;
mod progress;
mod properties;
mod request;

pub use apt::{AptSource, LockedPackage, LookupError, PackageLock, SignedBy, SourcesError};
pub use build::{BuiltImage, PreparedBuild, build, prepare};
pub use catalog::{
    CatalogError, CheckReport, ImageRecord, ImageState, StaleReason, check, list, remedy,
};
pub use command::CommandError;
pub use error::BuildError;
pub use guest_binaries::build as guest_programs;
pub use import::{
    AliasChange, BuildImportError, ImportError, ImportRequest, Imported, build_import, import,
    rollback,
};
pub use progress::{Progress, ProgressEvent, Silent, Step};
pub use request::{BuildRequest, Builder, GuestBinaries, ImageKind, PackageLookup, UnknownName};
