/* System calls that fail on demand, for test_failing_calls.py. Preloaded, it stands between a program and its C library:
 * fail() has the nth call of a function from now on, and `times - 1` more, fail with `code` without being made.
 *
 * Every function is declared with six words, whatever it takes: on the ABIs of Linux what a callee ignores does no harm.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/syscall.h>

static _Atomic(const char *) chosen;
static atomic_long first, last, count;
static atomic_int code;
static char name[32];

/* Ends what fail() began; returns how many calls the function has had, failed or not. */
long relent(void) {
    chosen = NULL;
    return count;
}

void fail(const char *function, long nth, long times, int with) {
    relent();
    strncpy(name, function, sizeof name - 1);
    first = nth;
    last = nth + times - 1;
    count = 0;
    code = with;
    chosen = name;
}

static int fails(const char *function) {
    const char *now = chosen;
    if (!now || strcmp(now, function))
        return 0;
    long number = ++count;
    if (number < first || number > last)
        return 0;
    errno = code;
    return 1;
}

typedef long word;
typedef word (*function)(word, word, word, word, word, word);

#define STAND_BEFORE_THAT_RETURNS(failure, symbol)                        \
    word symbol(word a, word b, word c, word d, word e, word f) {         \
        static function real;                                             \
        if (!real)                                                        \
            real = (function)dlsym(RTLD_NEXT, #symbol);                   \
        return fails(#symbol) ? (failure) : real(a, b, c, d, e, f);       \
    }
#define STAND_BEFORE(symbol) STAND_BEFORE_THAT_RETURNS(-1, symbol)

STAND_BEFORE(accept4)
STAND_BEFORE(bind)
STAND_BEFORE(connect)
STAND_BEFORE(epoll_create1)
STAND_BEFORE(epoll_ctl)
STAND_BEFORE(eventfd)
STAND_BEFORE(ftruncate64)
STAND_BEFORE(getpeername)
STAND_BEFORE(getsockname)
STAND_BEFORE(listen)
STAND_BEFORE(mmap)
STAND_BEFORE(open64)
STAND_BEFORE(pipe2)
STAND_BEFORE(recv)
STAND_BEFORE(recvfrom)
STAND_BEFORE(send)
STAND_BEFORE(sendfile)
STAND_BEFORE(sendmmsg)
STAND_BEFORE(sendmsg)
STAND_BEFORE(sendto)
STAND_BEFORE(setsockopt)
STAND_BEFORE(socket)
STAND_BEFORE(socketpair)
STAND_BEFORE(write)
STAND_BEFORE(writev)
STAND_BEFORE_THAT_RETURNS(code, getaddrinfo)
STAND_BEFORE_THAT_RETURNS(code, posix_fallocate)
STAND_BEFORE_THAT_RETURNS(code, pthread_create)

/* What ferrio calls by number. */
word syscall(word number, word a, word b, word c, word d, word e, word f) {
    static word (*real)(word, word, word, word, word, word, word);
    if (!real)
        real = (word (*)(word, word, word, word, word, word, word))dlsym(RTLD_NEXT, "syscall");
    if (number == SYS_pidfd_open && fails("pidfd_open"))
        return -1;
    if (number == SYS_epoll_pwait && fails("epoll_pwait"))
        return -1;
#ifdef SYS_epoll_pwait2
    if (number == SYS_epoll_pwait2 && fails("epoll_pwait"))
        return -1;
#endif
    return real(number, a, b, c, d, e, f);
}
