/* Initialisation, handles, enumeration, and the door that every call comes through. */
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "fake.h"

#define GENERATIONS 64
#define SLOTS (1 + INSTANCE_MAX)
#define HANG_STEP_NS 5000000LL

enum answers { SYSTEM, ANY, PHYSICAL, UNDIVIDED, INSTANCE };

static const enum answers answers_of[] = {
#define FUNCTION(name, answers) [FN_##name] = answers,
#include "functions.def"
#undef FUNCTION
};

_Static_assert(FUNCTION_COUNT <= FUNCTION_MAX, "the state has too few rows for the functions");

struct session session;
static int references;
static pthread_mutex_t init_lock = PTHREAD_MUTEX_INITIALIZER;

/* A handle is an address in this table and nothing more: its place says which init, GPU and slot it is of.
 * So a handle of an earlier init is known as stale until that many inits have passed. */
static char handles[GENERATIONS][GPU_MAX][SLOTS];

device_handle handle_of(uint32_t position, uint32_t slot) {
    return (device_handle)(void *)&handles[session.generation % GENERATIONS][position][slot];
}

static int resolve(device_handle device, uint32_t *position, uint32_t *slot) {
    uintptr_t offset = (uintptr_t)device - (uintptr_t)handles;
    if (device == NULL || offset >= sizeof handles) return INVALID_ARGUMENT;
    if (offset / (GPU_MAX * SLOTS) != session.generation % GENERATIONS) return INVALID_ARGUMENT;
    *position = offset / SLOTS % GPU_MAX;
    *slot = offset % SLOTS;
    return SUCCESS;
}

/* The NVML index of a GPU in this init, or -1. */
int index_of(uint32_t position) {
    for (uint32_t i = 0; i < session.count; i++)
        if (session.order[i] == position) return (int)i;
    return -1;
}

/* A lost GPU stays lost for an init that saw it before: only a new init finds it again. */
int lost_code(const struct state *state, uint32_t position) {
    const struct gpu *gpu = &state->gpus[position];
    if (gpu->lost_code != SUCCESS) return (int)gpu->lost_code;
    return gpu->losses == session.losses[position] ? SUCCESS : 15;
}

int put_text(const char *text, char *to, uint32_t size) {
    if (to == NULL) return INVALID_ARGUMENT;
    if (strlen(text) >= size) return INSUFFICIENT_SIZE;
    strcpy(to, text);
    return SUCCESS;
}

static void hang(struct state *state, const int64_t *until_ns) {
    if (monotonic_ns() >= __atomic_load_n(until_ns, __ATOMIC_ACQUIRE)) return;
    __atomic_add_fetch(&state->hung, 1, __ATOMIC_ACQ_REL);
    while (monotonic_ns() < __atomic_load_n(until_ns, __ATOMIC_ACQUIRE)) sleep_ns(HANG_STEP_NS);
    __atomic_sub_fetch(&state->hung, 1, __ATOMIC_ACQ_REL);
}

/* Holds no lock, so that a call that hangs or sleeps here keeps no other from going on. */
static int pass(enum function function, struct state *state, struct site *site) {
    __atomic_add_fetch(&site->calls[function], 1, __ATOMIC_ACQ_REL);
    if (site->hang_until_ns[function] != 0) hang(state, &site->hang_until_ns[function]);
    if (site->slow_ms[function] != 0) sleep_ns(site->slow_ms[function] * 1000000LL);
    return take_fault(&site->functions[function]);
}

int enter_system(enum function function, struct call *call) {
    struct state *state = session.state;
    if (state == NULL) return UNINITIALIZED;
    *call = (struct call){.state = state, .site = &state->sites[GPU_MAX]};
    return pass(function, state, call->site);
}

int enter_device(enum function function, device_handle device, struct call *call) {
    struct state *state = session.state;
    if (state == NULL) return UNINITIALIZED;
    uint32_t position, slot;
    if (resolve(device, &position, &slot) != SUCCESS) return INVALID_ARGUMENT;
    struct gpu *gpu = &state->gpus[position];
    struct instance *instance = slot ? &gpu->instances[slot - 1] : NULL;
    *call = (struct call){state, gpu, instance, &state->sites[position], position};

    int fault = pass(function, state, call->site);
    if (session.state == NULL) return UNINITIALIZED; /* shut down while this call hung */
    if (fault != SUCCESS) return fault;
    int lost = lost_code(state, position);
    if (lost != SUCCESS) return lost;
    if (instance != NULL && (!gpu->mig_enabled || !instance->present)) return INVALID_ARGUMENT;

    switch (answers_of[function]) {
    case PHYSICAL: return instance == NULL ? SUCCESS : NOT_SUPPORTED;
    case UNDIVIDED: return instance == NULL && !gpu->mig_enabled ? SUCCESS : NOT_SUPPORTED;
    case INSTANCE: return instance != NULL ? SUCCESS : INVALID_ARGUMENT;
    default: return SUCCESS;
    }
}

/* Take over what only an init may change: order, count, and which GPUs are here. */
static void begin_session(struct state *state) {
    struct session next = {.state = state, .generation = session.generation + 1};
    for (uint32_t i = 0; i < state->gpu_count; i++) {
        uint32_t position = state->order[i];
        next.losses[position] = state->gpus[position].losses;
        if (!state->gpus[position].unlisted) next.order[next.count++] = position;
    }
    session = next;
}

