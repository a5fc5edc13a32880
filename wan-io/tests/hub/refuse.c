// Refuses calls as some file systems do: REFUSED="symlink=1,fsync=22" gives each call its errno. Loaded
// before the C library (LD_PRELOAD).
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static int refused(const char *call) {
    const char *list = getenv("REFUSED");
    size_t length = strlen(call);
    for (const char *at = list; at && (at = strstr(at, call)); at += length)
        if ((at == list || at[-1] == ',') && at[length] == '=') return errno = atoi(at + length + 1);
    return 0;
}

#define REFUSE(type, name, parameters, arguments)                                                  \
    type name parameters {                                                                         \
        if (refused(#name)) return -1;                                                             \
        return ((type(*) parameters)dlsym(RTLD_NEXT, #name))arguments;                             \
    }

REFUSE(int, symlink, (const char *target, const char *path), (target, path))
REFUSE(int, linkat, (int from, const char *a, int to, const char *b, int flags), (from, a, to, b, flags))
REFUSE(int, rename, (const char *from, const char *to), (from, to))
REFUSE(int, mkdir, (const char *path, mode_t mode), (path, mode))
REFUSE(int, flock, (int file, int operation), (file, operation))
REFUSE(int, fsync, (int file), (file))

// Only of downloads.
ssize_t write(int file, const void *bytes, size_t count) {
    char link[64], path[4096] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    if (readlink(link, path, sizeof path - 1) > 0 && strstr(path, ".incomplete") && refused("write")) return -1;
    return ((ssize_t(*)(int, const void *, size_t))dlsym(RTLD_NEXT, "write"))(file, bytes, count);
}

// Only for writing, and only what is in a cache.
int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
    va_end(rest);
    if ((flags & O_ACCMODE) != O_RDONLY && strstr(path, "/cache/") && refused("open")) return -1;
    return ((int (*)(const char *, int, ...))dlsym(RTLD_NEXT, "open64"))(path, flags, mode);
}
