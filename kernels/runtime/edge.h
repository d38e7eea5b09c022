/* The interface of a compiled model: plain C, no dependency but libc.

   Make a context, run it as often as you like, free it. What a model remembers from one inference to the next is in the
   context. A context is used by one thread at a time (a second
   edge_run on the same context returns EDGE_BUSY); different contexts may run at once. Inputs and outputs are
   dense, row-major arrays of the caller, in the order of the ports. */
#ifndef EDGE_H
#define EDGE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum {
    EDGE_OK = 0,
    EDGE_ARGUMENT = 1, /* a null pointer, a thread count below 1 */
    EDGE_MEMORY = 2,   /* no memory, or the caller's memory is smaller than edge_memory() */
    EDGE_CPU = 3,      /* this processor lacks an instruction set the model was compiled for */
    EDGE_THREADS = 4,  /* the system refused a thread */
    EDGE_BUSY = 5,     /* the context is running in another thread */
    EDGE_DAMAGED = 6   /* the stored constants are not what was written */
};

typedef struct edge_context edge_context;

/* Makes a context with `threads` threads, the caller's included. `memory` is NULL (then it is allocated) or
   `size` >= edge_memory(threads) bytes that outlive the context. Constants that are stored coded are expanded here;
   contexts without memory of the caller's share them. Returns an EDGE_ code. */
int edge_init(edge_context **context, void *memory, size_t size, int threads);
/* Bytes that a context of `threads` threads needs, expanded constants included. */
size_t edge_memory(int threads);
/* One inference. Returns an EDGE_ code. */
int edge_run(edge_context *context, const void *const *inputs, void *const *outputs);
/* One inference that also gives the wall time of each step, edge_step_count() values in nanoseconds. */
int edge_profile(edge_context *context, const void *const *inputs, void *const *outputs, uint64_t *nanoseconds);
/* Forgets what the model remembers from one inference to the next, as a new context does; nothing where it remembers
   nothing. Returns an EDGE_ code. */
int edge_reset(edge_context *context);
/* Ends the context's threads and frees what edge_init allocated. NULL is allowed. */
void edge_free(edge_context *context);

/* The ports. A dtype is named as numpy names it. An index out of range gives 0, -1 or NULL. */
int edge_input_count(void);
const char *edge_input_name(int port);
const char *edge_input_dtype(int port);
int edge_input_rank(int port);
int64_t edge_input_dimension(int port, int axis);
size_t edge_input_bytes(int port);
int edge_output_count(void);
const char *edge_output_name(int port);
const char *edge_output_dtype(int port);
int edge_output_rank(int port);
int64_t edge_output_dimension(int port, int axis);
size_t edge_output_bytes(int port);

/* The steps of one inference, by the name of the model's node. */
int edge_step_count(void);
const char *edge_step_name(int step);

/* The target the model was compiled for, and what an EDGE_ code means. */
const char *edge_target(void);
const char *edge_error(int code);

#ifdef __cplusplus
}
#endif

#endif
