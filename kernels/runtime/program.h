/* What a generated program and the runtime know of each other. */
#ifndef EDGE_PROGRAM_H
#define EDGE_PROGRAM_H

#include <stddef.h>
#include <stdint.h>

#include "border.h"
#include "edge.h"
#include "pool.h"

#pragma GCC visibility push(hidden)

struct edge_port {
    const char *name;
    const char *dtype;
    int rank;
    const int64_t *shape;
    size_t bytes;
};

/* Where in the arena something lies that one inference leaves for the next. */
struct edge_kept {
    size_t offset;
    size_t bytes;
};

/* The facts of one model, given by the generated file. */
struct edge_model {
    const char *target;
    const char *const *cpu_flags; /* ends with NULL */
    int input_count;
    const struct edge_port *inputs;
    int output_count;
    const struct edge_port *outputs;
    int step_count;
    const char *const *step_names;
    size_t arena_bytes;
    size_t records; /* where in edge_constants the coded ones begin, and their bytes */
    size_t records_bytes;
    size_t expanded_bytes; /* what they take once they are expanded */
    int kept_count;
    const struct edge_kept *kept;
};

struct edge_context {
    struct edge_pool pool;
    uint8_t *arena;
    const uint8_t *constants; /* the expanded ones */
    const void *const *inputs;
    void *const *outputs;
    uint64_t *nanoseconds; /* NULL unless profiling */
    uint64_t last;         /* when the step before ended */
    _Atomic int busy;
    void *owned; /* what edge_free gives back */
};

extern const struct edge_model edge_model;
/* The constants that are used as they are stored, each at a multiple of 64 bytes; then the records of the others. */
extern const uint8_t edge_constants[];
/* One inference, as thread `thread` of the context's pool. */
void edge_program(struct edge_context *context, int32_t thread);

/* Expands `records` into `memory`, each at a multiple of 64 bytes; 0 where they are damaged or do not fill `room`. */
int edge_expand(const uint8_t *records, size_t bytes, uint8_t *memory, size_t room);
/* Bytes that hold the expanded constants, wherever they begin. */
size_t edge_constants_memory(void);
/* Expands the constants into `memory`, or where it is NULL shares them with other contexts. Returns an EDGE_ code. */
int edge_constants_take(void *memory, const uint8_t **constants);
/* The context that took `constants` needs them no longer. */
void edge_constants_give(const uint8_t *constants);

/* Notes the time of step `step`, which ended now. */
void edge_note(struct edge_context *context, int step);
/* Whether this processor has the flag, as /proc/cpuinfo names it. */
int edge_cpu_has(const char *flag);

/* Thread `thread`'s share [*begin, *end) of `units` units of work; a single unit is thread 0's. */
static inline int edge_share(const struct edge_context *context, int32_t thread, int32_t units, int32_t *begin,
                             int32_t *end) {
    int64_t threads = context->pool.threads;
    *begin = (int32_t)((units * (int64_t)thread + threads - 1) / threads);
    *end = (int32_t)((units * (int64_t)(thread + 1) + threads - 1) / threads);
    return *begin < *end;
}

static inline void edge_barrier(struct edge_context *context) {
    if (context->pool.threads > 1)
        edge_pool_barrier(&context->pool);
}

#pragma GCC visibility pop

#endif
