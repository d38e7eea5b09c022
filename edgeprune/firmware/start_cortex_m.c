/* From reset to the mailbox on a Cortex-M: vectors, floating point, caches, .data and .bss. */
#include "mailbox.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))
enum { VTOR = 0xE000ED08, CPACR = 0xE000ED88, CCR = 0xE000ED14, CCSIDR = 0xE000ED80, CSSELR = 0xE000ED84 };
enum { ICIALLU = 0xE000EF50, DCISW = 0xE000EF60 };

extern uint32_t edge_stack_top[], edge_data_start[], edge_data_end[], edge_zero_start[], edge_zero_end[];
extern const uint32_t edge_data_load[];

void edge_start(void) __attribute__((noreturn));

typedef void (*handler)(void);
typedef struct {
    uint32_t *stack;
    handler handlers[15];
} vector_table;

const vector_table edge_vectors __attribute__((section(".edge_vectors"), used)) = {
    edge_stack_top,
    {edge_start, edge_fault, edge_fault, edge_fault, edge_fault, edge_fault, edge_fault, 0, 0, 0, edge_fault, edge_fault,
     0, edge_fault, edge_fault},
};

static inline void wait_for_writes(void) { __asm__ volatile("dsb\n isb" ::: "memory"); }

#ifdef EDGE_CACHES
/* Caches come up with unknown content: they are emptied first, the data cache line by line. */
static inline void start_caches(void) {
    REGISTER(ICIALLU) = 0;
    wait_for_writes();
    REGISTER(CCR) |= 1u << 17;
    REGISTER(CSSELR) = 0;
    wait_for_writes();
    uint32_t size = REGISTER(CCSIDR), sets = (size >> 13) & 0x7FFF, ways = (size >> 3) & 0x3FF;
    for (uint32_t set = 0; set <= sets; set++)
        for (uint32_t way = 0; way <= ways; way++)
            REGISTER(DCISW) = way << 30 | set << 5;
    wait_for_writes();
    REGISTER(CCR) |= 1u << 16;
    wait_for_writes();
}
#else
static inline void start_caches(void) {}
#endif

/* What may use vector registers comes after floating point is on. */
static __attribute__((noinline, noreturn)) void start_memory(void) {
    const uint32_t *from = edge_data_load;
    for (volatile uint32_t *to = edge_data_start; to < edge_data_end; to++)
        *to = *from++;
    for (volatile uint32_t *to = edge_zero_start; to < edge_zero_end; to++)
        *to = 0;
    edge_serve();
}

void edge_start(void) {
    REGISTER(VTOR) = (uint32_t)&edge_vectors;
#ifdef __ARM_FP
    REGISTER(CPACR) |= 0xFu << 20;
#endif
    wait_for_writes();
    start_caches();
    start_memory();
}
