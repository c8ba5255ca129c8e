//! `cfg(Py_3_12)`, `cfg(Py_GIL_DISABLED)` and the like, as PyO3 itself sees them.

fn main() {
    pyo3_build_config::use_pyo3_cfgs();
}
