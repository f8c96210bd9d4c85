/* The state that a test writes and the library reads: one file, mapped by both.
 *
 * The Python driver mirrors this layout in layout.py; magic, version and size keep the two in step.
 * Whole numbers only. Times are scenario nanoseconds unless a name says otherwise.
 * Lists and curves change between two increments of `change`: a reader that met an odd or a moved
 * `change` looks again. Everything else is one aligned word that may change at any time.
 */
#ifndef FAKE_NVML_STATE_H
#define FAKE_NVML_STATE_H

#include <stdint.h>

#define STATE_MAGIC 0x31304C4D564E5357u /* "WSNVML01" */
#define STATE_VERSION 1u

#define GPU_MAX 16
#define INSTANCE_MAX 7    /* nvmlDeviceGetMaxMigDeviceCount of A100 and H100 */
#define PROCESS_MAX 128
#define POINT_MAX 512
#define FIELD_MAX 320     /* above the newest field id that we know (308) */
#define SCOPE_MAX 4
#define FUNCTION_MAX 96
#define EVENT_MAX 256
#define CLOCK_DOMAIN_MAX 4

#define FOR_GOOD 0xFFFFu
#define FIELD_ABSENT 0xFFu
#define NOT_MIG 0xFFFFFFFFu

/* What a call or field answers instead: 0 for nothing, else a return code for the next `left` times. */
struct fault {
    uint16_t code;
    uint16_t left;
};

/* A point of the power curve; straight lines between points, of two at one time the later counts. */
struct point {
    int64_t at_ns;
    int64_t power_mw;
};

struct process {
    uint64_t memory_bytes; /* all ones: the driver does not say */
    uint32_t pid;
    uint32_t kind; /* 0 compute, 1 graphics, 2 MPS, as in the process detail list */
    uint32_t gpu_instance;
    uint32_t compute_instance;
    uint32_t sm_percent;
    uint32_t mem_percent;
    uint32_t enc_percent;
    uint32_t dec_percent;
};

struct instance {
    uint64_t memory_bytes;
    uint32_t present; /* 0 is a hole in the index */
    uint32_t gpu_instance;
    uint32_t compute_instance;
    uint32_t slices;
    uint32_t sm_count;
    uint32_t compute_slices;
    char uuid[96];
    char profile[32];
};

/* Where calls arrive: at one GPU, or (the last) at the library as a whole. */
struct site {
    struct fault functions[FUNCTION_MAX];
    struct fault fields[FIELD_MAX][SCOPE_MAX];
    int64_t hang_until_ns[FUNCTION_MAX]; /* CLOCK_MONOTONIC; 0 for no hang */
    uint64_t calls[FUNCTION_MAX];
    uint32_t slow_ms[FUNCTION_MAX];
};

struct gpu {
    char uuid[96];
    char name[96];
    char serial[32];

    struct point curve[POINT_MAX];
    int64_t repeat_ns; /* 0: the last point holds for ever */
    int64_t phase_ns;
    int64_t base_mj;
    int64_t frozen_at_ns; /* -1: runs */
    int64_t fixed_mj;     /* -1: follows the curve */
    uint64_t field_values[FIELD_MAX];
    uint8_t field_types[FIELD_MAX];
    uint64_t memory_total_bytes;
    uint64_t memory_used_bytes;
    uint64_t clock_event_reasons;
    uint64_t event_types;
    struct process processes[PROCESS_MAX];
    struct instance instances[INSTANCE_MAX];
    uint32_t points;
    uint32_t process_count;
    uint32_t usage_is_average; /* nvmlDeviceGetPowerUsage: the last second's mean, else the instant */
    uint32_t memory_power_mw;  /* field 185 in memory scope */
    int32_t more_mw[SCOPE_MAX]; /* power in a scope: so much more than on the curve, which the counter counts */
    uint32_t mig_enabled;
    uint32_t mig_slices; /* of the whole GPU */
    uint32_t architecture;
    uint32_t capability_major;
    uint32_t capability_minor;
    uint32_t pci_bus;
    uint32_t pci_device_id;
    uint32_t utilization_percent;
    uint32_t memory_utilization_percent;
    uint32_t temperature_c;
    uint32_t clocks_mhz[CLOCK_DOMAIN_MAX];
    uint32_t max_clocks_mhz[CLOCK_DOMAIN_MAX];
    uint32_t lost_code;   /* 0: here */
    uint32_t losses;      /* handles of an init that saw fewer stay lost */
    uint32_t unlisted;    /* gone from the count at the next init */
};

struct event {
    uint64_t type;
    uint64_t payload;
    uint32_t gpu;
    uint32_t gpu_instance;
    uint32_t compute_instance;
    uint32_t reserved;
};

struct state {
    uint64_t magic;
    uint32_t version;
    uint32_t size;
    uint32_t change;
    uint32_t gpu_count;
    uint32_t real_clock;
    uint32_t cuda_version;
    int64_t now_ns;       /* manual clock */
    int64_t epoch_ns;     /* real clock: CLOCK_MONOTONIC at time 0 */
    int64_t wall_epoch_us;
    int64_t refresh_ns;
    uint64_t event_head;
    int32_t inits;        /* the three below are sums over the processes that use this state */
    int32_t event_sets;
    int32_t waiting;
    int32_t hung;
    uint32_t order[GPU_MAX]; /* position by NVML index, taken over at init */
    char driver_version[80];
    char nvml_version[80];
    struct event events[EVENT_MAX];
    struct site sites[GPU_MAX + 1];
    struct gpu gpus[GPU_MAX];
};

#endif
