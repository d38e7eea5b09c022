#include "edge.h"

#include "program.h"

#define EXPORT __attribute__((visibility("default")))

static const struct edge_port *at(const struct edge_port *ports, int count, int index) {
    return index >= 0 && index < count ? &ports[index] : NULL;
}

static int64_t dimension(const struct edge_port *port, int axis) {
    return port && axis >= 0 && axis < port->rank ? port->shape[axis] : -1;
}

static const struct edge_port *input(int port) {
    return at(edge_model.inputs, edge_model.input_count, port);
}

static const struct edge_port *output(int port) {
    return at(edge_model.outputs, edge_model.output_count, port);
}

EXPORT int edge_input_count(void) { return edge_model.input_count; }
EXPORT const char *edge_input_name(int port) { return input(port) ? input(port)->name : NULL; }
EXPORT const char *edge_input_dtype(int port) { return input(port) ? input(port)->dtype : NULL; }
EXPORT int edge_input_rank(int port) { return input(port) ? input(port)->rank : -1; }
EXPORT int64_t edge_input_dimension(int port, int axis) { return dimension(input(port), axis); }
EXPORT size_t edge_input_bytes(int port) { return input(port) ? input(port)->bytes : 0; }

EXPORT int edge_output_count(void) { return edge_model.output_count; }
EXPORT const char *edge_output_name(int port) { return output(port) ? output(port)->name : NULL; }
EXPORT const char *edge_output_dtype(int port) { return output(port) ? output(port)->dtype : NULL; }
EXPORT int edge_output_rank(int port) { return output(port) ? output(port)->rank : -1; }
EXPORT int64_t edge_output_dimension(int port, int axis) { return dimension(output(port), axis); }
EXPORT size_t edge_output_bytes(int port) { return output(port) ? output(port)->bytes : 0; }

EXPORT int edge_step_count(void) { return edge_model.step_count; }

EXPORT const char *edge_step_name(int step) {
    return step >= 0 && step < edge_model.step_count ? edge_model.step_names[step] : NULL;
}

EXPORT const char *edge_target(void) { return edge_model.target; }

EXPORT const char *edge_error(int code) {
    switch (code) {
    case EDGE_OK: return "no error";
    case EDGE_ARGUMENT: return "a null pointer, or a thread count below 1";
    case EDGE_MEMORY: return "not enough memory";
    case EDGE_CPU: return "this processor lacks an instruction set the model was compiled for";
    case EDGE_THREADS: return "the system refused to start a thread";
    case EDGE_BUSY: return "the context is running in another thread";
    case EDGE_DAMAGED: return "the stored constants are damaged";
    default: return "unknown error code";
    }
}
