/* Batched field values and the driver's sample buffer. */
#include "fake.h"

struct field_value {
    uint32_t id, scope;
    int64_t timestamp_us, latency_us;
    uint32_t type;
    int32_t code;
    union {
        uint32_t number;
        uint64_t wide;
    } value;
};

struct sample {
    uint64_t timestamp_us;
    uint64_t value;
};

_Static_assert(sizeof(struct field_value) == 40, "nvmlFieldValue_t");
_Static_assert(sizeof(struct sample) == 16, "nvmlSample_t");

enum { ENERGY_TOTAL = 83, POWER_AVERAGE = 185, POWER_INSTANT = 186, REQUESTED_LIMIT = 192, ENERGY = 191 };
enum { SCOPE_GPU = 0, SCOPE_MODULE = 1, SCOPE_MEMORY = 2 };
enum { SAMPLES_TOTAL_POWER = 0, SAMPLES_GPU = 1, SAMPLES_MEMORY = 2, SAMPLES_MODULE_POWER = 7 };

#ifdef FAKE_OLD_DRIVER
#define NEWEST_FIELD (POWER_AVERAGE - 1) /* power fields arrived with drivers 525 and 530 */
#else
#define NEWEST_FIELD (FIELD_MAX - 1)
#endif

#define SAMPLES_KEPT 100
#define SAMPLE_PERIOD_NS 100000000LL /* where the scenario's sensors are continuous */

/* Other fields use the scope for something else (NVLink: the link), which changes no answer here. */
static int takes_scope(uint32_t id) {
    return id == ENERGY_TOTAL || (id >= POWER_AVERAGE && id <= REQUESTED_LIMIT);
}

static void put_number(struct field_value *field, uint32_t value) {
    field->type = TYPE_UINT;
    field->value.number = value;
}

static void put_wide(struct field_value *field, uint64_t value) {
    field->type = TYPE_ULL;
    field->value.wide = value;
}

static int answer(const struct call *call, struct field_value *field, int64_t at_ns) {
    if (field->id == 0 || field->id >= FIELD_MAX) return INVALID_ARGUMENT;
    if (field->id > NEWEST_FIELD || call->instance != NULL) return NOT_SUPPORTED;
    uint32_t scope = takes_scope(field->id) ? field->scope : 0;
    if (scope >= SCOPE_MAX) return INVALID_ARGUMENT;
    int fault = take_fault(&call->site->fields[field->id][scope]);
    if (fault != SUCCESS) return fault;

    switch (field->id) {
    case ENERGY_TOTAL:
    case ENERGY:
        put_wide(field, energy_mj(call->state, call->gpu));
        return SUCCESS;
    case POWER_AVERAGE:
        put_number(field, scope == SCOPE_MEMORY ? call->gpu->memory_power_mw
                                                : average_mw(call->state, call->gpu, at_ns)
                                                      + (uint32_t)call->gpu->more_mw[scope]);
        return SUCCESS;
    case POWER_INSTANT:
        put_number(field, power_mw(call->state, call->gpu, at_ns) + (uint32_t)call->gpu->more_mw[scope]);
        return SUCCESS;
    }
    switch (call->gpu->field_types[field->id]) {
    case TYPE_UINT: put_number(field, (uint32_t)call->gpu->field_values[field->id]); return SUCCESS;
    case TYPE_ULL: put_wide(field, call->gpu->field_values[field->id]); return SUCCESS;
    default: return NOT_SUPPORTED;
    }
}

/* Success as a whole, with a code for each field, whether or not any could be answered. */
EXPORT int nvmlDeviceGetFieldValues(device_handle device, int count, struct field_value *fields) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetFieldValues, device, &call);
    if (fields == NULL || count <= 0) return INVALID_ARGUMENT;
    int64_t at_ns = sensor_time_ns(call.state);
    for (int i = 0; i < count; i++) {
        fields[i].value.wide = 0;
        fields[i].code = answer(&call, &fields[i], at_ns);
        fields[i].timestamp_us = wall_us(call.state, at_ns);
        fields[i].latency_us = 1;
    }
    return SUCCESS;
}

static uint64_t sampled(const struct call *call, unsigned int kind, int64_t at_ns) {
    switch (kind) {
    case SAMPLES_GPU: return call->gpu->utilization_percent;
    case SAMPLES_MEMORY: return call->gpu->memory_utilization_percent;
    default: return power_mw(call->state, call->gpu, at_ns);
    }
}

static int samples_kept(const struct call *call, unsigned int kind) {
    if (kind == SAMPLES_MODULE_POWER) return call->site->fields[POWER_INSTANT][SCOPE_MODULE].code == SUCCESS;
    return kind == SAMPLES_TOTAL_POWER || kind == SAMPLES_GPU || kind == SAMPLES_MEMORY;
}

/* The last SAMPLES_KEPT sensor looks that are newer than `last_seen_us`, oldest first. */
EXPORT int nvmlDeviceGetSamples(device_handle device, unsigned int kind, unsigned long long last_seen_us,
                                unsigned int *value_type, unsigned int *count, struct sample *samples) {
    struct call call;
    ENTER_DEVICE(nvmlDeviceGetSamples, device, &call);
    if (value_type == NULL || count == NULL) return INVALID_ARGUMENT;
    if (!samples_kept(&call, kind)) return NOT_SUPPORTED;
    int64_t period_ns = call.state->refresh_ns ? call.state->refresh_ns : SAMPLE_PERIOD_NS;
    int64_t newest_ns = sensor_time_ns(call.state);
    newest_ns -= newest_ns % period_ns;

    unsigned int found = 0;
    int64_t at_ns = newest_ns - (SAMPLES_KEPT - 1) * period_ns;
    for (; at_ns <= newest_ns; at_ns += period_ns) {
        uint64_t timestamp_us = (uint64_t)wall_us(call.state, at_ns);
        if (at_ns < 0 || timestamp_us <= last_seen_us) continue;
        if (samples != NULL && found == *count) break;
        if (samples != NULL) samples[found] = (struct sample){timestamp_us, sampled(&call, kind, at_ns)};
        found++;
    }
    *value_type = TYPE_UINT;
    *count = found;
    return found ? SUCCESS : NOT_FOUND;
}
