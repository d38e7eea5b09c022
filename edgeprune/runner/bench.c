#define _GNU_SOURCE
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "commands.h"
#include "model.h"
#include "region.h"

enum { MOST_RUNS = 100000, LEAST_RUNS = 10, PROFILES = 20 };

static uint64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000u + (uint64_t)time.tv_nsec;
}

static int by_size(const void *left, const void *right) {
    uint64_t a = *(const uint64_t *)left, b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

static uint64_t sorted_at(uint64_t *values, size_t count, double share) {
    qsort(values, count, sizeof *values, by_size);
    return values[(size_t)(share * (double)(count - 1) + 0.5)];
}

/* Noise between -1 and 1, small whole numbers where the port takes integers: the same on every board. */
static void fill_noise(const struct edge_side *side) {
    uint32_t state = 1;
    for (int port = 0; port < side->count; port++) {
        int real = strcmp(side->dtype[port], "float32") == 0;
        for (size_t i = 0; i < side->bytes[port] / (real ? 4 : 1); i++) {
            state = state * 1664525u + 1013904223u;
            if (real)
                ((float *)side->row[port])[i] = (float)(int32_t)state * 0x1p-31f;
            else
                ((uint8_t *)side->row[port])[i] = 0;
        }
    }
}

/* Runs that are counted begin alike: how much is done may depend on what a model remembers. */
static void begin_alike(const struct edge_loaded *model, int runs) {
    if (runs && model->reset)
        edge_forget(model);
}

static size_t time_runs(const struct edge_loaded *model, const struct edge_asked *asked) {
    uint64_t begun = now(), budget = (uint64_t)(asked->seconds * 1e9), last = begun;
    for (int warm = 0; asked->runs ? warm < 1 : warm < 3 || last - begun < budget / 5; warm++) {
        begin_alike(model, asked->runs);
        edge_infer(model);
        last = now();
    }
    size_t most = asked->runs ? (size_t)asked->runs : MOST_RUNS, count = 0;
    for (begun = last; count < most; count++) {
        if (!asked->runs && count >= LEAST_RUNS && last - begun >= budget)
            break;
        begin_alike(model, asked->runs);
        edge_infer(model);
        uint64_t ended = now();
        model->samples[count] = ended - last;
        last = ended;
    }
    return count;
}

static void print_layers(const struct edge_loaded *model, int profiles) {
    uint64_t *times = model->samples, of_step[PROFILES];
    for (int i = 0; i < profiles; i++) {
        edge_region_begin();
        model->profile(model->context, (const void *const *)model->inputs.row, model->outputs.row,
                       times + (size_t)i * (size_t)model->steps);
        edge_region_end();
    }
    printf(", \"layers\": [");
    for (int step = 0; step < model->steps; step++) {
        for (int i = 0; i < profiles; i++)
            of_step[i] = times[(size_t)i * (size_t)model->steps + (size_t)step];
        printf("%s{\"name\": ", step ? ", " : "");
        edge_print_text(model->step_name(step));
        printf(", \"time_ns\": %" PRIu64 "}", sorted_at(of_step, (size_t)profiles, 0.5));
    }
    printf("]");
}

int edge_bench(const struct edge_asked *asked) {
    struct edge_loaded model = {0};
    edge_open_model(&model, asked->library, asked->threads, MOST_RUNS);
    if ((size_t)model.steps * PROFILES > model.most_samples)
        edge_give_up("the model has too many layers: %d", model.steps);
    fill_noise(&model.inputs);
    size_t runs = time_runs(&model, asked);
    uint64_t median = sorted_at(model.samples, runs, 0.5);
    printf("{\"latency_ns\": {\"median\": %" PRIu64 ", \"min\": %" PRIu64 ", \"p90\": %" PRIu64 ", \"runs\": %zu}", median,
           model.samples[0], sorted_at(model.samples, runs, 0.9), runs);
    begin_alike(&model, asked->runs);
    print_layers(&model, asked->runs ? 1 : PROFILES);
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    printf(", \"threads\": %d, \"cores\": \"%s\", \"peak_rss_bytes\": %ld}\n", asked->threads, asked->cores,
           usage.ru_maxrss * 1024L);
    return 0;
}
