//! Where a process's page lives: a file of its user's own on tmpfs, mapped as long as the process lives.
//!
//! On tmpfs or not at all: on a disk a store to mapped memory can wait for the disk (that stalled JVMs for hundreds of
//! milliseconds). Memory is reserved before it is touched, because touching a mapping for which a full tmpfs has no room
//! ends the process. Without tmpfs, or without room, the page is private memory: the loop does not notice.
//!
//! The mapping's address never changes, so loops keep plain references into it. In the child of a fork the parent's page
//! is replaced by zeros at once, before anything can write to it, and by a page of the child's own once the child uses a
//! loop. The file is removed when the process exits, and kept when it crashes; the next process that starts leaves
//! only the newest [`KEPT`] of those.

use std::path::PathBuf;
use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, OnceLock};

use super::page::Page;

/// How many pages of dead processes are kept for whoever wants to know why they died.
pub const KEPT: usize = 8;

/// How a page's file is called: this, after the process's number.
pub const SUFFIX: &str = ".loop";
/// The file beside it for the stacks of threads.
pub const STACKS: &str = ".stacks";
/// Files that may lie beside a page and go with it, by their extensions: the stacks, and what the level deep writes.
const BESIDE: [&str; 3] = ["stacks", "deep", "deep.old"];

/// This process's page, as long as it lives.
struct Own {
    page: NonNull<Page>,
    /// Its file, and the process that made it; `None` for private memory.
    file: Mutex<(Option<PathBuf>, u32)>,
}

// SAFETY: the page is made of atomics, its address never changes and is never unmapped.
unsafe impl Send for Own {}
// SAFETY: as above.
unsafe impl Sync for Own {}

static OWN: OnceLock<Own> = OnceLock::new();

pub(super) fn own_page() -> &'static Page {
    let own = OWN.get_or_init(|| {
        let (page, file) =
            memory::shared(None).map_or_else(|| (memory::private(), None), |(page, file)| (page, Some(file)));
        // SAFETY: mapped or allocated, never given back, and made of atomics.
        unsafe { page.as_ref() }.seal();
        Own { page, file: Mutex::new((file, std::process::id())) }
    });
    // SAFETY: mapped or allocated above, never given back, and made of atomics.
    unsafe { own.page.as_ref() }
}

impl Own {
    /// Only tried: in the child of a fork a thread that is not there may hold it for ever. (It is held for a moment.)
    fn file(&self) -> Option<MutexGuard<'_, (Option<PathBuf>, u32)>> {
        self.file.try_lock().ok()
    }
}

/// The file of this process's page; `None` if it has only private memory.
pub fn path() -> Option<PathBuf> {
    own_page();
    let (path, pid) = OWN.get()?.file()?.clone();
    path.filter(|_| pid == std::process::id())
}

/// In the child of a fork: a page of its own, at the address of its parent's. Does nothing elsewhere.
pub(crate) fn after_fork() {
    let Some(own) = OWN.get() else { return };
    let Some(mut file) = own.file() else { return };
    if file.1 != std::process::id() {
        let made = memory::shared(Some(own.page));
        own_page().seal();
        *file = (made.map(|(_, path)| path), std::process::id());
    }
}

/// Makes sure that a part of the page can be touched: `offset` and `length` in bytes from its beginning. False if there
/// is no room for it.
pub(crate) fn reserve(offset: usize, length: usize) -> bool {
    match path() {
        Some(path) => memory::reserve(&path, offset, length),
        // Private memory is there when it is touched.
        None => true,
    }
}

/// Has a part of the page at hand that will be written from one end to the other, `offset` and `length` in whole pages of the
/// operating system's: else the first write to each of these takes two microseconds, as much as a hundred records.
pub(crate) fn fetch(page: &Page, offset: usize, length: usize) {
    memory::fetch(page, offset, length);
}

/// Where the user's pages are; `None` if there is no tmpfs for them.
pub fn folder() -> Option<PathBuf> {
    memory::folder()
}

#[cfg(target_os = "linux")]
mod memory {
    use std::ffi::CString;
    use std::fs::{self, DirBuilder, File, OpenOptions};
    use std::io;
    use std::mem::MaybeUninit;
    use std::os::fd::AsRawFd;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
    use std::path::{Path, PathBuf};
    use std::ptr::{self, NonNull};
    use std::sync::Once;
    use std::sync::atomic::{AtomicPtr, Ordering};
    use std::time::SystemTime;

