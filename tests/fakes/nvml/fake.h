/* What the files of the fake share: NVML's documented ABI, and the door every call comes through. */
#ifndef FAKE_NVML_H
#define FAKE_NVML_H

#include <stddef.h>
#include <stdint.h>

#include "state.h"

#define EXPORT __attribute__((visibility("default")))

/* nvmlReturn_t, by the numbers of the NVML reference. */
enum code {
    SUCCESS = 0,
    UNINITIALIZED = 1,
    INVALID_ARGUMENT = 2,
    NOT_SUPPORTED = 3,
    NOT_FOUND = 6,
    INSUFFICIENT_SIZE = 7,
    DRIVER_NOT_LOADED = 9,
    TIMED_OUT = 10,
    VERSION_MISMATCH = 25,
};

/* nvmlValueType_t */
enum value_type { TYPE_UINT = 1, TYPE_ULL = 3 };

typedef struct opaque_device *device_handle;

enum function {
#define FUNCTION(name, answers) FN_##name,
#include "functions.def"
#undef FUNCTION
    FUNCTION_COUNT
};

/* A call that got through the door. `instance` is NULL for a whole GPU.
 * `instance` is the shared slot: copy what must be of one moment. */
struct call {
    struct state *state;
    struct gpu *gpu;
    struct instance *instance;
    struct site *site;
    uint32_t position;
};

/* Count the call, then hang, sleep or fail as the scenario says. 0 when the call may go on. */
int enter_system(enum function function, struct call *call);
int enter_device(enum function function, device_handle device, struct call *call);

/* Leave early with the door's answer. */
#define ENTER_SYSTEM(function, call)                                                                   \
    do {                                                                                               \
        int door = enter_system(FN_##function, call);                                                  \
        if (door != SUCCESS) return door;                                                              \
    } while (0)
#define ENTER_DEVICE(function, device, call)                                                           \
    do {                                                                                               \
        int door = enter_device(FN_##function, device, call);                                          \
        if (door != SUCCESS) return door;                                                              \
    } while (0)

/* state.c: the mapped file, its clock and its faults. */
struct state *map_state(void);
int hang_up_bell(void);
void ring(void);
void quieten(int bell);
int64_t monotonic_ns(void);
void sleep_ns(int64_t duration_ns);
int64_t sensor_time_ns(const struct state *state);
int64_t wall_us(const struct state *state, int64_t at_ns);
int take_fault(struct fault *fault);
uint32_t change_begin(const struct state *state);
int change_seen(const struct state *state, uint32_t begun);

/* curve.c: exact arithmetic on the power curve. */
uint64_t energy_mj(const struct state *state, const struct gpu *gpu);
uint32_t power_mw(const struct state *state, const struct gpu *gpu, int64_t at_ns);
uint32_t average_mw(const struct state *state, const struct gpu *gpu, int64_t at_ns);

/* system.c: what this process made of the state when it initialised. */
struct session {
    struct state *state;  /* NULL while not initialised */
    uint32_t generation;  /* one more with each first init */
    uint32_t count;
    uint32_t order[GPU_MAX];
    uint32_t losses[GPU_MAX];
};
extern struct session session;

device_handle handle_of(uint32_t position, uint32_t slot); /* slot 0: the GPU, else the instance + 1 */
int index_of(uint32_t position);
int lost_code(const struct state *state, uint32_t position);
int put_text(const char *text, char *to, uint32_t size);

#endif
