/* A small thread pool: every thread runs the whole program and meets the others at barriers. */
#ifndef EDGE_POOL_H
#define EDGE_POOL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>

/* A word that threads wait on: they spin a little, then sleep. */
struct edge_signal {
    _Alignas(64) _Atomic uint32_t value;
    _Atomic uint32_t sleepers;
};

struct edge_pool;

struct edge_thread {
    struct edge_pool *pool;
    int32_t index;
    pthread_t handle;
};

struct edge_pool {
    struct edge_signal start;  /* counts the programs begun */
    struct edge_signal passed; /* counts the barriers passed */
    _Alignas(64) _Atomic uint32_t arrived;
    void (*program)(void *state, int32_t thread);
    void *state;
    int32_t threads;
    int32_t started;
    _Atomic int stopping;
    struct edge_thread *members; /* one for each thread but the caller's */
};

/* Starts threads - 1 workers that will run `program`; 0, or the system's error (then none is left running). */
int edge_pool_start(struct edge_pool *pool, struct edge_thread *members, int32_t threads,
                    void (*program)(void *state, int32_t thread), void *state);
/* Runs the program in every thread, the caller as thread 0; returns when all are done. */
void edge_pool_run(struct edge_pool *pool);
/* Waits until every thread of the running program is here. */
void edge_pool_barrier(struct edge_pool *pool);
/* Ends the workers. */
void edge_pool_stop(struct edge_pool *pool);

#endif
