/* A loaded model: its functions, and memory for one context and one row of inputs and outputs. */
#ifndef EDGE_MODEL_H
#define EDGE_MODEL_H

#include <stddef.h>
#include <stdint.h>

enum { EDGE_MOST_PORTS = 64 };

struct edge_side {
    int count;
    size_t bytes[EDGE_MOST_PORTS];
    const char *dtype[EDGE_MOST_PORTS];
    void *row[EDGE_MOST_PORTS]; /* one row, the ports one after another, each at a multiple of 64 bytes */
    size_t row_bytes;           /* of the ports, without padding */
};

struct edge_loaded {
    void *context;
    struct edge_side inputs, outputs;
    int steps;
    const char *(*step_name)(int step);
    int (*run)(void *context, const void *const *inputs, void *const *outputs);
    int (*profile)(void *context, const void *const *inputs, void *const *outputs, uint64_t *nanoseconds);
    const char *(*error)(int code);
    int (*reset)(void *context); /* NULL in libraries of earlier versions */
    uint64_t *samples; /* room for `most_samples` figures */
    size_t most_samples;
};

/* Loads the library at `path` and makes a context of `threads` threads with room for `samples` figures, everything in
   one piece of memory; ends the program with a message where that cannot be done. */
void edge_open_model(struct edge_loaded *model, const char *path, int threads, size_t samples);
/* One inference on the rows; ends the program with a message where it fails. */
void edge_infer(const struct edge_loaded *model);
/* Has the model forget what it remembers; ends the program with a message where it cannot. */
void edge_forget(const struct edge_loaded *model);
/* Writes a message to standard error and ends the program. */
_Noreturn void edge_give_up(const char *format, ...);

#endif
