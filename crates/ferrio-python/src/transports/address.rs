//! Socket addresses as the kernel writes them, and as Python's `socket` module shows them.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use ferrio::poll::RawFd;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

/// An address as the kernel wrote it; made into a Python object only if somebody asks.
#[derive(Clone)]
pub struct RawAddress {
    storage: libc::sockaddr_storage,
    length: libc::socklen_t,
}

/// A system call that writes an address.
type Query = unsafe extern "C" fn(libc::c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int;

impl RawAddress {
    /// Room for any address.
    pub fn empty() -> Self {
        // SAFETY: sockaddr_storage is plain data; all zeroes are "unspecified".
        let storage = unsafe { std::mem::zeroed() };
        RawAddress { storage, length: size_of::<libc::sockaddr_storage>() as libc::socklen_t }
    }

    /// Whom the socket is connected to.
    pub fn of_peer(fd: RawFd) -> io::Result<Self> {
        Self::query(fd, libc::getpeername)
    }

    /// What the socket is bound to.
    pub fn of_socket(fd: RawFd) -> io::Result<Self> {
        Self::query(fd, libc::getsockname)
    }

    fn query(fd: RawFd, call: Query) -> io::Result<Self> {
        let mut address = Self::empty();
        let (pointer, length) = address.as_mut();
        // SAFETY: the pointers are to `address`, with its true size.
        if unsafe { call(fd, pointer, length) } < 0 { Err(io::Error::last_os_error()) } else { Ok(address) }
    }

    /// Whether it is an IPv4 or IPv6 address.
    pub fn is_internet(&self) -> bool {
        matches!(self.storage.ss_family as libc::c_int, libc::AF_INET | libc::AF_INET6)
    }

    /// Where a system call writes to.
    pub fn as_mut(&mut self) -> (*mut libc::sockaddr, *mut libc::socklen_t) {
        ((&raw mut self.storage).cast(), &raw mut self.length)
    }

    /// The address as `socket` gives it; None for a family that only `socket` knows.
    pub fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(match self.storage.ss_family as libc::c_int {
            libc::AF_INET => {
                // SAFETY: the family says what the storage holds.
                let inet: &libc::sockaddr_in = unsafe { &*(&raw const self.storage).cast() };
                let host = Ipv4Addr::from(u32::from_be(inet.sin_addr.s_addr)).to_string();
                Some((host, u16::from_be(inet.sin_port)).into_pyobject(py)?.into_any())
            }
            libc::AF_INET6 => {
                // SAFETY: the family says what the storage holds.
                let inet: &libc::sockaddr_in6 = unsafe { &*(&raw const self.storage).cast() };
                let host = Ipv6Addr::from(inet.sin6_addr.s6_addr).to_string();
                let (port, flow) = (u16::from_be(inet.sin6_port), u32::from_be(inet.sin6_flowinfo));
                Some((host, port, flow, inet.sin6_scope_id).into_pyobject(py)?.into_any())
            }
            libc::AF_UNIX => Some(self.path(py)?),
            _ => None,
        })
    }

    /// A Unix address: '' if unnamed, bytes if abstract (Linux), a path otherwise.
    fn path<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        // SAFETY: the family says what the storage holds.
        let unix: &libc::sockaddr_un = unsafe { &*(&raw const self.storage).cast() };
        let offset = std::mem::offset_of!(libc::sockaddr_un, sun_path);
        let length = (self.length as usize).saturating_sub(offset).min(unix.sun_path.len());
        let path: Vec<u8> = unix.sun_path[..length].iter().map(|byte| *byte as u8).collect();
        if path.first() == Some(&0) && cfg!(target_os = "linux") {
            return Ok(PyBytes::new(py, &path).into_any());
        }
        let end = path.iter().position(|byte| *byte == 0).unwrap_or(path.len());
        // SAFETY: pointer and length are those of `path`; the result is new or null with an error.
        unsafe {
            let text = pyo3::ffi::PyUnicode_DecodeFSDefaultAndSize(path.as_ptr().cast(), end as pyo3::ffi::Py_ssize_t);
            Ok(Bound::from_owned_ptr_or_err(py, text)?.cast_into_unchecked::<PyString>().into_any())
        }
    }
}