    use super::{BESIDE, KEPT, OWN, SUFFIX};
    use crate::recorder::page::{AT_FIRST, Page};

    /// Where the mapping is, for the handler that runs in a forked child and may take no lock.
    static MAPPED: AtomicPtr<Page> = AtomicPtr::new(ptr::null_mut());

    pub fn private() -> NonNull<Page> {
        map(None, None).unwrap_or_else(|_| {
            // No memory at all for 25 MB of addresses: as any other allocation that fails.
            let layout = std::alloc::Layout::new::<Page>();
            // SAFETY: the layout has a size; the zeros are valid atomics.
            NonNull::new(unsafe { std::alloc::alloc_zeroed(layout) }.cast())
                .unwrap_or_else(|| std::alloc::handle_alloc_error(layout))
        })
    }

    /// A page in a file of its own, at the given address if there is one.
    pub fn shared(place: Option<NonNull<Page>>) -> Option<(NonNull<Page>, PathBuf)> {
        if std::env::var_os("FERRIO_PAGE").is_some_and(|wish| wish == "off") {
            return None;
        }
        let folder = folder()?;
        sweep(&folder);
        let path = folder.join(format!("{}{SUFFIX}", std::process::id()));
        let file = create(&path).ok()?;
        let made = file.set_len(size_of::<Page>() as u64).and_then(|()| allocate(&file, 0, AT_FIRST));
        let Ok(page) = made.and_then(|()| map(place, Some(&file))) else {
            drop(fs::remove_file(&path));
            return None;
        };
        MAPPED.store(page.as_ptr(), Ordering::Release);
        at_exit_and_in_children();
        Some((page, path))
    }

    /// `$XDG_RUNTIME_DIR/ferrio`, or `/dev/shm/ferrio-1000`: whichever is on tmpfs, and the user's alone.
    pub fn folder() -> Option<PathBuf> {
        // SAFETY: no arguments, cannot fail.
        let user = unsafe { libc::geteuid() };
        let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(|runtime| Path::new(&runtime).join("ferrio"));
        let shared = PathBuf::from(format!("/dev/shm/ferrio-{user}"));
        runtime.into_iter().chain([shared]).find(|folder| {
            drop(DirBuilder::new().mode(0o700).create(folder));
            let own = fs::symlink_metadata(folder)
                .is_ok_and(|known| known.is_dir() && known.uid() == user && known.mode() & 0o077 == 0);
            own && is_tmpfs(folder)
        })
    }

    fn is_tmpfs(folder: &Path) -> bool {
        let Ok(name) = CString::new(folder.as_os_str().as_bytes()) else { return false };
        let mut status = MaybeUninit::<libc::statfs>::uninit();
        // SAFETY: the name ends with a zero; the kernel fills the struct, or fails.
        unsafe {
            libc::statfs(name.as_ptr(), status.as_mut_ptr()) == 0 && status.assume_init().f_type == libc::TMPFS_MAGIC
        }
    }

    fn create(path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create_new(true).mode(0o600).custom_flags(libc::O_NOFOLLOW);
        options.open(path).or_else(|error| match error.kind() {
            // A dead process that had this number.
            io::ErrorKind::AlreadyExists => fs::remove_file(path).and_then(|()| options.open(path)),
            _ => Err(error),
        })
    }

