//! Linux: epoll(7), with an eventfd(2) as the wake channel and nanosecond timeouts where the kernel has them (5.11).

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{EVENTS_PER_WAIT, Event, Interest, Mode, RawFd, WAKE};

/// An epoll instance. `wait` is for the loop's thread; the rest may be called while it does not wait.
#[derive(Debug)]
pub struct Poller {
    epoll: OwnedFd,
    wake: Arc<OwnedFd>,
}

/// Ends a [`Poller::wait`] from any thread, or the next one if nobody waits.
#[derive(Clone, Debug)]
pub struct Waker(Arc<OwnedFd>);

/// Cleared by the first refusal (ENOSYS: Linux before 5.11; EPERM: containers that filter what they do not know);
/// timeouts then round up to milliseconds.
static HAS_PWAIT2: AtomicBool = AtomicBool::new(true);

impl Poller {
    /// Opens an epoll instance and its wake channel.
    pub fn new() -> io::Result<Self> {
        // SAFETY: no pointers are passed; the result is checked and owned at once.
        let epoll = unsafe { owned(libc::epoll_create1(libc::EPOLL_CLOEXEC))? };
        // SAFETY: as above.
        let wake = unsafe { owned(libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK))? };
        let poller = Poller { epoll, wake: Arc::new(wake) };
        // Edge-triggered: each write is news by itself, so the counter need never be read.
        poller.control(libc::EPOLL_CTL_ADD, poller.wake.as_raw_fd(), (libc::EPOLLIN | libc::EPOLLET) as u32, WAKE)?;
        Ok(poller)
    }

    /// Watches `fd`, or changes how it is watched. `known` (was it armed before, and not forgotten?) saves a system
    /// call; a descriptor that was closed and opened again meanwhile is noticed either way.
    pub fn arm(&self, fd: RawFd, token: u64, interest: Interest, mode: Mode, known: bool) -> io::Result<()> {
        let mut flags = 0;
        if interest.read {
            flags |= libc::EPOLLIN | libc::EPOLLRDHUP;
        }
        if interest.write {
            flags |= libc::EPOLLOUT;
        }
        if mode == Mode::Once {
            flags |= libc::EPOLLONESHOT;
        }
        let flags = flags as u32;
        let (first, second, retry_on) = if known {
            (libc::EPOLL_CTL_MOD, libc::EPOLL_CTL_ADD, libc::ENOENT)
        } else {
            (libc::EPOLL_CTL_ADD, libc::EPOLL_CTL_MOD, libc::EEXIST)
        };
        match self.control(first, fd, flags, token) {
            Err(error) if error.raw_os_error() == Some(retry_on) => self.control(second, fd, flags, token),
            result => result,
        }
    }

    /// Stops watching `fd`. False if it was not watched: a closed descriptor has left epoll by itself, unless it lives on
    /// under another number or in another process.
    pub fn forget(&self, fd: RawFd) -> bool {
        self.control(libc::EPOLL_CTL_DEL, fd, 0, 0).is_ok()
    }

    /// Waits for news, at most `timeout` nanoseconds, and puts it into `events` (emptied first).
    pub fn wait(&self, timeout: Option<u64>, events: &mut Vec<Event>) -> io::Result<()> {
        let mut buffer = [const { MaybeUninit::<libc::epoll_event>::uninit() }; EVENTS_PER_WAIT];
        events.clear();
        let count = self.epoll_wait(timeout, &mut buffer)?;
        for raw in &buffer[..count] {
            // SAFETY: the kernel has filled the first `count` entries.
            let libc::epoll_event { events: flags, u64: token } = unsafe { raw.assume_init() };
            if token == WAKE {
                continue;
            }
            let failed = flags & (libc::EPOLLERR | libc::EPOLLHUP) as u32 != 0;
            events.push(Event {
                token,
                readable: failed || flags & (libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLPRI) as u32 != 0,
                writable: failed || flags & libc::EPOLLOUT as u32 != 0,
            });
        }
        Ok(())
    }

    /// Whether there is something to read from `fd`, which is watched for that, asked for it alone. False if there is other
    /// news: `wait` tells it.
    pub fn is_still_readable(&self, fd: RawFd) -> bool {
        let mut asked = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, which outlives the call; it does not wait.
        unsafe { libc::poll(&raw mut asked, 1, 0) == 1 && asked.revents == libc::POLLIN }
    }

    /// A handle that ends a wait.
    pub fn waker(&self) -> Waker {
        Waker(self.wake.clone())
    }

    fn epoll_wait(&self, timeout: Option<u64>, buffer: &mut [MaybeUninit<libc::epoll_event>]) -> io::Result<usize> {
        let (epoll, events, room): (_, *mut libc::epoll_event, _) =
            (self.epoll.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len() as libc::c_int);
        if let Some(nanoseconds) = timeout.filter(|&n| n > 0)
            && HAS_PWAIT2.load(Ordering::Relaxed)
        {
            let timeout = libc::timespec {
                tv_sec: (nanoseconds / 1_000_000_000) as libc::time_t,
                tv_nsec: (nanoseconds % 1_000_000_000) as _,
            };
            let no_mask: *const libc::sigset_t = std::ptr::null();
            // SAFETY: `events` has room for `room` entries and `timeout` outlives the call. Called by number because
            // older C libraries lack the function.
            let count = unsafe { libc::syscall(libc::SYS_epoll_pwait2, epoll, events, room, &timeout, no_mask, 0) };
            match check(count) {
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                    HAS_PWAIT2.store(false, Ordering::Relaxed);
                }
                result => return result,
            }
        }
        let milliseconds = timeout.map_or(-1, |n| n.div_ceil(1_000_000).min(i32::MAX as u64) as libc::c_long);
        let no_mask: *const libc::sigset_t = std::ptr::null();
        // SAFETY: `events` has room for `room` entries. By number too: the function is a point at which a thread can be
        // cancelled, which costs it 10 ns.
        check(unsafe { libc::syscall(libc::SYS_epoll_pwait, epoll, events, room, milliseconds, no_mask, 0) })
    }

    fn control(&self, operation: libc::c_int, fd: RawFd, flags: u32, token: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: flags, u64: token };
        // SAFETY: `event` outlives the call; the kernel checks the descriptors.
        check(unsafe { libc::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, &mut event) } as libc::c_long).map(drop)
    }
}

impl Waker {
    /// Wakes the loop.
    pub fn wake(&self) {
        let one = 1u64;
        // SAFETY: eight bytes are read from `one`. The only possible error is a full counter: a wake is pending then.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
    }
}

fn check(result: libc::c_long) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// # Safety
/// `fd` must be negative (an error) or a descriptor that nobody else owns.
unsafe fn owned(fd: libc::c_int) -> io::Result<OwnedFd> {
    check(fd as libc::c_long)?;
    // SAFETY: not negative, and the caller says that nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
