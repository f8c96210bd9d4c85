/* Multi-Instance GPU: the mode, the instances by index with their holes, and what an instance is. */
#include "fake.h"

struct attributes {
    uint32_t sm_count;
    uint32_t copy_engines, decoders, encoders, jpeg_engines, ofa_engines;
    uint32_t gpu_slices, compute_slices;
    uint64_t memory_mib;
};

_Static_assert(sizeof(struct attributes) == 40, "nvmlDeviceAttributes_t");

EXPORT int nvmlDeviceGetMigMode(device_handle device, unsigned int *current, unsigned int *pending) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetMigMode, device, &call);
    if (current == NULL || pending == NULL) return INVALID_ARGUMENT;
    *current = *pending = call.gpu->mig_enabled;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetMaxMigDeviceCount(device_handle device, unsigned int *count) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetMaxMigDeviceCount, device, &call);
    if (count == NULL) return INVALID_ARGUMENT;
    *count = INSTANCE_MAX;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetMigDeviceHandleByIndex(device_handle device, unsigned int index,
                                               device_handle *instance) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetMigDeviceHandleByIndex, device, &call);
    if (instance == NULL || index >= INSTANCE_MAX) return INVALID_ARGUMENT;
    if (!call.gpu->mig_enabled || !call.gpu->instances[index].present) return NOT_FOUND;
    *instance = handle_of(call.position, index + 1);
    return SUCCESS;
}

EXPORT int nvmlDeviceGetDeviceHandleFromMigDeviceHandle(device_handle instance, device_handle *device) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetDeviceHandleFromMigDeviceHandle, instance, &call);
    if (device == NULL) return INVALID_ARGUMENT;
    *device = handle_of(call.position, 0);
    return SUCCESS;
}

EXPORT int nvmlDeviceIsMigDeviceHandle(device_handle device, unsigned int *is_instance) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceIsMigDeviceHandle, device, &call);
    if (is_instance == NULL) return INVALID_ARGUMENT;
    *is_instance = call.instance != NULL;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetGpuInstanceId(device_handle device, unsigned int *id) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetGpuInstanceId, device, &call);
    if (id == NULL) return INVALID_ARGUMENT;
    *id = call.instance->gpu_instance;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetComputeInstanceId(device_handle device, unsigned int *id) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetComputeInstanceId, device, &call);
    if (id == NULL) return INVALID_ARGUMENT;
    *id = call.instance->compute_instance;
    return SUCCESS;
}

EXPORT int nvmlDeviceGetAttributes_v2(device_handle device, struct attributes *attributes) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetAttributes_v2, device, &call);
    if (attributes == NULL) return INVALID_ARGUMENT;
    *attributes = (struct attributes){.sm_count = call.instance->sm_count,
                                      .copy_engines = 1,
                                      .gpu_slices = call.instance->slices,
                                      .compute_slices = call.instance->slices,
                                      .memory_mib = call.instance->memory_bytes >> 20};
    return SUCCESS;
}
