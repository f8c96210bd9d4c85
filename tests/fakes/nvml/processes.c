/* Who uses a GPU, by the running-process lists and by both process-utilization calls. */
#include <string.h>

#include "fake.h"

enum kind { COMPUTE, GRAPHICS, MPS, ALL_KINDS };

struct process_info {
    uint32_t pid;
    uint64_t memory_bytes;
    uint32_t gpu_instance, compute_instance;
#ifdef FAKE_5FIELD_PROCESS
    uint64_t protected_memory_bytes; /* only some R535-era libraries have this member in _v3 */
#endif
};

struct process_detail {
    uint32_t pid;
    uint64_t memory_bytes;
    uint32_t gpu_instance, compute_instance;
    uint64_t protected_memory_bytes;
};

struct process_detail_list {
    uint32_t version, kind, count;
    struct process_detail *details;
};

struct process_sample {
    uint32_t pid;
    uint64_t timestamp_us;
    uint32_t sm, mem, enc, dec;
};

struct process_use {
    uint64_t timestamp_us;
    uint32_t pid, sm, mem, enc, dec, jpg, ofa;
};

struct process_use_list {
    uint32_t version, count;
    uint64_t last_seen_us;
    struct process_use *uses;
};

#ifndef FAKE_5FIELD_PROCESS
_Static_assert(sizeof(struct process_info) == 24, "nvmlProcessInfo_t, v3");
#endif
_Static_assert(sizeof(struct process_detail) == 32, "nvmlProcessDetail_v1_t");
_Static_assert(sizeof(struct process_detail_list) == 24, "nvmlProcessDetailList_v1_t");
_Static_assert(sizeof(struct process_sample) == 32, "nvmlProcessUtilizationSample_t");
_Static_assert(sizeof(struct process_use) == 40, "nvmlProcessUtilizationInfo_v1_t");
_Static_assert(sizeof(struct process_use_list) == 24, "nvmlProcessesUtilizationInfo_v1_t");

#define DETAIL_LIST_V1 0x01000018u
#define USE_LIST_V1 0x01000018u

struct list {
    uint32_t count;
    struct process processes[PROCESS_MAX];
};

static int belongs(const struct call *call, const struct process *process, enum kind kind) {
    if (kind != ALL_KINDS && process->kind != kind) return 0;
    if (call->instance == NULL) return 1;
    return process->gpu_instance == call->instance->gpu_instance &&
           process->compute_instance == call->instance->compute_instance;
}

/* The processes of one moment, even while the test replaces them. */
static struct list processes_of(const struct call *call, enum kind kind) {
    struct list list;
    uint32_t begun;
    do {
        begun = change_begin(call->state);
        list.count = 0;
        for (uint32_t i = 0; i < call->gpu->process_count && i < PROCESS_MAX; i++)
            if (belongs(call, &call->gpu->processes[i], kind))
                list.processes[list.count++] = call->gpu->processes[i];
    } while (change_seen(call->state, begun));
    return list;
}

static int running(const struct call *call, enum kind kind, unsigned int *count, struct process_info *infos) {
    if (count == NULL) return INVALID_ARGUMENT;
    struct list list = processes_of(call, kind);
    unsigned int room = infos ? *count : 0;
    *count = list.count;
    if (room < list.count) return INSUFFICIENT_SIZE;
    for (uint32_t i = 0; i < list.count; i++) {
        const struct process *process = &list.processes[i];
        infos[i] = (struct process_info){.pid = process->pid,
                                         .memory_bytes = process->memory_bytes,
                                         .gpu_instance = process->gpu_instance,
                                         .compute_instance = process->compute_instance};
    }
    return SUCCESS;
}

EXPORT int nvmlDeviceGetComputeRunningProcesses_v3(device_handle device, unsigned int *count,
                                                   struct process_info *infos) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetComputeRunningProcesses_v3, device, &call);
    return running(&call, COMPUTE, count, infos);
}

EXPORT int nvmlDeviceGetGraphicsRunningProcesses_v3(device_handle device, unsigned int *count,
                                                    struct process_info *infos) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetGraphicsRunningProcesses_v3, device, &call);
    return running(&call, GRAPHICS, count, infos);
}

EXPORT int nvmlDeviceGetMPSComputeRunningProcesses_v3(device_handle device, unsigned int *count,
                                                      struct process_info *infos) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetMPSComputeRunningProcesses_v3, device, &call);
    return running(&call, MPS, count, infos);
}

