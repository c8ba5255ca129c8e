//! The extension module.
use pyo3::prelude::*;
/// Native half of the `ferrio` package.
#[pymodule]
mod _ferrio {}
