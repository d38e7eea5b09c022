/* A line in memory, for an emulator or a probe that reaches that: two rings, each with one who writes.

   The host writes `arrived`, `taken` and the bytes of `in`; the board all else. Counts are of bytes since the start, and
   go round; a byte's place is its number modulo RING. What one side writes shares no line of a cache with the other's. */
#include "mailbox.h"
#include "uart.h"

enum { RING = 1024, CACHE_LINE = 32 };

struct {
    volatile uint32_t arrived, taken;
    volatile uint8_t in[RING] __attribute__((aligned(CACHE_LINE)));
    volatile uint32_t read, sent;
    volatile uint8_t out[RING] __attribute__((aligned(CACHE_LINE)));
} edge_line __attribute__((aligned(CACHE_LINE), used));

static void share_line(void) { edge_share(&edge_line, sizeof edge_line); }

int edge_uart_get(void) {
    if (edge_line.read == edge_line.arrived) {
        share_line();
        if (edge_line.read == edge_line.arrived)
            return -1;
    }
    uint8_t byte = edge_line.in[edge_line.read % RING];
    edge_line.read++;
    return byte;
}

void edge_uart_put(uint8_t byte) {
    while (edge_line.sent - edge_line.taken == RING) {
        edge_idle();
        share_line();
    }
    edge_line.out[edge_line.sent % RING] = byte;
    edge_line.sent++;
}
