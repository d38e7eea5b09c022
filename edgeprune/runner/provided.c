#define _GNU_SOURCE
#include "provided.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <time.h>
#include <unistd.h>

#include "region.h"

/* As the system's C library lays it out: two words, on 32-bit machines too. */
struct model_time {
    long seconds;
    long nanoseconds;
};

/* The model reads the clock between the steps that it profiles: what it then does is not the steps' work. */
static int model_clock(int clock, struct model_time *time) {
    struct timespec now;
    edge_region_end();
    int failed = clock_gettime(clock, &now);
    time->seconds = (long)now.tv_sec;
    time->nanoseconds = now.tv_nsec;
    edge_region_begin();
    return failed;
}

static const struct {
    const char *name;
    void *function;
} provided[] = {
    {"malloc", (void *)malloc},
    {"calloc", (void *)calloc},
    {"free", (void *)free},
    {"memcpy", (void *)memcpy},
    {"memmove", (void *)memmove},
    {"memset", (void *)memset},
    {"memcmp", (void *)memcmp},
    {"strcmp", (void *)strcmp},
    {"strlen", (void *)strlen},
    {"clock_gettime", (void *)model_clock},
    {"syscall", (void *)syscall},
    {"getauxval", (void *)getauxval},
    {"sched_yield", (void *)sched_yield},
    {"pthread_create", (void *)pthread_create},
    {"pthread_join", (void *)pthread_join},
    {"pthread_sigmask", (void *)pthread_sigmask},
    {"pthread_mutex_lock", (void *)pthread_mutex_lock},
    {"pthread_mutex_unlock", (void *)pthread_mutex_unlock},
    {"sigfillset", (void *)sigfillset},
};

void *edge_provided(const char *name) {
    for (size_t i = 0; i < sizeof provided / sizeof provided[0]; i++)
        if (strcmp(provided[i].name, name) == 0)
            return provided[i].function;
    return NULL;
}
