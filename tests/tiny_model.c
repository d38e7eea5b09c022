/* The interface of edge.h over a model of two steps: total = first + second[0], flag = second[1] == 0. */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

typedef struct { int threads; } edge_context;

static _Atomic int live;
int live_contexts(void) { return live; }

int edge_init(edge_context **context, void *memory, size_t size, int threads) {
    if (threads == 33) return 3;
    if (threads == 44) return 4;
    if (threads == 66) return 6;
    *context = malloc(sizeof **context);
    (*context)->threads = threads;
    live++;
    return memory != NULL || size != 0;
}
size_t edge_memory(int threads) { return 8 * (size_t)threads; }
int edge_run(edge_context *context, const void *const *inputs, void *const *outputs) {
    if (context->threads == 55) return 5;
    const float *first = inputs[0];
    const int64_t *second = inputs[1];
    for (int i = 0; i < 6; i++) ((float *)outputs[0])[i] = first[i] + (float)second[0];
    *(uint8_t *)outputs[1] = second[1] == 0;
    return 0;
}
int edge_profile(edge_context *context, const void *const *inputs, void *const *outputs, uint64_t *nanoseconds) {
    for (int i = 0; i < 3; i++) nanoseconds[i] = 1000 * (uint64_t)(i + 1);
    return edge_run(context, inputs, outputs);
}
void edge_free(edge_context *context) { free(context); live--; }

int edge_input_count(void) { return 2; }
const char *edge_input_name(int port) { return port ? "second" : "first"; }
const char *edge_input_dtype(int port) { return port ? "int64" : "float32"; }
int edge_input_rank(int port) { return port ? 2 : 3; }
int64_t edge_input_dimension(int port, int axis) { return axis == 0 ? 1 : port ? 2 : axis == 1 ? 2 : 3; }
size_t edge_input_bytes(int port) { return port ? 16 : 24; }
int edge_output_count(void) { return 2; }
const char *edge_output_name(int port) { return port ? "flag" : "total"; }
const char *edge_output_dtype(int port) { return port ? "bool" : "float32"; }
int edge_output_rank(int port) { return port ? 0 : 3; }
int64_t edge_output_dimension(int port, int axis) { return axis == 0 ? 1 : axis == 1 ? 2 : 3 + 0 * port; }
size_t edge_output_bytes(int port) { return port ? 1 : 24; }
int edge_step_count(void) { return 3; }
const char *edge_step_name(int step) { return step == 2 ? "compare" : "add"; }
const char *edge_target(void) { return "x86-64-v2"; }
const char *edge_error(int code) { return code == 3 ? "this processor lacks something" : "some error"; }
