/* Event sets: registering, and a wait that really blocks. */
#include <poll.h>
#include <pthread.h>
#include <unistd.h>

#include "fake.h"

#define SETS 16
#define NS_PER_MS 1000000LL

struct event_set {
    int in_use;
    uint32_t generation;
    uint64_t cursor; /* first event not yet looked at */
    uint64_t types[GPU_MAX];
};

struct event_data {
    device_handle device;
    uint64_t type, payload;
    uint32_t gpu_instance, compute_instance;
};

_Static_assert(sizeof(struct event_data) == 32, "nvmlEventData_t");

static struct event_set sets[SETS];
static pthread_mutex_t sets_lock = PTHREAD_MUTEX_INITIALIZER;

/* A set of an earlier init, a freed one and a stray pointer are all the same error. */
static int is_open(const struct event_set *set) {
    uintptr_t offset = (uintptr_t)set - (uintptr_t)sets;
    if (set == NULL || offset >= sizeof sets || offset % sizeof sets[0] != 0) return 0;
    return __atomic_load_n(&set->in_use, __ATOMIC_ACQUIRE) && set->generation == session.generation;
}

EXPORT int nvmlEventSetCreate(struct event_set **set) {
    struct call call;
    ENTER_SYSTEM(nvmlEventSetCreate, &call);
    if (set == NULL) return INVALID_ARGUMENT;
    pthread_mutex_lock(&sets_lock);
    struct event_set *found = NULL;
    for (int i = 0; i < SETS && found == NULL; i++)
        if (!is_open(&sets[i])) found = &sets[i];
    if (found != NULL) *found = (struct event_set){1, session.generation, call.state->event_head, {0}};
    pthread_mutex_unlock(&sets_lock);
    if (found == NULL) return 999;
    __atomic_add_fetch(&call.state->event_sets, 1, __ATOMIC_ACQ_REL);
    *set = found;
    return SUCCESS;
}

EXPORT int nvmlEventSetFree(struct event_set *set) {
    struct call call;
    ENTER_SYSTEM(nvmlEventSetFree, &call);
    pthread_mutex_lock(&sets_lock);
    int code = is_open(set) ? SUCCESS : INVALID_ARGUMENT;
    if (code == SUCCESS) __atomic_store_n(&set->in_use, 0, __ATOMIC_RELEASE);
    pthread_mutex_unlock(&sets_lock);
    if (code != SUCCESS) return code;
    __atomic_sub_fetch(&call.state->event_sets, 1, __ATOMIC_ACQ_REL);
    ring();
    return SUCCESS;
}

EXPORT int nvmlDeviceGetSupportedEventTypes(device_handle device, unsigned long long *types) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetSupportedEventTypes, device, &call);
    if (types == NULL) return INVALID_ARGUMENT;
    *types = call.gpu->event_types;
    return SUCCESS;
}

EXPORT int nvmlDeviceRegisterEvents(device_handle device, unsigned long long types, struct event_set *set) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceRegisterEvents, device, &call);
    if (!is_open(set)) return INVALID_ARGUMENT;
    if (types & ~call.gpu->event_types) return NOT_SUPPORTED;
    set->types[call.position] |= types;
    return SUCCESS;
}

/* The next registered event that the set has not seen; 0 when there is none. */
static int next_event(struct state *state, struct event_set *set, struct event_data *data) {
    uint64_t head = __atomic_load_n(&state->event_head, __ATOMIC_ACQUIRE);
    if (head - set->cursor > EVENT_MAX) set->cursor = head - EVENT_MAX; /* overwritten meanwhile */
    while (set->cursor < head) {
        const struct event *event = &state->events[set->cursor++ % EVENT_MAX];
        if (!(set->types[event->gpu] & event->type)) continue;
        *data = (struct event_data){handle_of(event->gpu, 0), event->type, event->payload,
                                    event->gpu_instance, event->compute_instance};
        return 1;
    }
    return 0;
}

static int registered_loss(const struct state *state, const struct event_set *set) {
    for (uint32_t i = 0; i < state->gpu_count; i++)
        if (set->types[i] && lost_code(state, i) != SUCCESS) return lost_code(state, i);
    return SUCCESS;
}

/* Sleep on a file, as a real driver's wait does, so that waiting costs the caller nothing. */
static void listen_for(int bell, int64_t duration_ns) {
    struct pollfd ear = {.fd = bell, .events = POLLIN};
    if (poll(&ear, 1, (int)((duration_ns + NS_PER_MS - 1) / NS_PER_MS)) > 0) quieten(bell);
}

static int wait_for(struct state *state, struct event_set *set, struct event_data *data, int bell,
                    int64_t until_ns) {
    for (;;) {
        if (session.state == NULL) return UNINITIALIZED;
        if (!is_open(set)) return INVALID_ARGUMENT;
        if (next_event(state, set, data)) return SUCCESS;
        int lost = registered_loss(state, set);
        if (lost != SUCCESS) return lost;
        int64_t left_ns = until_ns - monotonic_ns();
        if (left_ns <= 0) return TIMED_OUT;
        listen_for(bell, left_ns);
    }
}

/* A registered GPU that is lost ends the wait at once, after the events that came before. */
EXPORT int nvmlEventSetWait_v2(struct event_set *set, struct event_data *data, unsigned int timeout_ms) {
    struct call call;
    ENTER_SYSTEM(nvmlEventSetWait_v2, &call);
    if (data == NULL) return INVALID_ARGUMENT;
    int bell = hang_up_bell(); /* before anybody can see that we wait, so that no ring is missed */
    if (bell < 0) return 999;
    __atomic_add_fetch(&call.state->waiting, 1, __ATOMIC_ACQ_REL);
    int code = wait_for(call.state, set, data, bell, monotonic_ns() + timeout_ms * NS_PER_MS);
    __atomic_sub_fetch(&call.state->waiting, 1, __ATOMIC_ACQ_REL);
    close(bell);
    return code;
}
