/* What a GPU is and what its sensors show. */
#include <stdio.h>
#include <string.h>

#include "fake.h"

struct pci_info {
    char bus_id_legacy[16];
    unsigned int domain, bus, device, device_id, subsystem_id;
    char bus_id[32];
};

struct memory {
    uint64_t total, free, used;
};

struct memory_v2 {
    unsigned int version;
    uint64_t total, reserved, free, used;
};

struct temperature {
    unsigned int version, sensor;
    int celsius;
};

_Static_assert(sizeof(struct pci_info) == 68, "nvmlPciInfo_t");
_Static_assert(sizeof(struct memory) == 24, "nvmlMemory_t");
_Static_assert(sizeof(struct memory_v2) == 40, "nvmlMemory_v2_t");
_Static_assert(sizeof(struct temperature) == 12, "nvmlTemperature_v1_t");

#define MEMORY_V2 0x02000028u
#define TEMPERATURE_V1 0x0100000Cu
#define UTILIZATION_PERIOD_US 167000u /* a sixth of a second, the shortest that the reference names */

/* The most common shape: one unsigned number about a whole GPU. */
#define NUMBER(function, expression)                                                                   \
    EXPORT int function(device_handle device, unsigned int *to) {                                      \
        struct call call;                                                                              \
        ENTER_DEVICE(function, device, &call);                                                         \
        if (to == NULL) return INVALID_ARGUMENT;                                                       \
        *to = (unsigned int)(expression);                                                              \
        return SUCCESS;                                                                                \
    }

/* Field ids of the limits, in mW. */
enum { MIN_LIMIT = 187, MAX_LIMIT = 188, DEFAULT_LIMIT = 189, ENFORCED_LIMIT = 190, REQUESTED_LIMIT = 192 };

static uint32_t usage_mw(const struct call *call) {
    int64_t at_ns = sensor_time_ns(call->state);
    return call->gpu->usage_is_average ? average_mw(call->state, call->gpu, at_ns)
                                       : power_mw(call->state, call->gpu, at_ns);
}

NUMBER(nvmlDeviceGetMinorNumber, call.position)
NUMBER(nvmlDeviceGetArchitecture, call.gpu->architecture)
NUMBER(nvmlDeviceGetPersistenceMode, 1)
NUMBER(nvmlDeviceGetComputeMode, 0)
NUMBER(nvmlDeviceGetPerformanceState, 0)
NUMBER(nvmlDeviceGetDisplayActive, 0)
NUMBER(nvmlDeviceGetDisplayMode, 0)
NUMBER(nvmlDeviceGetPowerUsage, usage_mw(&call))
NUMBER(nvmlDeviceGetEnforcedPowerLimit, call.gpu->field_values[ENFORCED_LIMIT])
NUMBER(nvmlDeviceGetPowerManagementLimit, call.gpu->field_values[REQUESTED_LIMIT])
NUMBER(nvmlDeviceGetPowerManagementDefaultLimit, call.gpu->field_values[DEFAULT_LIMIT])
NUMBER(nvmlDeviceGetFanSpeed, 30)

EXPORT int nvmlDeviceGetUUID(device_handle device, char *uuid, unsigned int length) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetUUID, device, &call);
    return put_text(call.instance ? call.instance->uuid : call.gpu->uuid, uuid, length);
}

EXPORT int nvmlDeviceGetName(device_handle device, char *name, unsigned int length) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetName, device, &call);
    if (call.instance == NULL) return put_text(call.gpu->name, name, length);
    char full[sizeof call.gpu->name + sizeof call.instance->profile + 5];
    snprintf(full, sizeof full, "%s MIG %s", call.gpu->name, call.instance->profile);
    return put_text(full, name, length);
}

EXPORT int nvmlDeviceGetSerial(device_handle device, char *serial, unsigned int length) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetSerial, device, &call);
    return put_text(call.gpu->serial, serial, length);
}

EXPORT int nvmlDeviceGetIndex(device_handle device, unsigned int *index) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetIndex, device, &call);
    if (index == NULL) return INVALID_ARGUMENT;
    *index = call.instance ? (unsigned int)(call.instance - call.gpu->instances)
                           : (unsigned int)index_of(call.position);
    return SUCCESS;
}

EXPORT int nvmlDeviceGetPciInfo_v3(device_handle device, struct pci_info *pci) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetPciInfo_v3, device, &call);
    if (pci == NULL) return INVALID_ARGUMENT;
    *pci = (struct pci_info){.bus = call.gpu->pci_bus, .device_id = call.gpu->pci_device_id};
    snprintf(pci->bus_id_legacy, sizeof pci->bus_id_legacy, "0000:%02X:00.0", pci->bus & 0xFF);
    snprintf(pci->bus_id, sizeof pci->bus_id, "00000000:%02X:00.0", pci->bus & 0xFF);
    return SUCCESS;
}

EXPORT int nvmlDeviceGetCudaComputeCapability(device_handle device, int *major, int *minor) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetCudaComputeCapability, device, &call);
    if (major == NULL || minor == NULL) return INVALID_ARGUMENT;
    *major = (int)call.gpu->capability_major;
    *minor = (int)call.gpu->capability_minor;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetTotalEnergyConsumption(device_handle device, unsigned long long *mj) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetTotalEnergyConsumption, device, &call);
    if (mj == NULL) return INVALID_ARGUMENT;
    *mj = energy_mj(call.state, call.gpu);
    return SUCCESS;
}

EXPORT int nvmlDeviceGetPowerManagementLimitConstraints(device_handle device, unsigned int *least,
                                                        unsigned int *most) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetPowerManagementLimitConstraints, device, &call);
    if (least == NULL || most == NULL) return INVALID_ARGUMENT;
    *least = (unsigned int)call.gpu->field_values[MIN_LIMIT];
    *most = (unsigned int)call.gpu->field_values[MAX_LIMIT];
    return SUCCESS;
}

