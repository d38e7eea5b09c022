/* What the host reads and writes in memory to have a model run; every word is little-endian. */
#ifndef EDGE_MAILBOX_H
#define EDGE_MAILBOX_H
#include <stdint.h>

enum { EDGE_MAGIC = 0x4D474445, EDGE_VERSION = 1 };
enum { EDGE_NONE = 0, EDGE_RUN = 1, EDGE_BENCH = 2, EDGE_RESET = 3 };
enum { EDGE_BOOTING = 0, EDGE_READY = 1, EDGE_BUSY = 2, EDGE_DONE = 3, EDGE_FAILED = 4 };
enum { EDGE_ERROR_COMMAND = 1, EDGE_ERROR_FAULT = 2 };

struct edge_mailbox {
    uint32_t magic, version, command, status, sequence, done_sequence, argument, error;
    uint32_t cycles_low, cycles_high;
    uint32_t arena, arena_bytes, step_count, step_cycles, clock_hz, library[2];
};

extern volatile struct edge_mailbox edge_mailbox;

/* The end of the start-up code: serves the mailbox for ever. */
void edge_serve(void) __attribute__((noreturn));
/* Where an exception ends. */
void edge_fault(void) __attribute__((noreturn));
/* What comes again and again between two requests; a place for transports that must be served. */
void edge_idle(void);
/* What comes beside it: a place for those who run the model themselves. */
void edge_talk(void);
/* Has caches and memory agree on `bytes` from `from` on. */
void edge_share(const volatile void *from, uint32_t bytes);
/* Between these two an emulator counts instructions. */
void edge_mark_begin(void);
void edge_mark_end(void);
#endif
