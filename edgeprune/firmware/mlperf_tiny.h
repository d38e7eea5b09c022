/* The serial protocol of EEMBC's runner for MLPerf Tiny: commands that end in '%', answers in lines that end in
   "m-ready" (mlcommons/tiny, benchmark/api).

     name            timestamp        profile          help
     db load BYTES   the model's input is to come      db HH...   bytes of it       db print   what has come
     infer N [W]     W runs unmeasured, then N         results    the first output, as real numbers

   The input is the model's own, one tensor after another as each is stored, every byte by exclusive or with
   EDGE_MLPERF_FLIP: 0x80 where the runner sends pixels from 0 and the model stores them from -128. */
#ifndef EDGE_MLPERF_TINY_H
#define EDGE_MLPERF_TINY_H
#include <stdint.h>

/* Greets the runner, before its first byte. */
void edge_mlperf_start(void);
/* Takes a byte of the line, and obeys where that was the last of a command. */
void edge_mlperf_take(uint8_t byte);

/* Given by the board: microseconds since some moment, modulo 2^32; one inference in the arena; that arena. */
uint32_t edge_mlperf_microseconds(void);
void edge_mlperf_infer(void);
extern uint8_t edge_arena[];
#endif
