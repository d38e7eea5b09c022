#define _GNU_SOURCE
#include "pool.h"

#include <linux/futex.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { SPINS = 2000 };

static void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static void wait_for_change(struct edge_signal *signal, uint32_t seen) {
    for (int spin = 0; spin < SPINS; spin++) {
        if (atomic_load_explicit(&signal->value, memory_order_acquire) != seen)
            return;
        pause_briefly();
    }
    atomic_fetch_add(&signal->sleepers, 1);
    while (atomic_load(&signal->value) == seen)
        syscall(SYS_futex, &signal->value, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
    atomic_fetch_sub(&signal->sleepers, 1);
}

static void announce(struct edge_signal *signal) {
    atomic_fetch_add(&signal->value, 1);
    if (atomic_load(&signal->sleepers) > 0)
        syscall(SYS_futex, &signal->value, FUTEX_WAKE_PRIVATE, INT32_MAX, NULL, NULL, 0);
}

void edge_pool_barrier(struct edge_pool *pool) {
    uint32_t seen = atomic_load_explicit(&pool->passed.value, memory_order_relaxed);
    if (atomic_fetch_add(&pool->arrived, 1) + 1 == (uint32_t)pool->threads) {
        atomic_store_explicit(&pool->arrived, 0, memory_order_relaxed);
        announce(&pool->passed);
    } else {
        wait_for_change(&pool->passed, seen);
    }
}

static void *work(void *argument) {
    struct edge_thread *self = argument;
    struct edge_pool *pool = self->pool;
    for (uint32_t seen = 0;; seen++) {
        wait_for_change(&pool->start, seen);
        if (atomic_load(&pool->stopping))
            return NULL;
        pool->program(pool->state, self->index);
        edge_pool_barrier(pool);
    }
}

void edge_pool_run(struct edge_pool *pool) {
    if (pool->threads > 1)
        announce(&pool->start);
    pool->program(pool->state, 0);
    if (pool->threads > 1)
        edge_pool_barrier(pool);
}

void edge_pool_stop(struct edge_pool *pool) {
    atomic_store(&pool->stopping, 1);
    announce(&pool->start);
    for (int32_t i = 0; i < pool->started; i++)
        pthread_join(pool->members[i].handle, NULL);
    pool->started = 0;
}

/* Signals are the host program's business: a worker must never run one of its handlers. */
static int create_silently(struct edge_thread *member) {
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&member->handle, NULL, work, member);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

int edge_pool_start(struct edge_pool *pool, struct edge_thread *members, int32_t threads,
                    void (*program)(void *state, int32_t thread), void *state) {
    pool->program = program;
    pool->state = state;
    pool->threads = threads;
    pool->members = members;
    for (int32_t i = 0; i < threads - 1; i++) {
        members[i].pool = pool;
        members[i].index = i + 1;
        int failed = create_silently(&members[i]);
        if (failed) {
            edge_pool_stop(pool);
            return failed;
        }
        pool->started++;
    }
    return 0;
}
