/* The core's cycle counter: DWT on Cortex-M3 and up, SysTick (24 bits, downwards) on M0+, mcycle on RISC-V or, on an
   ESP32-C3, which has none, its own. */
#ifndef EDGE_COUNTER_H
#define EDGE_COUNTER_H
#include <stdint.h>

#define EDGE_REGISTER(address) (*(volatile uint32_t *)(address))

#if defined(__riscv)
enum { EDGE_COUNTER_IS_NARROW = 0 };
#define edge_mark(number) __asm__ volatile("nop" ::: "memory")
#define EDGE_CSR(instruction) ".option push\n .option arch, +zicsr\n " instruction "\n .option pop"
#ifdef EDGE_ESP32
static inline void edge_start_counter(void) {
    __asm__ volatile(EDGE_CSR("csrw 0x7e0, %0\n csrw 0x7e1, %0") ::"r"(1) : "memory");
}
#define EDGE_READ_CYCLES "csrr %0, 0x7e2"
#else
static inline void edge_start_counter(void) {}
#define EDGE_READ_CYCLES "csrr %0, mcycle"
#endif
static inline uint32_t edge_count(void) {
    uint32_t count;
    __asm__ volatile(EDGE_CSR(EDGE_READ_CYCLES) : "=r"(count)::"memory");
    return count;
}
static inline uint32_t edge_elapsed(uint32_t before, uint32_t after) { return after - before; }

#elif __ARM_ARCH_ISA_THUMB == 1 || defined(__ARM_ARCH_8M_BASE__)
enum { EDGE_COUNTER_IS_NARROW = 1 };
#define edge_mark(number) __asm__ volatile("nop" ::: "memory")
static inline void edge_start_counter(void) {
    EDGE_REGISTER(0xE000E014) = 0xFFFFFF;
    EDGE_REGISTER(0xE000E018) = 0;
    EDGE_REGISTER(0xE000E010) = 5;
}
static inline uint32_t edge_count(void) { return EDGE_REGISTER(0xE000E018); }
static inline uint32_t edge_elapsed(uint32_t before, uint32_t after) { return (before - after) & 0xFFFFFF; }

#else
enum { EDGE_COUNTER_IS_NARROW = 0 };
/* hint.w of a number that no core gives a meaning. */
#define edge_mark(number) __asm__ volatile(".inst.w 0xf3af8000 + " #number ::: "memory")
static inline void edge_start_counter(void) {
    EDGE_REGISTER(0xE000EDFC) |= 1u << 24;
    EDGE_REGISTER(0xE0001FB0) = 0xC5ACCE55;
    EDGE_REGISTER(0xE0001004) = 0;
    EDGE_REGISTER(0xE0001000) |= 1;
}
static inline uint32_t edge_count(void) { return EDGE_REGISTER(0xE0001004); }
static inline uint32_t edge_elapsed(uint32_t before, uint32_t after) { return after - before; }
#endif
#endif