EXPORT int nvmlDeviceGetUtilizationRates(device_handle device, unsigned int rates[2]) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetUtilizationRates, device, &call);
    if (rates == NULL) return INVALID_ARGUMENT;
    rates[0] = call.gpu->utilization_percent;
    rates[1] = call.gpu->memory_utilization_percent;
    return SUCCESS;
}

static int idle_engine(unsigned int *percent, unsigned int *period_us) {
    if (percent == NULL || period_us == NULL) return INVALID_ARGUMENT;
    *percent = 0;
    *period_us = UTILIZATION_PERIOD_US;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetEncoderUtilization(device_handle device, unsigned int *percent,
                                           unsigned int *period_us) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetEncoderUtilization, device, &call);
    return idle_engine(percent, period_us);
}

EXPORT int nvmlDeviceGetDecoderUtilization(device_handle device, unsigned int *percent,
                                           unsigned int *period_us) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetDecoderUtilization, device, &call);
    return idle_engine(percent, period_us);
}

/* An instance's use is the sum over its processes. */
static struct memory memory_of(const struct call *call) {
    uint64_t total = call->instance ? call->instance->memory_bytes : call->gpu->memory_total_bytes;
    uint64_t used = call->instance ? 0 : call->gpu->memory_used_bytes;
    for (uint32_t i = 0; call->instance && i < call->gpu->process_count; i++) {
        const struct process *process = &call->gpu->processes[i];
        if (process->gpu_instance == call->instance->gpu_instance && process->memory_bytes != UINT64_MAX)
            used += process->memory_bytes;
    }
    return (struct memory){.total = total, .free = total > used ? total - used : 0, .used = used};
}

EXPORT int nvmlDeviceGetMemoryInfo(device_handle device, struct memory *memory) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetMemoryInfo, device, &call);
    if (memory == NULL) return INVALID_ARGUMENT;
    *memory = memory_of(&call);
    return SUCCESS;
}

#ifndef FAKE_OLD_DRIVER
EXPORT int nvmlDeviceGetMemoryInfo_v2(device_handle device, struct memory_v2 *memory) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetMemoryInfo_v2, device, &call);
    if (memory == NULL) return INVALID_ARGUMENT;
    if (memory->version != MEMORY_V2) return VERSION_MISMATCH;
    struct memory now = memory_of(&call);
    memory->total = now.total;
    memory->reserved = 0;
    memory->free = now.free;
    memory->used = now.used;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetTemperatureV(device_handle device, struct temperature *temperature) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetTemperatureV, device, &call);
    if (temperature == NULL) return INVALID_ARGUMENT;
    if (temperature->version != TEMPERATURE_V1) return VERSION_MISMATCH;
    if (temperature->sensor != 0) return INVALID_ARGUMENT;
    temperature->celsius = (int)call.gpu->temperature_c;
    return SUCCESS;
}
#endif

EXPORT int nvmlDeviceGetTemperature(device_handle device, unsigned int sensor, unsigned int *celsius) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetTemperature, device, &call);
    if (celsius == NULL || sensor != 0) return INVALID_ARGUMENT;
    *celsius = call.gpu->temperature_c;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetBAR1MemoryInfo(device_handle device, uint64_t bytes[3]) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetBAR1MemoryInfo, device, &call);
    if (bytes == NULL) return INVALID_ARGUMENT;
    bytes[0] = bytes[1] = memory_of(&call).total; /* total, free */
    bytes[2] = 0;                                 /* used */
    return SUCCESS;
}

EXPORT int nvmlDeviceGetClockInfo(device_handle device, unsigned int domain, unsigned int *mhz) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetClockInfo, device, &call);
    if (mhz == NULL || domain >= CLOCK_DOMAIN_MAX) return INVALID_ARGUMENT;
    *mhz = call.gpu->clocks_mhz[domain];
    return SUCCESS;
}

EXPORT int nvmlDeviceGetMaxClockInfo(device_handle device, unsigned int domain, unsigned int *mhz) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetMaxClockInfo, device, &call);
    if (mhz == NULL || domain >= CLOCK_DOMAIN_MAX) return INVALID_ARGUMENT;
    *mhz = call.gpu->max_clocks_mhz[domain];
    return SUCCESS;
}

EXPORT int nvmlDeviceGetPcieThroughput(device_handle device, unsigned int counter, unsigned int *kib_per_s) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetPcieThroughput, device, &call);
    if (kib_per_s == NULL || counter > 1) return INVALID_ARGUMENT;
    *kib_per_s = 1024 * call.gpu->utilization_percent;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetTotalEccErrors(device_handle device, unsigned int kind, unsigned int counter,
                                       unsigned long long *count) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetTotalEccErrors, device, &call);
    if (count == NULL || kind > 1 || counter > 1) return INVALID_ARGUMENT;
    *count = 0;
    return SUCCESS;
}

#ifndef FAKE_OLD_DRIVER
EXPORT int nvmlDeviceGetCurrentClocksEventReasons(device_handle device, unsigned long long *reasons) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetCurrentClocksEventReasons, device, &call);
    if (reasons == NULL) return INVALID_ARGUMENT;
    *reasons = call.gpu->clock_event_reasons;
    return SUCCESS;
}
#endif

EXPORT int nvmlDeviceGetCurrentClocksThrottleReasons(device_handle device, unsigned long long *reasons) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetCurrentClocksThrottleReasons, device, &call);
    if (reasons == NULL) return INVALID_ARGUMENT;
    *reasons = call.gpu->clock_event_reasons;
    return SUCCESS;
}
