//! Tests of images on a real machine: packages, bootstraps, and a daemon of their own.

mod build;
