/* What edge-run can be asked. */
#ifndef EDGE_COMMANDS_H
#define EDGE_COMMANDS_H

#include <stddef.h>

struct edge_asked {
    const char *library, *inputs, *outputs, *expected;
    int threads;
    double seconds, tolerance;
    long reset_every; /* rows after which the model forgets, 0 where it never does */
    int runs;         /* how many to time exactly, 0 where `seconds` say it */
    char cores[256]; /* those that it may run on, as Linux lists them */
};

/* Times inferences on noise. */
int edge_bench(const struct edge_asked *asked);
/* One inference a row of the file of inputs; writes their outputs, or compares them with the expected ones. */
int edge_run_rows(const struct edge_asked *asked);
int edge_verify(const struct edge_asked *asked);
/* What this machine is. */
int edge_facts(void);

/* Keeps this process to the fastest `threads` cores or more of their kind; lists them in `cores`. */
void edge_pin(int threads, char *cores, size_t room);
/* Prints a JSON string. */
void edge_print_text(const char *text);

#endif
