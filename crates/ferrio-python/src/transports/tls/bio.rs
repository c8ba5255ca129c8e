//! A BIO of our own: OpenSSL reads the peer's bytes where they were received, and writes into one buffer per thread.
//!
//! A `ssl.MemoryBIO` keeps a copy of its own in each direction, in memory that is cleared whenever it grows.

use std::cell::Cell;
use std::ffi::{c_char, c_int, c_long, c_void};
use std::marker::PhantomData;
use std::ptr::{self, NonNull};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::openssl::{Bio, BioMethod, Functions, OpenSsl};

/// `BIO_TYPE_SOURCE_SINK`: neither a filter nor a descriptor.
const SOURCE_AND_SINK: c_int = 0x0400;

/// Flags of a BIO.
const SHOULD_READ: c_int = 0x01;
const SHOULD_RETRY: c_int = 0x08;
/// `BIO_FLAGS_RWS | BIO_FLAGS_SHOULD_RETRY`.
const ALL: c_int = 0x0f;

/// Questions to a BIO.
const PENDING: c_int = 10;
const FLUSH: c_int = 11;
const WRITE_PENDING: c_int = 13;

/// A thread keeps no larger buffer for the next connection, in bytes.
const KEPT: usize = 256 * 1024;

thread_local! {
    /// Room for the next connection that has something to say.
    static SPARE: Cell<Vec<u8>> = const { Cell::new(Vec::new()) };
}

/// Both directions of a connection. OpenSSL's end is the BIO, of which there is one for both.
#[derive(Default)]
pub struct Pipe(Mutex<Ends>);

#[derive(Default)]
struct Ends {
    /// From the peer, of earlier calls.
    kept: Vec<u8>,
    /// How much of it OpenSSL has taken.
    taken: usize,
    /// From the peer, after that, in others' memory.
    lent: Lent,
    /// For the peer.
    outgoing: Vec<u8>,
}

struct Lent(*const u8, usize);

impl Default for Lent {
    fn default() -> Self {
        Lent(std::ptr::dangling(), 0)
    }
}

// SAFETY: whoever lends holds the memory until it has taken it back, under the same lock.
unsafe impl Send for Lent {}

impl Lent {
    /// The first `most` bytes, which are not lent any more.
    fn take(&mut self, most: usize) -> &[u8] {
        let count = most.min(self.1);
        let start = self.0;
        // SAFETY: that many bytes are lent.
        unsafe {
            *self = Lent(start.add(count), self.1 - count);
            std::slice::from_raw_parts(start, count)
        }
    }
}

impl Ends {
    fn unread(&self) -> usize {
        self.kept.len() - self.taken + self.lent.1
    }

    fn keep(&mut self, data: &[u8]) {
        if self.taken > 0 {
            self.kept.drain(..self.taken);
            self.taken = 0;
        }
        self.kept.extend_from_slice(data);
    }

    /// What is left of a loan is kept.
    fn end_loan(&mut self) {
        let Lent(start, left) = std::mem::take(&mut self.lent);
        if left > 0 {
            // SAFETY: that many bytes are lent until now.
            self.keep(unsafe { std::slice::from_raw_parts(start, left) });
        }
    }

    /// Hands some of the peer's bytes to `sink`, at most `most`; returns how many.
    fn take(&mut self, most: usize, sink: impl FnOnce(&[u8])) -> usize {
        let kept = &self.kept[self.taken..];
        if kept.is_empty() {
            let data = self.lent.take(most);
            sink(data);
            return data.len();
        }
        let count = most.min(kept.len());
        sink(&kept[..count]);
        self.taken += count;
        if self.taken == self.kept.len() {
            // Connections that wait hold no memory.
            (self.kept, self.taken) = (Vec::new(), 0);
        }
        count
    }
}

impl Pipe {
    fn ends(&self) -> MutexGuard<'_, Ends> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many of the peer's bytes OpenSSL has not looked at.
    pub fn unread(&self) -> usize {
        self.ends().unread()
    }

    /// How many bytes for the peer wait to be taken.
    pub fn unsent(&self) -> usize {
        self.ends().outgoing.len()
    }

    /// The peer's bytes, for OpenSSL to read at any time.
    pub fn keep(&self, data: &[u8]) {
        let mut ends = self.ends();
        ends.end_loan();
        ends.keep(data);
    }

    /// The same without a copy: what is left when the loan ends is kept.
    pub fn lend<'a>(&'a self, data: &'a [u8]) -> Loan<'a> {
        let mut ends = self.ends();
        // A loan within a loan (a callback that feeds us) begins after the former.
        ends.end_loan();
        ends.lent = Lent(data.as_ptr(), data.len());
        Loan { pipe: self, data: PhantomData }
    }

    /// The bytes for the peer; [`recycle`] takes the memory.
    pub fn take_outgoing(&self) -> Vec<u8> {
        std::mem::take(&mut self.ends().outgoing)
    }
}

