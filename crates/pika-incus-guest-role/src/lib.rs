//! The registry of guest roles: which image an instance of a role boots from.
