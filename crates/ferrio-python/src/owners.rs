//! Which transport a descriptor belongs to: so that no second reader steals its data, and for those who look at the loop.
//!
//! Transports are known here without being kept alive, and take themselves off when they let their descriptor go or die, in
//! whatever thread. So a pointer does; a weak reference would be 80 bytes more for every idle connection.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use ferrio::poll::RawFd;
use pyo3::prelude::*;

/// A descriptor and its transport.
pub type Owned<'py> = (RawFd, Bound<'py, PyAny>);

/// The transports of a loop, by their descriptors.
#[derive(Default)]
pub struct Owners(Mutex<HashMap<RawFd, Owner>>);

impl Owners {
    // What is done while it is locked runs no Python code.
    fn lock(&self) -> MutexGuard<'_, HashMap<RawFd, Owner>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// `transport` owns `fd`. It must [`remove`](Self::remove) that before it is gone.
    pub fn insert(&self, fd: RawFd, transport: &Bound<'_, PyAny>) -> PyResult<()> {
        let owner = Owner::new(transport)?;
        self.lock().insert(fd, owner);
        Ok(())
    }

    pub fn remove(&self, fd: RawFd) {
        self.lock().remove(&fd);
    }

    /// The transport that owns `fd`, if one does.
    pub fn get<'py>(&self, py: Python<'py>, fd: RawFd) -> Option<Bound<'py, PyAny>> {
        self.lock().get(&fd)?.living(py)
    }

    pub fn all<'py>(&self, py: Python<'py>) -> Vec<Owned<'py>> {
        self.lock().iter().filter_map(|(fd, owner)| Some((*fd, owner.living(py)?))).collect()
    }

    /// Those that own the descriptors with `most` numbers from `start` on, in order; and where to go on, `None` after the
    /// last.
    pub fn some<'py>(&self, py: Python<'py>, start: usize, most: usize) -> (Option<usize>, Vec<Owned<'py>>) {
        let (known, end) = (self.lock(), start.saturating_add(most));
        let owned = |fd: RawFd, owner: &Owner| Some((fd, owner.living(py)?));
        let mut some: Vec<_> = if most < known.len() {
            (start..end).filter_map(|fd| owned(fd as RawFd, known.get(&(fd as RawFd))?)).collect()
        } else {
            let within = known.iter().filter(|(fd, _)| (start..end).contains(&(**fd as usize)));
            within.filter_map(|(fd, owner)| owned(*fd, owner)).collect()
        };
        some.sort_unstable_by_key(|(fd, _)| *fd);
        (known.keys().any(|fd| *fd as usize >= end).then_some(end), some)
    }
}

#[cfg(not(Py_GIL_DISABLED))]
use with_interpreter_lock::Owner;
#[cfg(Py_GIL_DISABLED)]
use without_interpreter_lock::Owner;

#[cfg(not(Py_GIL_DISABLED))]
mod with_interpreter_lock {
    use std::ptr::NonNull;

    use pyo3::ffi;
    use pyo3::prelude::*;

    /// A transport that may be dying, but is not gone.
    pub struct Owner(NonNull<ffi::PyObject>);

    // SAFETY: the pointer is followed only by those who hold the interpreter lock.
    unsafe impl Send for Owner {}

    impl Owner {
        // As fallible as the other one.
        #[expect(clippy::unnecessary_wraps)]
        pub fn new(transport: &Bound<'_, PyAny>) -> PyResult<Self> {
            // SAFETY: an object's pointer is not null.
            Ok(Owner(unsafe { NonNull::new_unchecked(transport.as_ptr()) }))
        }

        pub fn living<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
            let object = self.0.as_ptr();
            // SAFETY: the object takes itself off before its memory is given back, and nobody can do so meanwhile, as
            // the interpreter lock is held. One without references is being taken apart, and must not be revived.
            unsafe { (ffi::Py_REFCNT(object) > 0).then(|| Bound::from_borrowed_ptr(py, object)) }
        }
    }
}

#[cfg(Py_GIL_DISABLED)]
mod without_interpreter_lock {
    use pyo3::prelude::*;
    use pyo3::types::{PyWeakrefMethods, PyWeakrefReference};

    /// A transport that may be dying in another thread at this moment, which only a weak reference can tell.
    pub struct Owner(Py<PyWeakrefReference>);

    impl Owner {
        pub fn new(transport: &Bound<'_, PyAny>) -> PyResult<Self> {
            Ok(Owner(PyWeakrefReference::new(transport)?.unbind()))
        }

        pub fn living<'py>(&self, py: Python<'py>) -> Option<Bound<'py, PyAny>> {
            self.0.bind(py).upgrade()
        }
    }
}
