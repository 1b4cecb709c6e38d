//! Tests of the contract's public face.

mod device_names;
