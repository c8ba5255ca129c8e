//! Whether a subclass leaves a method as it is: native code may then do without calling it.

use pyo3::PyTypeInfo;
use pyo3::prelude::*;
use pyo3::types::PyString;

use crate::ffi::method;

/// Whether the class of `object` has the method `name` from the native class `T`.
pub fn has_from<T: PyTypeInfo>(object: &Bound<'_, PyAny>, name: &Bound<'_, PyString>) -> PyResult<bool> {
    let native = object.py().get_type::<T>();
    Ok(object.is_instance(&native)? && method::is_same(&object.get_type().getattr(name)?, &native.getattr(name)?))
}