    fn allocate(file: &File, offset: usize, length: usize) -> io::Result<()> {
        // SAFETY: no pointers; the kernel checks the descriptor.
        match unsafe { libc::posix_fallocate(file.as_raw_fd(), offset as libc::off_t, length as libc::off_t) } {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error)),
        }
    }

    pub fn reserve(path: &Path, offset: usize, length: usize) -> bool {
        let file = OpenOptions::new().read(true).write(true).open(path);
        file.and_then(|file| allocate(&file, offset, length)).is_ok()
    }

    pub fn fetch(page: &Page, offset: usize, length: usize) {
        // SAFETY: within the page, which is mapped and stays so; its content does not change. A kernel before 5.14 does not
        // know how to do this, and the rest is only later.
        unsafe {
            let start = ptr::from_ref(page).byte_add(offset).cast_mut();
            libc::madvise(start.cast(), length, libc::MADV_POPULATE_WRITE);
        }
    }

    /// Maps the file, or private memory without one, at the given place or anywhere.
    fn map(place: Option<NonNull<Page>>, file: Option<&File>) -> io::Result<NonNull<Page>> {
        let fixed = if place.is_some() { libc::MAP_FIXED } else { 0 };
        let flags = fixed | if file.is_some() { libc::MAP_SHARED } else { libc::MAP_PRIVATE | libc::MAP_ANONYMOUS };
        let address = place.map_or(ptr::null_mut(), |place| place.as_ptr().cast());
        let fd = file.map_or(-1, |file| file.as_raw_fd());
        // SAFETY: without a place the kernel chooses free addresses; a place is that of the page itself, which is
        // replaced as a whole and stays made of atomics.
        let mapped = unsafe {
            libc::mmap(
                address,
                size_of::<Page>(),
                libc::PROT_READ | libc::PROT_WRITE,
                flags | libc::MAP_NORESERVE,
                fd,
                0,
            )
        };
        if mapped == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(mapped.cast()).ok_or_else(|| io::Error::other("mapped at zero"))
    }

    /// Registers what removes the file, and what parts a child from its parent's page. Once.
    fn at_exit_and_in_children() {
        extern "C" fn remove() {
            let Some(own) = OWN.get() else { return };
            // A forked child that never made a page of its own leaves its parent's alone.
            if let Ok(file) = own.file.try_lock()
                && let (Some(path), pid) = &*file
                && *pid == std::process::id()
            {
                remove_all(path);
            }
        }
        unsafe extern "C" fn in_child() {
            if let Some(page) = NonNull::new(MAPPED.load(Ordering::Acquire)) {
                // Zeros are a page of nobody. If even this fails, the child goes on writing into its parent's counters.
                drop(map(Some(page), None));
            }
        }
        static REGISTER: Once = Once::new();
        // SAFETY: both handlers may run at any time from now on: they take no lock but one that they only try, and the
        // second makes one system call and no more.
        REGISTER.call_once(|| unsafe {
            libc::atexit(remove);
            libc::pthread_atfork(None, None, Some(in_child));
        });
    }

    /// Removes what dead processes have left, but for the newest.
    fn sweep(folder: &Path) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        let mut dead: Vec<(SystemTime, PathBuf)> = entries
            .flatten()
            .filter_map(|entry| {
                let name = entry.file_name();
                let pid: libc::pid_t = name.to_str()?.strip_suffix(SUFFIX)?.parse().ok()?;
                // SAFETY: signal 0 only asks whether the process is there.
                let gone =
                    unsafe { libc::kill(pid, 0) } < 0 && io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH);
                gone.then(|| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))?
            })
            .collect();
        dead.sort();
        let many = dead.len().saturating_sub(KEPT);
        for (_, path) in &dead[..many] {
            remove_all(path);
        }
    }

    /// Removes a page's file and those beside it.
    fn remove_all(path: &Path) {
        drop(fs::remove_file(path));
        BESIDE.into_iter().for_each(|extension| drop(fs::remove_file(path.with_extension(extension))));
    }
}

#[cfg(not(target_os = "linux"))]
mod memory {
    use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
    use std::path::{Path, PathBuf};
    use std::ptr::NonNull;

    use crate::recorder::page::Page;

    pub fn private() -> NonNull<Page> {
        let layout = Layout::new::<Page>();
        // SAFETY: the layout has a size; the zeros are valid atomics.
        NonNull::new(unsafe { alloc_zeroed(layout) }.cast()).unwrap_or_else(|| handle_alloc_error(layout))
    }

    pub fn shared(_place: Option<NonNull<Page>>) -> Option<(NonNull<Page>, PathBuf)> {
        None
    }

    pub fn folder() -> Option<PathBuf> {
        None
    }

    pub fn reserve(_path: &Path, _offset: usize, _length: usize) -> bool {
        false
    }

    pub fn fetch(_page: &Page, _offset: usize, _length: usize) {}
}
