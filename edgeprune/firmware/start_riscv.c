/* From reset to the mailbox on 32-bit RISC-V: stack, traps, watchdogs, .data and .bss. */
#include "mailbox.h"

extern uint32_t edge_data_start[], edge_data_end[], edge_zero_start[], edge_zero_end[];
extern const uint32_t edge_data_load[];

/* The ESP32-C3's ROM runs a program in place where flash begins with these two words (direct boot). */
#ifdef EDGE_ESP32
#define FIRST_WORDS ".word 0xaedb041d, 0xaedb041d\n"
#else
#define FIRST_WORDS
#endif

__asm__(".section .edge_vectors, \"ax\", @progbits\n"
        ".option push\n"
        ".option arch, +zicsr\n" FIRST_WORDS
        ".globl edge_start\n"
        ".type edge_start, @function\n"
        "edge_start:\n"
        "    la sp, edge_stack_top\n"
        "    la t0, edge_trap\n"
        "    csrw mtvec, t0\n"
        "    tail edge_start_memory\n"
        ".option pop\n"
        ".text\n");

/* Some cores take only multiples of 256 for the place of their traps. */
__attribute__((used, aligned(256), noreturn)) void edge_trap(void) { edge_fault(); }

#ifdef EDGE_ESP32
#define REGISTER(address) (*(volatile uint32_t *)(address))

/* The ROM leaves watchdogs running: two of the timers, that of the real-time clock, and the one behind them all.
   ESP32-C3 technical reference manual, chapter 12. */
static void stop_watchdogs(void) {
    enum { KEY = 0x50D83AA1, SUPER_KEY = 0x8F1D312A };
    static const struct {
        uint32_t protect, control;
    } watchdogs[] = {{0x6001F064, 0x6001F048}, {0x60020064, 0x60020048}, {0x600080A8, 0x60008090}};
    for (int i = 0; i < 3; i++) {
        REGISTER(watchdogs[i].protect) = KEY;
        REGISTER(watchdogs[i].control) = 0;
        REGISTER(watchdogs[i].protect) = 0;
    }
    REGISTER(0x600080B0) = SUPER_KEY;
    REGISTER(0x600080AC) |= 1u << 31;
    REGISTER(0x600080B0) = 0;
}
#else
static void stop_watchdogs(void) {}
#endif

__attribute__((used, noreturn)) void edge_start_memory(void) {
    const uint32_t *from = edge_data_load;
    stop_watchdogs();
    for (volatile uint32_t *to = edge_data_start; to < edge_data_end; to++)
        *to = *from++;
    for (volatile uint32_t *to = edge_zero_start; to < edge_zero_end; to++)
        *to = 0;
    edge_serve();
}
