/* The mapped state file: finding it, reading it while a test changes it, its clock and its faults. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "fake.h"

#define NS_PER_S 1000000000LL
#define STATE_VARIABLE "FAKE_NVML_STATE"

static struct state *refuse(const char *path, const char *why) {
    fprintf(stderr, "fake NVML: " STATE_VARIABLE "=%s: %s\n", path ? path : "", why);
    return NULL;
}

static struct state *map_file(const char *path, int file, int64_t size) {
    if (size != sizeof(struct state)) return refuse(path, "of another size than this library's state");
    void *memory = mmap(NULL, sizeof(struct state), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (memory == MAP_FAILED) return refuse(path, "cannot map");
    struct state *state = memory;
    if (state->magic != STATE_MAGIC || state->version != STATE_VERSION || state->size != sizeof *state)
        return refuse(path, "not a state file of this library");
    return state;
}

static char mapped_path[PATH_MAX];

/* The state named by the environment now; the caller sees to it that one thread maps at a time.
 * A mapping is never undone: a hung call on a forgotten thread may still look at it. */
struct state *map_state(void) {
    static struct state *mapped;
    static struct stat mapped_file;
    const char *path = getenv(STATE_VARIABLE);
    if (path == NULL) return refuse(path, "names no state file");
    int file = open(path, O_RDWR | O_CLOEXEC);
    struct stat found;
    if (file < 0 || fstat(file, &found) != 0) return refuse(path, "cannot open");
    if (mapped == NULL || found.st_ino != mapped_file.st_ino || found.st_dev != mapped_file.st_dev) {
        mapped = map_file(path, file, found.st_size);
        mapped_file = found;
        snprintf(mapped_path, sizeof mapped_path, "%s", path);
    }
    close(file);
    return mapped;
}

/* A file descriptor that is readable once somebody has rung; -1 where there is none left. */
int hang_up_bell(void) {
    int bell = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (bell >= 0) inotify_add_watch(bell, mapped_path, IN_ATTRIB);
    return bell;
}

/* Wake those that wait: writing to a mapping tells nobody, touching its file does. */
void ring(void) {
    utimensat(AT_FDCWD, mapped_path, NULL, 0);
}

void quieten(int bell) {
    char rings[1024];
    while (read(bell, rings, sizeof rings) > 0) continue;
}

int64_t monotonic_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * NS_PER_S + now.tv_nsec;
}

void sleep_ns(int64_t duration_ns) {
    struct timespec rest = {duration_ns / NS_PER_S, duration_ns % NS_PER_S};
    while (nanosleep(&rest, &rest) != 0) continue;
}

/* When the sensors last looked: scenario time rounded down to their refresh period. */
int64_t sensor_time_ns(const struct state *state) {
    int64_t now_ns = state->real_clock ? monotonic_ns() - state->epoch_ns
                                       : __atomic_load_n(&state->now_ns, __ATOMIC_ACQUIRE);
    if (now_ns < 0) return 0;
    return state->refresh_ns ? now_ns - now_ns % state->refresh_ns : now_ns;
}

int64_t wall_us(const struct state *state, int64_t at_ns) {
    return state->wall_epoch_us + at_ns / 1000;
}

/* The code to answer, using up one of the times left; 0 when there is no fault. */
int take_fault(struct fault *fault) {
    struct fault seen;
    __atomic_load(fault, &seen, __ATOMIC_ACQUIRE);
    while (seen.code != SUCCESS && seen.left != FOR_GOOD) {
        struct fault next = {seen.code, seen.left - 1};
        if (next.left == 0) next.code = SUCCESS;
        if (__atomic_compare_exchange(fault, &seen, &next, 0, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) break;
    }
    return seen.code;
}

/* A reader's pair around whatever the test changes in several words: read again if it was seen to move. */
uint32_t change_begin(const struct state *state) {
    for (;;) {
        uint32_t change = __atomic_load_n(&state->change, __ATOMIC_ACQUIRE);
        if (change % 2 == 0) return change;
        sched_yield();
    }
}

int change_seen(const struct state *state, uint32_t begun) {
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    return __atomic_load_n(&state->change, __ATOMIC_RELAXED) != begun;
}