/* nvitop tells the five-member struct by the pair: the first of these two present, the second absent. */
#ifdef FAKE_5FIELD_PROCESS
EXPORT int nvmlDeviceGetConfComputeMemSizeInfo(device_handle device, uint64_t kib[2]) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetConfComputeMemSizeInfo, device, &call);
    if (kib == NULL) return INVALID_ARGUMENT;
    kib[0] = 0;                                       /* protected */
    kib[1] = call.gpu->memory_total_bytes / 1024;     /* unprotected */
    return SUCCESS;
}
#elif !defined FAKE_OLD_DRIVER
EXPORT int nvmlDeviceGetRunningProcessDetailList(device_handle device, struct process_detail_list *to) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetRunningProcessDetailList, device, &call);
    if (to == NULL) return INVALID_ARGUMENT;
    if (to->version != DETAIL_LIST_V1) return VERSION_MISMATCH;
    if (to->kind > ALL_KINDS) return INVALID_ARGUMENT;
    struct list list = processes_of(&call, to->kind);
    unsigned int room = to->details ? to->count : 0;
    to->count = list.count;
    if (room < list.count) return INSUFFICIENT_SIZE;
    for (uint32_t i = 0; i < list.count; i++) {
        const struct process *process = &list.processes[i];
        to->details[i] = (struct process_detail){.pid = process->pid,
                                                 .memory_bytes = process->memory_bytes,
                                                 .gpu_instance = process->gpu_instance,
                                                 .compute_instance = process->compute_instance};
    }
    return SUCCESS;
}
#endif

/* One sample for each process that did anything, as of the last sensor look; none that was seen before. */
static struct list active(const struct call *call, uint64_t timestamp_us, uint64_t last_seen_us) {
    struct list list = processes_of(call, ALL_KINDS);
    uint32_t kept = 0;
    for (uint32_t i = 0; i < list.count; i++) {
        const struct process *process = &list.processes[i];
        if (process->sm_percent | process->mem_percent | process->enc_percent | process->dec_percent)
            list.processes[kept++] = *process;
    }
    list.count = timestamp_us > last_seen_us ? kept : 0;
    return list;
}

EXPORT int nvmlDeviceGetProcessUtilization(device_handle device, struct process_sample *samples,
                                           unsigned int *count, unsigned long long last_seen_us) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetProcessUtilization, device, &call);
    if (count == NULL) return INVALID_ARGUMENT;
    uint64_t timestamp_us = (uint64_t)wall_us(call.state, sensor_time_ns(call.state));
    struct list list = active(&call, timestamp_us, last_seen_us);
    unsigned int room = samples ? *count : 0;
    *count = list.count;
    if (list.count == 0) return NOT_FOUND;
    if (room < list.count) return INSUFFICIENT_SIZE;
    for (uint32_t i = 0; i < list.count; i++) {
        const struct process *process = &list.processes[i];
        samples[i] = (struct process_sample){process->pid,         timestamp_us,
                                             process->sm_percent,  process->mem_percent,
                                             process->enc_percent, process->dec_percent};
    }
    return SUCCESS;
}

#ifndef FAKE_OLD_DRIVER
EXPORT int nvmlDeviceGetProcessesUtilizationInfo(device_handle device, struct process_use_list *to) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetProcessesUtilizationInfo, device, &call);
    if (to == NULL) return INVALID_ARGUMENT;
    if (to->version != USE_LIST_V1) return VERSION_MISMATCH;
    uint64_t timestamp_us = (uint64_t)wall_us(call.state, sensor_time_ns(call.state));
    struct list list = active(&call, timestamp_us, to->last_seen_us);
    unsigned int room = to->uses ? to->count : 0;
    to->count = list.count;
    if (list.count == 0) return NOT_FOUND;
    if (room < list.count) return INSUFFICIENT_SIZE;
    for (uint32_t i = 0; i < list.count; i++) {
        const struct process *process = &list.processes[i];
        to->uses[i] = (struct process_use){.timestamp_us = timestamp_us,
                                           .pid = process->pid,
                                           .sm = process->sm_percent,
                                           .mem = process->mem_percent,
                                           .enc = process->enc_percent,
                                           .dec = process->dec_percent};
    }
    return SUCCESS;
}
#endif
