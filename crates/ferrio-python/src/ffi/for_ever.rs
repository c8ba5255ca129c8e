//! Definitions of methods and types, to which CPython keeps pointers as long as the process runs.

use std::sync::{Mutex, PoisonError};

/// Where they are: what is listed is lost to nobody, a leak checker included.
static KEPT: Mutex<Vec<usize>> = Mutex::new(Vec::new());

/// Keeps a value until the process ends.
pub fn for_ever<T: 'static>(value: T) -> &'static mut T {
    let kept = Box::leak(Box::new(value));
    KEPT.lock().unwrap_or_else(PoisonError::into_inner).push(&raw const *kept as usize);
    kept
}
