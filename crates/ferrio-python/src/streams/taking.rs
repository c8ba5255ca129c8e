//! How a `StreamReader` is read: each function takes what it is asked for out of the buffer, or says that a coroutine
//! must wait for more. Those of the second kind (`_…_now`, or with an offset) go on after such a wait.

use memchr::{memchr, memmem};
use pyo3::exceptions::{PyOverflowError, PyTypeError, PyValueError};
use pyo3::ffi as python;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyTuple};

use super::buffer;
use super::reader::StreamReader;
use crate::ffi::buffer::Buffer as Memory;
use crate::ffi::method::{fastcall, install, install_onearg, onearg};
use crate::imports::imports;

/// What a search comes to.
enum Search {
    /// The separator ends here.
    Found(usize),
    /// It does not begin before this index; more may come.
    Wait(usize),
    /// It was not found, and nothing more will come.
    Ended,
    /// It begins (or cannot begin before) so far from the front that the limit is exceeded.
    TooFar { is_found: bool, consumed: usize },
}

/// What a line or block ends with.
enum Separators<'a> {
    Newline,
    One(&'a [u8]),
    /// The shortest first.
    Any(&'a [&'a [u8]]),
}

impl Separators<'_> {
    fn shortest(&self) -> usize {
        match self {
            Separators::Newline => 1,
            Separators::One(separator) => separator.len(),
            Separators::Any(separators) => separators.first().map_or(0, |separator| separator.len()),
        }
    }

    fn longest(&self) -> usize {
        match self {
            Separators::Newline => 1,
            Separators::One(separator) => separator.len(),
            Separators::Any(separators) => separators.last().map_or(0, |separator| separator.len()),
        }
    }

    /// Where the first one to end, begins and ends.
    fn find(&self, bytes: &[u8]) -> Option<(usize, usize)> {
        let find = |separator: &[u8]| Some((memmem::find(bytes, separator)?, separator.len()));
        let (begin, length) = match self {
            Separators::Newline => (memchr(b'\n', bytes)?, 1),
            Separators::One(separator) => find(separator)?,
            Separators::Any(separators) => {
                let found = separators.iter().filter_map(|separator| find(separator));
                found.min_by_key(|(begin, length)| begin + length)?
            }
        };
        Some((begin, begin + length))
    }
}

