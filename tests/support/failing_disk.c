/* Preloaded into a program: its writes and syncs of files below FAILING_DISK_DIRECTORY fail, or are slow, as the
 * number in the file FAILING_DISK_CONTROL says at that moment (failing_disk.py has the meanings). */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

enum { WORKS = 0, FULL = 1, SYNC_FAILS = 2, SYNC_SLOW = 3, READ_ONLY = 4 };

static volatile const int *state;
static const char *directory;

__attribute__((constructor)) static void begin(void) {
    const char *control = getenv("FAILING_DISK_CONTROL");
    directory = getenv("FAILING_DISK_DIRECTORY");
    if (control == NULL || directory == NULL) return;
    int file = open(control, O_RDONLY | O_CLOEXEC);
    if (file < 0) return;
    void *shared = mmap(NULL, sizeof(int), PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (shared != MAP_FAILED) state = shared;
}

static int now(int file) {
    if (state == NULL || *state == WORKS) return WORKS;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return WORKS;
    path[length] = 0;
    return strncmp(path, directory, strlen(directory)) == 0 ? *state : WORKS;
}

static int refused(int file) {
    int is = now(file);
    if (is == FULL) errno = ENOSPC;
    if (is == READ_ONLY) errno = EROFS;
    return is == FULL || is == READ_ONLY;
}

static int sync_fails(int file) {
    int is = now(file);
    if (is == SYNC_SLOW) {
        struct timespec wait = {0, 300 * 1000 * 1000};
        nanosleep(&wait, NULL);
    }
    if (is == SYNC_FAILS) errno = EIO;
    return is == SYNC_FAILS;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

int fsync(int file) { return sync_fails(file) ? -1 : REAL(fsync)(file); }
int fdatasync(int file) { return sync_fails(file) ? -1 : REAL(fdatasync)(file); }

ssize_t write(int file, const void *bytes, size_t size) {
    return refused(file) ? -1 : REAL(write)(file, bytes, size);
}
ssize_t pwrite(int file, const void *bytes, size_t size, off_t at) {
    return refused(file) ? -1 : REAL(pwrite)(file, bytes, size, at);
}
ssize_t pwrite64(int file, const void *bytes, size_t size, off64_t at) {
    return refused(file) ? -1 : REAL(pwrite64)(file, bytes, size, at);
}
int ftruncate(int file, off_t size) { return refused(file) ? -1 : REAL(ftruncate)(file, size); }
int ftruncate64(int file, off64_t size) { return refused(file) ? -1 : REAL(ftruncate64)(file, size); }
