//! Tests of images on a real machine: packages, bootstraps, and an Incus daemon.

mod boot;
mod build;
mod conflict;
mod import;
mod nix;
mod samples;
mod scripts;
