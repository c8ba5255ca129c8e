//! Socket addresses as the kernel writes them, and as Python's `socket` module shows them.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV4};

use ferrio::poll::RawFd;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString, PyTuple};

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

    fn of_v4(address: SocketAddrV4) -> Self {
        let mut raw = Self::empty();
        // SAFETY: the storage has room for any address and is plain data.
        let inet: &mut libc::sockaddr_in = unsafe { &mut *(&raw mut raw.storage).cast() };
        inet.sin_family = libc::AF_INET as libc::sa_family_t;
        inet.sin_port = address.port().to_be();
        inet.sin_addr.s_addr = u32::from(*address.ip()).to_be();
        raw.length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
        raw
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

    /// Where a system call reads from.
    pub fn as_ptr(&self) -> (*const libc::sockaddr, libc::socklen_t) {
        ((&raw const self.storage).cast(), self.length)
    }

    /// Whether the kernel wrote none: a Unix datagram from a socket without a name.
    pub fn is_absent(&self) -> bool {
        self.length == 0
    }

    /// The address of a socket of `family` that a Python tuple with a numeric host stands for; `None` if only `socket`
    /// can make sense of it.
    pub fn from_python(address: &Bound<'_, PyAny>, family: libc::c_int) -> Option<Self> {
        let parts = address.cast_exact::<PyTuple>().ok()?;
        let host = parts.get_item(0).ok()?;
        let host = host.cast_exact::<PyString>().ok()?.to_str().ok()?;
        let port = parts.get_item(1).ok()?.extract::<u16>().ok()?;
        let number = |index: usize| match parts.get_item(index) {
            Ok(number) => number.extract::<u32>().ok(),
            Err(_) => Some(0),
        };
        let mut raw = Self::empty();
        match family {
            libc::AF_INET if parts.len() == 2 => {
                raw = Self::of_v4(SocketAddrV4::new(host.parse().ok()?, port));
            }
            libc::AF_INET6 if parts.len() <= 4 => {
                let host: Ipv6Addr = host.parse().ok()?;
                let flow = number(2).filter(|flow| *flow <= 0xf_ffff)?;
                // SAFETY: the storage has room for any address and is plain data.
                let inet: &mut libc::sockaddr_in6 = unsafe { &mut *(&raw mut raw.storage).cast() };
                inet.sin6_family = family as libc::sa_family_t;
                inet.sin6_port = port.to_be();
                inet.sin6_flowinfo = flow.to_be();
                inet.sin6_addr.s6_addr = host.octets();
                inet.sin6_scope_id = number(3)?;
                raw.length = size_of::<libc::sockaddr_in6>() as libc::socklen_t;
            }
            _ => return None,
        }
        Some(raw)
    }

    fn bytes(&self) -> &[u8] {
        let length = (self.length as usize).min(size_of::<libc::sockaddr_storage>());
        // SAFETY: plain data, zeroed at the start, of at least that size.
        unsafe { std::slice::from_raw_parts((&raw const self.storage).cast(), length) }
    }

    /// A number that other addresses hardly ever have.
    pub fn hash(&self) -> u64 {
        let word = |bytes: &[u8]| bytes.iter().rfold(0, |word, byte| word << 8 | u64::from(*byte));
        let hash =
            self.bytes().chunks(8).fold(0, |hash, bytes| (hash ^ word(bytes)).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        // Every bit has its part in the highest byte alone.
        hash.swap_bytes()
    }

    /// The address as `socket` gives it; None for a family that only `socket` knows.
    pub fn to_python<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(match self.storage.ss_family as libc::c_int {
            libc::AF_INET => {
                // SAFETY: the family says what the storage holds.
                let inet: &libc::sockaddr_in = unsafe { &*(&raw const self.storage).cast() };
                let host = ipv4_text(py, inet.sin_addr.s_addr.to_ne_bytes())?;
                Some((host, u16::from_be(inet.sin_port)).into_pyobject(py)?.into_any())
            }
            libc::AF_INET6 => {
                // SAFETY: the family says what the storage holds.
                let inet: &libc::sockaddr_in6 = unsafe { &*(&raw const self.storage).cast() };
                let host = ipv6_text(Ipv6Addr::from(inet.sin6_addr.s6_addr));
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

/// An address that is kept for as long as a connection lives, in as little room as it needs.
pub enum KeptAddress {
    V4(SocketAddrV4),
    Other(Box<[u8]>),
}

impl From<&RawAddress> for KeptAddress {
    fn from(raw: &RawAddress) -> Self {
        if libc::c_int::from(raw.storage.ss_family) != libc::AF_INET {
            return KeptAddress::Other(raw.bytes().into());
        }
        // SAFETY: the family says what the storage holds.
        let inet: &libc::sockaddr_in = unsafe { &*(&raw const raw.storage).cast() };
        KeptAddress::V4(SocketAddrV4::new(
            Ipv4Addr::from(u32::from_be(inet.sin_addr.s_addr)),
            u16::from_be(inet.sin_port),
        ))
    }
}

impl PartialEq<RawAddress> for KeptAddress {
    fn eq(&self, raw: &RawAddress) -> bool {
        match self {
            KeptAddress::V4(address) => RawAddress::of_v4(*address) == *raw,
            KeptAddress::Other(bytes) => **bytes == *raw.bytes(),
        }
    }
}

impl From<&KeptAddress> for RawAddress {
    fn from(kept: &KeptAddress) -> Self {
        match kept {
            KeptAddress::V4(address) => RawAddress::of_v4(*address),
            KeptAddress::Other(bytes) => {
                let mut raw = RawAddress::empty();
                // SAFETY: as many bytes as a storage had, at most, are written to one, which is plain data.
                unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), (&raw mut raw.storage).cast(), bytes.len()) };
                raw.length = bytes.len() as libc::socklen_t;
                raw
            }
        }
    }
}

impl PartialEq for RawAddress {
    fn eq(&self, other: &Self) -> bool {
        self.bytes() == other.bytes()
    }
}

/// As inet_ntop writes it. By hand: formatting takes a quarter of a datagram's instructions, the kernel's aside.
fn ipv4_text(py: Python<'_>, octets: [u8; 4]) -> PyResult<Bound<'_, PyString>> {
    let mut text = [b'.'; "255.255.255.255".len()];
    let mut length = 0;
    for (index, octet) in octets.into_iter().enumerate() {
        length += usize::from(index > 0);
        let digits = 1 + usize::from(octet >= 10) + usize::from(octet >= 100);
        let mut rest = octet;
        for digit in text[length..length + digits].iter_mut().rev() {
            *digit = b'0' + rest % 10;
            rest /= 10;
        }
        length += digits;
    }
    PyString::from_bytes(py, &text[..length])
}

/// As inet_ntop writes it: unlike Rust it has an IPv4 tail on "IPv4-compatible" addresses (`::192.0.2.1`) too.
fn ipv6_text(address: Ipv6Addr) -> String {
    match address.segments() {
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => {
            format!("::{}", Ipv4Addr::from(u32::from(high) << 16 | u32::from(low)))
        }
        _ => address.to_string(),
    }
}
