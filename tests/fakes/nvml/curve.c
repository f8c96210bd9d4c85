/* Exact arithmetic on the power curve: straight lines between whole milliwatts at whole nanoseconds.
 *
 * Areas are counted in halves of a milliwatt nanosecond, because a triangle is half of a rectangle.
 * 1 mJ = 1 mW x 1e9 ns, hence 2e9 halves. curve.py does the same sums; a test compares them.
 */
#include "fake.h"

#define HALVES_PER_MJ 2000000000LL
#define AVERAGING_NS 1000000000LL /* field 185 and the averaged GetPowerUsage: the last second */

typedef __int128 wide;

static wide floor_divide(wide dividend, wide divisor) {
    wide quotient = dividend / divisor;
    return quotient * divisor > dividend ? quotient - 1 : quotient;
}

/* Area below the curve from its first point to `at_ns`, without repetition. */
static wide area_once(const struct gpu *gpu, int64_t at_ns) {
    wide halves = 0;
    for (uint32_t i = 0; i < gpu->points && gpu->curve[i].at_ns < at_ns; i++) {
        struct point from = gpu->curve[i];
        wide inside = at_ns - from.at_ns;
        if (i + 1 == gpu->points) return halves + 2 * from.power_mw * inside;
        struct point to = gpu->curve[i + 1];
        wide whole = to.at_ns - from.at_ns;
        if (inside >= whole) {
            halves += (from.power_mw + to.power_mw) * whole;
            continue;
        }
        wide rise = floor_divide((to.power_mw - from.power_mw) * inside * inside, whole);
        return halves + 2 * from.power_mw * inside + rise;
    }
    return halves;
}

static wide area(const struct gpu *gpu, int64_t at_ns) {
    at_ns += gpu->phase_ns;
    if (gpu->repeat_ns == 0) return area_once(gpu, at_ns);
    wide cycles = at_ns / gpu->repeat_ns;
    return cycles * area_once(gpu, gpu->repeat_ns) + area_once(gpu, at_ns % gpu->repeat_ns);
}

static int64_t power_at(const struct gpu *gpu, int64_t at_ns) {
    at_ns += gpu->phase_ns;
    if (gpu->repeat_ns != 0) at_ns %= gpu->repeat_ns;
    uint32_t i = 0;
    while (i + 1 < gpu->points && gpu->curve[i + 1].at_ns <= at_ns) i++;
    struct point from = gpu->curve[i];
    if (i + 1 == gpu->points) return from.power_mw;
    struct point to = gpu->curve[i + 1];
    wide change = (wide)(to.power_mw - from.power_mw) * (at_ns - from.at_ns);
    return from.power_mw + (int64_t)floor_divide(change, to.at_ns - from.at_ns);
}

static int64_t counter_mj(const struct state *state, const struct gpu *gpu) {
    if (gpu->fixed_mj >= 0) return gpu->fixed_mj;
    int64_t at_ns = sensor_time_ns(state);
    if (gpu->frozen_at_ns >= 0 && gpu->frozen_at_ns < at_ns) at_ns = gpu->frozen_at_ns;
    int64_t mj = gpu->base_mj + (int64_t)((area(gpu, at_ns) - area(gpu, 0)) / HALVES_PER_MJ);
    return mj < 0 ? 0 : mj;
}

/* What the energy counter shows, rounded down to the millijoule. */
uint64_t energy_mj(const struct state *state, const struct gpu *gpu) {
    for (;;) {
        uint32_t begun = change_begin(state);
        int64_t mj = counter_mj(state, gpu);
        if (!change_seen(state, begun)) return (uint64_t)mj;
    }
}

uint32_t power_mw(const struct state *state, const struct gpu *gpu, int64_t at_ns) {
    for (;;) {
        uint32_t begun = change_begin(state);
        int64_t mw = power_at(gpu, at_ns);
        if (!change_seen(state, begun)) return (uint32_t)mw;
    }
}

/* Mean of the second before `at_ns`, or of all that there is since time 0. */
uint32_t average_mw(const struct state *state, const struct gpu *gpu, int64_t at_ns) {
    int64_t from_ns = at_ns > AVERAGING_NS ? at_ns - AVERAGING_NS : 0;
    if (from_ns == at_ns) return power_mw(state, gpu, at_ns);
    for (;;) {
        uint32_t begun = change_begin(state);
        wide mw = (area(gpu, at_ns) - area(gpu, from_ns)) / (2 * (wide)(at_ns - from_ns));
        if (!change_seen(state, begun)) return (uint32_t)mw;
    }
}
