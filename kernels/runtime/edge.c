#define _GNU_SOURCE
#include "edge.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "program.h"

#define EXPORT __attribute__((visibility("default")))

enum { ALIGNMENT = 64 };

static size_t round_up(size_t bytes) {
    return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
}

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static int cpu_fits(void) {
    for (const char *const *flag = edge_model.cpu_flags; *flag; flag++)
        if (!edge_cpu_has(*flag))
            return 0;
    return 1;
}

static void run_program(void *state, int32_t thread) {
    edge_program(state, thread);
}

/* Bytes of a context without its constants. */
static size_t context_memory(int threads) {
    size_t workers = threads > 1 ? (size_t)threads - 1 : 0;
    return ALIGNMENT + round_up(sizeof(struct edge_context)) + round_up(workers * sizeof(struct edge_thread)) +
           round_up(edge_model.arena_bytes);
}

EXPORT size_t edge_memory(int threads) {
    return context_memory(threads) + edge_constants_memory();
}

static void forget(struct edge_context *context) {
    for (int i = 0; i < edge_model.kept_count; i++)
        memset(context->arena + edge_model.kept[i].offset, 0, edge_model.kept[i].bytes);
}

EXPORT int edge_init(edge_context **context, void *memory, size_t size, int threads) {
    if (!context || threads < 1)
        return EDGE_ARGUMENT;
    *context = NULL;
    if (!cpu_fits())
        return EDGE_CPU;
    void *owned = memory ? NULL : malloc(context_memory(threads));
    if (memory ? size < edge_memory(threads) : !owned)
        return EDGE_MEMORY;
    uint8_t *base = (uint8_t *)round_up((size_t)(memory ? memory : owned));
    struct edge_context *made = (struct edge_context *)base;
    struct edge_thread *members = (struct edge_thread *)(base + round_up(sizeof *made));
    size_t head = context_memory(threads) - ALIGNMENT - round_up(edge_model.arena_bytes);
    memset(base, 0, head);
    made->owned = owned;
    made->arena = base + head;
    forget(made);
    int code = edge_constants_take(memory ? made->arena + round_up(edge_model.arena_bytes) : NULL, &made->constants);
    if (code != EDGE_OK) {
        free(owned);
        return code;
    }
    if (edge_pool_start(&made->pool, members, threads, run_program, made)) {
        edge_constants_give(made->constants);
        free(owned);
        return EDGE_THREADS;
    }
    *context = made;
    return EDGE_OK;
}

EXPORT int edge_profile(edge_context *context, const void *const *inputs, void *const *outputs,
                        uint64_t *nanoseconds) {
    if (!context || !inputs || !outputs)
        return EDGE_ARGUMENT;
    if (atomic_exchange_explicit(&context->busy, 1, memory_order_acquire))
        return EDGE_BUSY;
    context->inputs = inputs;
    context->outputs = outputs;
    context->nanoseconds = nanoseconds;
    if (nanoseconds)
        context->last = now();
    edge_pool_run(&context->pool);
    atomic_store_explicit(&context->busy, 0, memory_order_release);
    return EDGE_OK;
}

EXPORT int edge_run(edge_context *context, const void *const *inputs, void *const *outputs) {
    return edge_profile(context, inputs, outputs, NULL);
}

EXPORT int edge_reset(edge_context *context) {
    if (!context)
        return EDGE_ARGUMENT;
    if (atomic_exchange_explicit(&context->busy, 1, memory_order_acquire))
        return EDGE_BUSY;
    forget(context);
    atomic_store_explicit(&context->busy, 0, memory_order_release);
    return EDGE_OK;
}

EXPORT void edge_free(edge_context *context) {
    if (!context)
        return;
    edge_pool_stop(&context->pool);
    edge_constants_give(context->constants);
    free(context->owned);
}

void edge_note(struct edge_context *context, int step) {
    uint64_t time = now();
    context->nanoseconds[step] = time - context->last;
    context->last = time;
}