EXPORT int nvmlInitWithFlags(unsigned int flags) {
    (void)flags;
    pthread_mutex_lock(&init_lock);
    struct state *state = references ? session.state : map_state();
    pthread_mutex_unlock(&init_lock);
    if (state == NULL) return DRIVER_NOT_LOADED;
    int fault = pass(FN_nvmlInitWithFlags, state, &state->sites[GPU_MAX]);
    if (fault != SUCCESS) return fault;

    pthread_mutex_lock(&init_lock);
    if (references++ == 0) begin_session(state);
    __atomic_add_fetch(&state->inits, 1, __ATOMIC_ACQ_REL);
    pthread_mutex_unlock(&init_lock);
    return SUCCESS;
}

EXPORT int nvmlInit_v2(void) { return nvmlInitWithFlags(0); }

EXPORT int nvmlShutdown(void) {
    struct call call;
    ENTER_SYSTEM(nvmlShutdown, &call);
    pthread_mutex_lock(&init_lock);
    int code = references ? SUCCESS : UNINITIALIZED;
    if (code == SUCCESS) {
        __atomic_sub_fetch(&call.state->inits, 1, __ATOMIC_ACQ_REL);
        if (--references == 0) session.state = NULL;
    }
    pthread_mutex_unlock(&init_lock);
    ring();
    return code;
}

/* Our own words; pynvml asks for them when it raises. */
EXPORT const char *nvmlErrorString(int code) {
    switch (code) {
    case 0: return "Success";
    case 1: return "Uninitialized";
    case 2: return "Invalid Argument";
    case 3: return "Not Supported";
    case 4: return "Insufficient Permissions";
    case 6: return "Not Found";
    case 7: return "Insufficient Size";
    case 9: return "Driver Not Loaded";
    case 10: return "Timeout";
    case 13: return "Function Not Found";
    case 15: return "GPU is lost";
    case 16: return "GPU requires reset";
    case 17: return "The operating system has blocked the request";
    case 18: return "RM has detected an NVML/RM version mismatch.";
    case 25: return "API call with an invalid version of the argument";
    case 28: return "GPU not found";
    case 999: return "Unknown Error";
    default: return "Error of the fake NVML";
    }
}

EXPORT int nvmlSystemGetDriverVersion(char *version, unsigned int length) {
    struct call call;
    ENTER_SYSTEM(nvmlSystemGetDriverVersion, &call);
    return put_text(call.state->driver_version, version, length);
}

EXPORT int nvmlSystemGetNVMLVersion(char *version, unsigned int length) {
    struct call call;
    ENTER_SYSTEM(nvmlSystemGetNVMLVersion, &call);
    return put_text(call.state->nvml_version, version, length);
}

static int put_cuda_version(const struct call *call, int *version) {
    if (version == NULL) return INVALID_ARGUMENT;
    *version = (int)call->state->cuda_version;
    return SUCCESS;
}

EXPORT int nvmlSystemGetCudaDriverVersion(int *version) {
    struct call call;
    ENTER_SYSTEM(nvmlSystemGetCudaDriverVersion, &call);
    return put_cuda_version(&call, version);
}

EXPORT int nvmlSystemGetCudaDriverVersion_v2(int *version) {
    struct call call;
    ENTER_SYSTEM(nvmlSystemGetCudaDriverVersion_v2, &call);
    return put_cuda_version(&call, version);
}

EXPORT int nvmlDeviceGetCount_v2(unsigned int *count) {
    struct call call;
    ENTER_SYSTEM(nvmlDeviceGetCount_v2, &call);
    if (count == NULL) return INVALID_ARGUMENT;
    *count = session.count;
    return SUCCESS;
}

static int hand_out(const struct call *call, uint32_t position, uint32_t slot, device_handle *device) {
    int lost = lost_code(call->state, position);
    if (lost != SUCCESS) return lost;
    *device = handle_of(position, slot);
    return SUCCESS;
}

EXPORT int nvmlDeviceGetHandleByIndex_v2(unsigned int index, device_handle *device) {
    struct call call;
    ENTER_SYSTEM(nvmlDeviceGetHandleByIndex_v2, &call);
    if (device == NULL || index >= session.count) return INVALID_ARGUMENT;
    return hand_out(&call, session.order[index], 0, device);
}

EXPORT int nvmlDeviceGetHandleByUUID(const char *uuid, device_handle *device) {
    struct call call;
    ENTER_SYSTEM(nvmlDeviceGetHandleByUUID, &call);
    if (uuid == NULL || device == NULL) return INVALID_ARGUMENT;
    for (uint32_t i = 0; i < session.count; i++) {
        uint32_t position = session.order[i];
        const struct gpu *gpu = &call.state->gpus[position];
        if (strcmp(gpu->uuid, uuid) == 0) return hand_out(&call, position, 0, device);
        for (uint32_t slot = 0; gpu->mig_enabled && slot < INSTANCE_MAX; slot++)
            if (gpu->instances[slot].present && strcmp(gpu->instances[slot].uuid, uuid) == 0)
                return hand_out(&call, position, slot + 1, device);
    }
    return NOT_FOUND;
}

EXPORT int nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, device_handle *device) {
    struct call call;
    ENTER_SYSTEM(nvmlDeviceGetHandleByPciBusId_v2, &call);
    unsigned int domain, bus, slot;
    if (bus_id == NULL || device == NULL || sscanf(bus_id, "%x:%x:%x", &domain, &bus, &slot) != 3)
        return INVALID_ARGUMENT;
    for (uint32_t i = 0; i < session.count; i++)
        if (domain == 0 && slot == 0 && call.state->gpus[session.order[i]].pci_bus == bus)
            return hand_out(&call, session.order[i], 0, device);
    return NOT_FOUND;
}
