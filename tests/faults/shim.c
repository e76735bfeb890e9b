/* Loaded before the C library (LD_PRELOAD): a disk that is full, a disk that cannot be read, a clock that was set back.

   FAULT_FOLDERS  colon-separated; only files below them are met
   FAULT_COUNTER  a file of 16 bytes, shared by all processes: bytes written, reads made
   FAULT_BYTES    so many bytes can be written, then ENOSPC
   FAULT_READS    so many reads succeed, then EIO
   FAULT_CLOCK    seconds that the clock is behind */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

static const char *folders;
static long bytes = -1, reads = -1, behind = 0;
static long *counter; /* [0] bytes written, [1] reads made */

__attribute__((constructor)) static void begin(void) {
    const char *text = getenv("FAULT_COUNTER");
    int fd;
    if ((folders = getenv("FAULT_FOLDERS")) && text && (fd = open(text, O_RDWR | O_CLOEXEC)) >= 0) {
        void *mapped = mmap(NULL, 16, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        close(fd);
        if (mapped != MAP_FAILED) counter = mapped;
    }
    if ((text = getenv("FAULT_BYTES"))) bytes = atol(text);
    if ((text = getenv("FAULT_READS"))) reads = atol(text);
    if ((text = getenv("FAULT_CLOCK"))) behind = atol(text);
}

/* Whether an open file lies below one of the folders. */
static int inside(int fd) {
    char link[64], path[4096];
    int saved = errno;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    errno = saved;
    if (length <= 0) return 0;
    path[length] = 0;
    for (const char *at = folders; at && *at;) {
        const char *end = strchrnul(at, ':');
        if (!strncmp(path, at, end - at) && path[end - at] == '/') return 1;
        at = *end ? end + 1 : end;
    }
    return 0;
}

/* How many of n bytes still fit; as on a disk, the last write may be cut. */
static long fits(int fd, long n) {
    if (!counter || bytes < 0 || !inside(fd)) return n;
    long before = __atomic_fetch_add(&counter[0], n, __ATOMIC_SEQ_CST);
    long left = bytes - before;
    return left >= n ? n : left > 0 ? left : 0;
}

static int unreadable(int fd) {
    return counter && reads >= 0 && inside(fd) && __atomic_fetch_add(&counter[1], 1, __ATOMIC_SEQ_CST) >= reads;
}

#define REAL(type, name, ...) static type (*real)(__VA_ARGS__); if (!real) real = dlsym(RTLD_NEXT, #name)
#define FULL(n, m) if ((n) > 0 && (m) == 0) { errno = ENOSPC; return -1; }
#define BAD(fd) if (unreadable(fd)) { errno = EIO; return -1; }

ssize_t write(int fd, const void *from, size_t n) {
    REAL(ssize_t, write, int, const void *, size_t);
    long m = fits(fd, n);
    FULL(n, m)
    return real(fd, from, m);
}
ssize_t pwrite(int fd, const void *from, size_t n, off_t at) {
    REAL(ssize_t, pwrite, int, const void *, size_t, off_t);
    long m = fits(fd, n);
    FULL(n, m)
    return real(fd, from, m, at);
}
ssize_t pwrite64(int fd, const void *from, size_t n, off64_t at) {
    REAL(ssize_t, pwrite64, int, const void *, size_t, off64_t);
    long m = fits(fd, n);
    FULL(n, m)
    return real(fd, from, m, at);
}
ssize_t writev(int fd, const struct iovec *parts, int count) {
    REAL(ssize_t, writev, int, const struct iovec *, int);
    long n = 0;
    for (int i = 0; i < count; i++) n += parts[i].iov_len;
    FULL(n, fits(fd, n) == n)
    return real(fd, parts, count);
}
size_t fwrite(const void *from, size_t size, size_t n, FILE *file) {
    REAL(size_t, fwrite, const void *, size_t, size_t, FILE *);
    if (size && n && fits(fileno(file), size * n) < (long)(size * n)) { errno = ENOSPC; return 0; }
    return real(from, size, n, file);
}
ssize_t read(int fd, void *to, size_t n) {
    REAL(ssize_t, read, int, void *, size_t);
    BAD(fd)
    return real(fd, to, n);
}
ssize_t pread(int fd, void *to, size_t n, off_t at) {
    REAL(ssize_t, pread, int, void *, size_t, off_t);
    BAD(fd)
    return real(fd, to, n, at);
}
ssize_t pread64(int fd, void *to, size_t n, off64_t at) {
    REAL(ssize_t, pread64, int, void *, size_t, off64_t);
    BAD(fd)
    return real(fd, to, n, at);
}
int clock_gettime(clockid_t which, struct timespec *to) {
    REAL(int, clock_gettime, clockid_t, struct timespec *);
    int code = real(which, to);
    if (!code && which == CLOCK_REALTIME) to->tv_sec -= behind;
    return code;
}
int gettimeofday(struct timeval *to, void *zone) {
    REAL(int, gettimeofday, struct timeval *, void *);
    int code = real(to, zone);
    if (!code) to->tv_sec -= behind;
    return code;
}
time_t time(time_t *to) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (to) *to = now.tv_sec;
    return now.tv_sec;
}