/// While it lives, OpenSSL may read what is lent.
pub struct Loan<'a> {
    pipe: &'a Pipe,
    data: PhantomData<&'a [u8]>,
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        self.pipe.ends().end_loan();
    }
}

/// Takes memory for the next connection.
pub fn recycle(mut memory: Vec<u8>) {
    if (1..=KEPT).contains(&memory.capacity()) {
        memory.clear();
        // A thread that is about to end keeps nothing.
        let _ = SPARE.try_with(|spare| spare.set(memory));
    }
}

/// A BIO over `pipe`, which it keeps. None without memory.
pub fn new(openssl: &OpenSsl, pipe: &Arc<Pipe>) -> Option<NonNull<Bio>> {
    // SAFETY: the method is ours, and complete; the new BIO is nobody else's yet.
    unsafe {
        let bio = NonNull::new((openssl.functions.BIO_new)(openssl.method))?;
        (openssl.functions.BIO_set_data)(bio.as_ptr(), Arc::into_raw(pipe.clone()).cast_mut().cast());
        (openssl.functions.BIO_set_init)(bio.as_ptr(), 1);
        Some(bio)
    }
}

/// The method of such BIOs, made once. Null without memory.
pub fn method(functions: &Functions) -> *mut BioMethod {
    // SAFETY: the functions have the signatures that OpenSSL calls them with, and live as long as the process.
    unsafe {
        let kind = (functions.BIO_get_new_index)();
        let method = (functions.BIO_meth_new)(kind | SOURCE_AND_SINK, c"ferrio".as_ptr());
        if !method.is_null() {
            (functions.BIO_meth_set_read)(method, read);
            (functions.BIO_meth_set_write)(method, write);
            (functions.BIO_meth_set_ctrl)(method, control);
            (functions.BIO_meth_set_destroy)(method, destroy);
        }
        method
    }
}

/// What `f` makes of the pipe of a BIO; `otherwise` if it has none.
///
/// # Safety
/// `bio` must be one of ours.
unsafe fn with<R>(bio: *mut Bio, otherwise: R, f: impl FnOnce(&Functions, &mut Ends) -> R) -> R {
    let Some(openssl) = OpenSsl::found() else { return otherwise };
    // SAFETY: the data of a BIO of ours is null or a pipe, of which the BIO holds a reference.
    match unsafe { (openssl.functions.BIO_get_data)(bio).cast::<Pipe>().as_ref() } {
        Some(pipe) => f(&openssl.functions, &mut pipe.ends()),
        None => otherwise,
    }
}

unsafe extern "C" fn read(bio: *mut Bio, room: *mut c_char, length: c_int) -> c_int {
    let most = usize::try_from(length).unwrap_or(0);
    // SAFETY: OpenSSL gives a BIO of ours, and room for `length` bytes.
    unsafe {
        with(bio, -1, |functions, ends| {
            (functions.BIO_clear_flags)(bio, ALL);
            let count = ends.take(most, |data| ptr::copy_nonoverlapping(data.as_ptr(), room.cast(), data.len()));
            if count > 0 {
                return count as c_int;
            }
            (functions.BIO_set_flags)(bio, SHOULD_READ | SHOULD_RETRY);
            -1
        })
    }
}

unsafe extern "C" fn write(bio: *mut Bio, data: *const c_char, length: c_int) -> c_int {
    let count = usize::try_from(length).unwrap_or(0);
    if count == 0 {
        return 0;
    }
    // SAFETY: OpenSSL gives a BIO of ours, and `length` bytes.
    unsafe {
        with(bio, -1, |functions, ends| {
            (functions.BIO_clear_flags)(bio, ALL);
            if ends.outgoing.capacity() == 0 {
                ends.outgoing = SPARE.try_with(Cell::take).unwrap_or_default();
            }
            ends.outgoing.extend_from_slice(std::slice::from_raw_parts(data.cast(), count));
            length
        })
    }
}

unsafe extern "C" fn control(bio: *mut Bio, question: c_int, _: c_long, _: *mut c_void) -> c_long {
    // SAFETY: OpenSSL gives a BIO of ours.
    unsafe {
        match question {
            FLUSH => 1,
            PENDING => with(bio, 0, |_, ends| ends.unread() as c_long),
            WRITE_PENDING => with(bio, 0, |_, ends| ends.outgoing.len() as c_long),
            _ => 0,
        }
    }
}

unsafe extern "C" fn destroy(bio: *mut Bio) -> c_int {
    if let Some(openssl) = OpenSsl::found() {
        // SAFETY: OpenSSL gives a BIO of ours, for the last time; its data is null or the reference that `new` has made.
        unsafe {
            let pipe = (openssl.functions.BIO_get_data)(bio).cast::<Pipe>();
            (openssl.functions.BIO_set_data)(bio, ptr::null_mut());
            if !pipe.is_null() {
                drop(Arc::from_raw(pipe.cast_const()));
            }
        }
    }
    1
}
