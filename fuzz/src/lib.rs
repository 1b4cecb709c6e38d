//! What the fuzz targets check; see [`targets`].

pub mod targets;
