/* Multi-Instance GPU: the mode, the instances by index with their holes, and what an instance is. */
#include "fake.h"

struct attributes {
    uint32_t sm_count;
    uint32_t copy_engines, decoders, encoders, jpeg_engines, ofa_engines;
    uint32_t gpu_slices, compute_slices;
    uint64_t memory_mib;
};

struct profile {
    uint32_t id, is_p2p_supported, slices, instances, sm_count;
    uint32_t copy_engines, decoders, encoders, jpeg_engines, ofa_engines;
    uint64_t memory_mib;
};

_Static_assert(sizeof(struct attributes) == 40, "nvmlDeviceAttributes_t");
_Static_assert(sizeof(struct profile) == 48, "nvmlGpuInstanceProfileInfo_t");

/* NVML_GPU_INSTANCE_PROFILE_*: slices by number; variants of the same size come after. */
static const uint32_t profile_slices[] = {1, 2, 3, 4, 7, 8, 6, 1};
#define PROFILES (sizeof profile_slices / sizeof profile_slices[0])

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

/* A profile that is larger than the GPU is not supported by it. */
EXPORT int nvmlDeviceGetGpuInstanceProfileInfo(device_handle device, unsigned int profile,
                                               struct profile *info) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetGpuInstanceProfileInfo, device, &call);
    if (info == NULL || profile >= PROFILES) return INVALID_ARGUMENT;
    uint32_t slices = profile_slices[profile];
    if (slices > call.gpu->mig_slices) return NOT_SUPPORTED;
    *info = (struct profile){
        .id = profile, .slices = slices, .instances = call.gpu->mig_slices / slices, .copy_engines = slices};
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
                                      .compute_slices = call.instance->compute_slices,
                                      .memory_mib = call.instance->memory_bytes >> 20};
    return SUCCESS;
}
