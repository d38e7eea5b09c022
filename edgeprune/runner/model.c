#define _GNU_SOURCE
#include "model.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "loader.h"
#include "region.h"

enum { ALIGNMENT = 64 };

_Noreturn void edge_give_up(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    fputs("edge-run: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(1);
}

static size_t round_up(size_t bytes) { return (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

static void *find(const struct edge_library *library, const char *name) {
    void *function = edge_find(library, name);
    if (!function)
        edge_give_up("the library lacks %s", name);
    return function;
}

static void read_side(const struct edge_library *library, struct edge_side *side, const char *name) {
    char function[64];
    snprintf(function, sizeof function, "edge_%s_count", name);
    int (*count)(void) = find(library, function);
    snprintf(function, sizeof function, "edge_%s_bytes", name);
    size_t (*bytes)(int) = find(library, function);
    snprintf(function, sizeof function, "edge_%s_dtype", name);
    const char *(*dtype)(int) = find(library, function);
    side->count = count();
    if (side->count > EDGE_MOST_PORTS)
        edge_give_up("the model has %d %ss, and this program takes at most %d", side->count, name, EDGE_MOST_PORTS);
    for (int port = 0; port < side->count; port++) {
        side->bytes[port] = bytes(port);
        side->dtype[port] = dtype(port);
        side->row_bytes += side->bytes[port];
    }
}

static size_t room_for(const struct edge_side *side) {
    size_t total = 0;
    for (int port = 0; port < side->count; port++)
        total += round_up(side->bytes[port]);
    return total;
}

static uint8_t *place(struct edge_side *side, uint8_t *at) {
    for (int port = 0; port < side->count; port++) {
        side->row[port] = at;
        at += round_up(side->bytes[port]);
    }
    return at;
}

void edge_open_model(struct edge_loaded *model, const char *path, int threads, size_t samples) {
    const struct edge_library *library = edge_load(path);
    if (!library)
        edge_give_up("%s", edge_loader_error());
    read_side(library, &model->inputs, "input");
    read_side(library, &model->outputs, "output");
    model->run = find(library, "edge_run");
    model->profile = find(library, "edge_profile");
    model->error = find(library, "edge_error");
    model->reset = edge_find(library, "edge_reset");
    model->step_name = find(library, "edge_step_name");
    model->steps = ((int (*)(void))find(library, "edge_step_count"))();
    model->most_samples = samples;
    size_t context = round_up(((size_t (*)(int))find(library, "edge_memory"))(threads));
    size_t figures = round_up(samples * sizeof *model->samples);
    size_t total = figures + room_for(&model->inputs) + room_for(&model->outputs) + context;
    uint8_t *memory = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        edge_give_up("no memory: %zu bytes are needed", total);
    model->samples = (uint64_t *)memory;
    uint8_t *rest = place(&model->outputs, place(&model->inputs, memory + figures));
    int (*init)(void **, void *, size_t, int) = find(library, "edge_init");
    int code = init(&model->context, rest, context, threads);
    if (code)
        edge_give_up("%s", model->error(code));
}

void edge_forget(const struct edge_loaded *model) {
    if (!model->reset)
        edge_give_up("the library lacks edge_reset");
    int code = model->reset(model->context);
    if (code)
        edge_give_up("%s", model->error(code));
}

void edge_infer(const struct edge_loaded *model) {
    edge_region_begin();
    int code = model->run(model->context, (const void *const *)model->inputs.row, model->outputs.row);
    edge_region_end();
    if (code)
        edge_give_up("%s", model->error(code));
}
