//! Water marks: above the high one a transport asks its protocol to pause writing, at the low one to go on.

use pyo3::exceptions::{PyOverflowError, PyValueError};
use pyo3::prelude::*;

/// asyncio's default high-water mark, in bytes.
pub const HIGH_WATER: usize = 64 * 1024;

/// A water mark as a caller gives it: any whole number, however large.
pub struct Mark(i64);

impl<'a, 'py> FromPyObject<'a, 'py> for Mark {
    type Error = PyErr;

    fn extract(number: Borrowed<'a, 'py, PyAny>) -> PyResult<Self> {
        match number.extract() {
            Err(error) if PyErr::is_instance_of::<PyOverflowError>(&error, number.py()) => {
                Ok(Mark(if number.gt(0)? { i64::MAX } else { i64::MIN }))
            }
            number => number.map(Mark),
        }
    }
}

/// The water marks that the two optional ones stand for.
///
/// # Errors
/// ValueError unless high >= low >= 0.
pub fn water_marks(high: Option<Mark>, low: Option<Mark>) -> PyResult<(usize, usize)> {
    water_marks_by_default(high, low, HIGH_WATER)
}

/// The same with another default for the high one.
pub fn water_marks_by_default(high: Option<Mark>, low: Option<Mark>, default: usize) -> PyResult<(usize, usize)> {
    let (high, low) = (high.map(|mark| mark.0), low.map(|mark| mark.0));
    let high = high.unwrap_or_else(|| low.map_or(default as i64, |low| low.saturating_mul(4)));
    let low = low.unwrap_or(high / 4);
    if !(high >= low && low >= 0) {
        return Err(PyValueError::new_err(format!("high ({high}) must be >= low ({low}) must be >= 0")));
    }
    Ok((high as usize, low as usize))
}