impl StreamReader {
    /// Takes the first `count` bytes, or all if there are not as many.
    #[inline]
    fn take<'py>(&self, py: Python<'py>, count: usize) -> PyResult<Bound<'py, PyBytes>> {
        match self.shown(py) {
            Some(array) => buffer::take(&array, count),
            None => Ok(self.state.with(py, |state| state.buffer.take(py, count))),
        }
    }

    fn skip(&self, py: Python<'_>, count: usize) -> PyResult<()> {
        match self.shown(py) {
            Some(array) => buffer::skip(&array, count),
            None => {
                self.state.with(py, |state| state.buffer.skip(py, count));
                Ok(())
            }
        }
    }

    /// `read(n)`: at most so many bytes; None if there is nothing yet.
    fn try_read<'py>(&self, py: Python<'py>, n: isize) -> PyResult<Option<Bound<'py, PyBytes>>> {
        self.check(py)?;
        if n == 0 {
            return Ok(Some(PyBytes::new(py, b"")));
        }
        let count = n.unsigned_abs();
        let must_wait = self.state.with(py, |state| {
            let must_wait = !state.eof && state.buffer.is_empty(py);
            if must_wait {
                state.asked = count;
            }
            must_wait
        });
        if must_wait { Ok(None) } else { self.read_now(py, count).map(Some) }
    }

    #[inline]
    fn read_now<'py>(&self, py: Python<'py>, count: usize) -> PyResult<Bound<'py, PyBytes>> {
        let taken = self.take(py, count)?;
        self.maybe_resume_transport(py)?;
        Ok(taken)
    }

    /// `readexactly(n)`: so many bytes; None if there are not enough yet.
    fn try_read_exactly<'py>(&self, py: Python<'py>, n: isize) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let Ok(count) = usize::try_from(n) else {
            return Err(PyValueError::new_err("readexactly size can not be less than zero"));
        };
        self.check(py)?;
        if count == 0 {
            return Ok(Some(PyBytes::new(py, b"")));
        }
        self.read_exactly_now(py, count)
    }

    fn read_exactly_now<'py>(&self, py: Python<'py>, count: usize) -> PyResult<Option<Bound<'py, PyBytes>>> {
        let (length, eof) = self.state.with(py, |state| {
            let length = state.buffer.len(py);
            state.asked = count.saturating_sub(length);
            if !state.eof {
                state.buffer.expect(py, count);
            }
            (length, state.eof)
        });
        if length >= count {
            return self.read_now(py, count).map(Some);
        }
        if eof {
            let partial = self.take(py, length)?;
            let class = imports(py)?.incomplete_read_error.bind(py);
            return Err(PyErr::from_value(class.call1((partial, count))?));
        }
        Ok(None)
    }

    /// Looks for a separator from `offset` on.
    #[inline]
    fn search(&self, py: Python<'_>, separators: &Separators<'_>, offset: usize) -> Search {
        self.state.with(py, |state| {
            let bytes = state.buffer.bytes(py);
            let mut offset = offset;
            if bytes.len() >= offset + separators.shortest() {
                if let Some((begin, end)) = separators.find(&bytes[offset..]) {
                    let consumed = offset + begin;
                    return match is_beyond(consumed, state.limit) {
                        true => Search::TooFar { is_found: true, consumed },
                        false => Search::Found(offset + end),
                    };
                }
                // All but the last bytes, which may be the first ones of a separator.
                offset = (bytes.len() + 1).saturating_sub(separators.longest());
                if is_beyond(offset, state.limit) {
                    return Search::TooFar { is_found: false, consumed: offset };
                }
            }
            state.asked = 0;
            if state.eof { Search::Ended } else { Search::Wait(offset) }
        })
    }

    /// `readline()`: a line, or the offset from which to look for its end when there is more.
    #[inline]
    fn read_line<'py>(&self, py: Python<'py>, offset: usize) -> PyResult<Bound<'py, PyAny>> {
        match self.search(py, &Separators::Newline, offset) {
            Search::Found(end) => self.read_now(py, end).map(Bound::into_any),
            Search::Wait(offset) => Ok(offset.into_pyobject(py)?.into_any()),
            Search::Ended => self.take(py, usize::MAX).map(Bound::into_any),
            Search::TooFar { is_found, consumed } => {
                let error = too_far(py, is_found, consumed)?;
                // A line that is too long is dropped, as far as it has come.
                let is_newline = self.state.with(py, |state| state.buffer.bytes(py).get(consumed) == Some(&b'\n'));
                self.skip(py, if is_newline { consumed + 1 } else { usize::MAX })?;
                self.maybe_resume_transport(py)?;
                Err(while_handling(PyValueError::new_err(message(is_found)), error))
            }
        }
    }

    /// `readuntil(separator)`, likewise.
    fn read_until<'py>(
        &self,
        py: Python<'py>,
        separators: &Separators<'_>,
        offset: usize,
    ) -> PyResult<Bound<'py, PyAny>> {
        match self.search(py, separators, offset) {
            Search::Found(end) => self.read_now(py, end).map(Bound::into_any),
            Search::Wait(offset) => Ok(offset.into_pyobject(py)?.into_any()),
            Search::Ended => {
                let partial = self.take(py, usize::MAX)?;
                let class = imports(py)?.incomplete_read_error.bind(py);
                Err(PyErr::from_value(class.call1((partial, py.None()))?))
            }
            Search::TooFar { is_found, consumed } => Err(too_far(py, is_found, consumed)?),
        }
    }
}

fn is_beyond(index: usize, limit: i64) -> bool {
    i64::try_from(index).is_ok_and(|index| index > limit)
}

fn message(is_found: bool) -> &'static str {
    match is_found {
        true => "Separator is found, but chunk is longer than limit",
        false => "Separator is not found, and chunk exceed the limit",
    }
}

#[cold]
fn too_far(py: Python<'_>, is_found: bool, consumed: usize) -> PyResult<PyErr> {
    let class = imports(py)?.limit_overrun_error.bind(py);
    Ok(PyErr::from_value(class.call1((message(is_found), consumed))?))
}

/// `error`, raised where `handled` is being handled.
fn while_handling(error: PyErr, handled: PyErr) -> PyErr {
    Python::attach(|py| {
        // SAFETY: both are exceptions; the second one's reference is handed over.
        unsafe { python::PyException_SetContext(error.value(py).as_ptr(), handled.into_value(py).into_ptr()) };
        error
    })
}

