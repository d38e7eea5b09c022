/* Marks for an emulator that counts instructions: only what is done between a begin and an end counts. On a real
   processor they are hints that do nothing. */
#ifndef EDGE_REGION_H
#define EDGE_REGION_H

#if defined(__aarch64__)
#define EDGE_MARK(number) __asm__ volatile("hint #" number ::: "memory")
#else
#define EDGE_MARK(number) __asm__ volatile("" ::: "memory")
#endif

static inline void edge_region_begin(void) { EDGE_MARK("0x70"); }
static inline void edge_region_end(void) { EDGE_MARK("0x71"); }

#endif
