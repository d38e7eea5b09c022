/* A compiled model as a static library: plain C without heap, threads or memory of its own. It needs memcpy and memset.

   Give it `edge_model.arena_bytes` of memory, 16-byte aligned; write each input at its tensor's offset there, call
   edge_run, read each output at its tensor's offset. A run overwrites the inputs. Different arenas may be used at
   once, from different threads or interrupts. What a model remembers from one run to the next lies in the arena, which
   nothing else may write then: call edge_reset before the first run. */
#ifndef EDGE_MODEL_H
#define EDGE_MODEL_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A dense, row-major input or output, `bytes` long, at `offset` in the arena. `dtype` is named as numpy names it. Where
   `scale` is not 0 integers are stored: real = (stored - zero) * scale. */
struct edge_tensor {
    const char *name;
    const char *dtype;
    int32_t rank;
    const int32_t *shape;
    uint32_t bytes;
    float scale;
    int32_t zero;
    uint32_t offset;
};

struct edge_model {
    const char *name;
    const char *target;
    uint32_t arena_bytes;
    int32_t input_count;
    const struct edge_tensor *inputs;
    int32_t output_count;
    const struct edge_tensor *outputs;
    int32_t step_count;
};

extern const struct edge_model edge_model;

/* The layer of each step. Nothing here needs them: they take flash only where they are used. */
extern const char *const edge_step_names[];

/* Called after each step of a run with the context given to edge_run. */
typedef void (*edge_note)(void *context, int32_t step);

/* Forgets what the model remembers; nothing where it remembers nothing. */
void edge_reset(void *arena);

/* One inference. `note` may be 0. */
void edge_run(void *arena, edge_note note, void *context);

#ifdef __cplusplus
}
#endif

#endif