/// Calls `f` with the separators that `separator` stands for.
fn with_separators<R>(separator: &Bound<'_, PyAny>, f: impl FnOnce(&Separators<'_>) -> PyResult<R>) -> PyResult<R> {
    let py = separator.py();
    if let Ok(separator) = separator.cast_exact::<PyBytes>() {
        return with_one(separator.as_bytes(), f);
    }
    if let Ok(tuple) = separator.cast::<PyTuple>()
        && imports(py)?.has_many_separators
    {
        let mut memory = tuple.iter().map(|one| memory_of(&one)).collect::<PyResult<Vec<_>>>()?;
        memory.sort_by_key(|one| one.len());
        let separators: Vec<_> = memory.iter().map(Vec::as_slice).collect();
        return match separators.first() {
            None => Err(PyValueError::new_err("Separator should contain at least one element")),
            Some([]) => Err(empty_separator()),
            Some(_) => f(&Separators::Any(&separators)),
        };
    }
    with_one(&memory_of(separator)?, f)
}

fn with_one<R>(separator: &[u8], f: impl FnOnce(&Separators<'_>) -> PyResult<R>) -> PyResult<R> {
    match separator {
        b"" => Err(empty_separator()),
        b"\n" => f(&Separators::Newline),
        separator => f(&Separators::One(separator)),
    }
}

fn empty_separator() -> PyErr {
    PyValueError::new_err("Separator should be at least one-byte string")
}

/// A copy of an object's bytes: the object may change while a coroutine waits.
fn memory_of(object: &Bound<'_, PyAny>) -> PyResult<Vec<u8>> {
    let Ok(memory) = Memory::readable(object) else {
        let kind = object.get_type().name()?;
        let message = format!("argument should be integer or bytes-like object, not '{kind}'");
        return Err(PyTypeError::new_err(message));
    };
    // SAFETY: the object lends that many bytes, and no Python code runs while they are copied.
    Ok(unsafe { std::slice::from_raw_parts(memory.as_ptr(), memory.len()) }.to_vec())
}

/// A number of bytes as a caller gives it: any whole number, however large.
#[inline]
fn count_of(number: &Bound<'_, PyAny>) -> PyResult<isize> {
    match number.extract::<isize>() {
        Err(error) if PyErr::is_instance_of::<PyOverflowError>(&error, number.py()) => {
            Ok(if number.gt(0)? { isize::MAX } else { isize::MIN })
        }
        number => number,
    }
}

fn or_none<'py>(py: Python<'py>, bytes: Option<Bound<'py, PyBytes>>) -> Bound<'py, PyAny> {
    bytes.map_or_else(|| py.None().into_bound(py), Bound::into_any)
}

/// The methods that coroutines call all the time.
pub(super) fn install_methods(py: Python<'_>) -> PyResult<()> {
    let class = py.get_type::<StreamReader>();
    install_onearg(
        &class,
        c"_try_read",
        c"",
        onearg!(StreamReader, |reader, n| Ok(or_none(reader.py(), reader.get().try_read(reader.py(), count_of(&n)?)?))),
    )?;
    install_onearg(
        &class,
        c"_read_now",
        c"",
        onearg!(StreamReader, |reader, n| {
            reader.get().read_now(reader.py(), count_of(&n)?.unsigned_abs()).map(Bound::into_any)
        }),
    )?;
    install_onearg(
        &class,
        c"_try_readexactly",
        c"",
        onearg!(StreamReader, |reader, n| Ok(or_none(
            reader.py(),
            reader.get().try_read_exactly(reader.py(), count_of(&n)?)?
        ))),
    )?;
    install_onearg(
        &class,
        c"_readexactly_now",
        c"",
        onearg!(StreamReader, |reader, n| Ok(or_none(
            reader.py(),
            reader.get().read_exactly_now(reader.py(), count_of(&n)?.unsigned_abs())?
        ))),
    )?;
    install(
        &class,
        c"_try_readline",
        c"",
        fastcall!(StreamReader, |reader, arguments| {
            let py = reader.py();
            match arguments.get(0) {
                None => {
                    reader.get().check(py)?;
                    reader.get().read_line(py, 0)
                }
                Some(offset) => reader.get().read_line(py, offset.extract()?),
            }
        }),
    )?;
    install(
        &class,
        c"_try_readuntil",
        c"",
        fastcall!(StreamReader, |reader, arguments| {
            let py = reader.py();
            let separator = arguments.get(0).unwrap_or_else(|| py.None().into_bound(py));
            with_separators(&separator, |separators| match arguments.get(1) {
                None => {
                    reader.get().check(py)?;
                    reader.get().read_until(py, separators, 0)
                }
                Some(offset) => reader.get().read_until(py, separators, offset.extract()?),
            })
        }),
    )
}
