//! asyncio's private attributes of streams, which its own rarely called methods, its tests and some libraries use.

/// A getter and a setter for each of some references in a class's guarded state: `references!(Class { _name / set_name: field })`.
macro_rules! references {
    ($class:ident { $($name:ident / $setter:ident: $field:ident,)* }) => {$(
        #[pymethods]
        impl $class {
            #[getter($name)]
            pub(super) fn $name(&self, py: Python<'_>) -> Option<Py<PyAny>> {
                self.state.with(py, |state| state.$field.as_ref().map(|object| object.clone_ref(py)))
            }

            #[setter($name)]
            pub(super) fn $setter(&self, py: Python<'_>, object: Option<Py<PyAny>>) {
                self.state.put(py, |state| &mut state.$field, object);
            }
        }
    )*};
}
pub(super) use references;

/// The same for flags.
macro_rules! flags {
    ($class:ident { $($name:ident / $setter:ident: $field:ident,)* }) => {$(
        #[pymethods]
        impl $class {
            #[getter($name)]
            fn $name(&self, py: Python<'_>) -> bool {
                self.state.with(py, |state| state.$field)
            }

            #[setter($name)]
            fn $setter(&self, py: Python<'_>, flag: bool) {
                self.state.with(py, |state| state.$field = flag);
            }
        }
    )*};
}
pub(super) use flags;
