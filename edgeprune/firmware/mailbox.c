/* Runs the model on request. Nothing here uses an interrupt, a heap or a library. */
#include "mailbox.h"
#include "counter.h"
#include "edge_model.h"

volatile struct edge_mailbox edge_mailbox __attribute__((section(".edge_mailbox")));
uint8_t edge_arena[EDGE_ARENA_BYTES] __attribute__((section(".edge_arena"), aligned(16)));
static uint32_t step_cycles[EDGE_STEPS];

static uint32_t last;
static uint64_t total;

/* A probe may see the memory behind the data cache: lines are written there and forgotten, so that each side reads what
   the other wrote. The host writes nothing while the model runs, and between runs no line here differs from memory. */
#ifdef EDGE_CACHES
void edge_share(const volatile void *from, uint32_t bytes) {
    enum { LINE = 32 };
    uint32_t address = (uint32_t)(uintptr_t)from, end = address + bytes;
    __asm__ volatile("dsb" ::: "memory");
    for (address &= ~(uint32_t)(LINE - 1); address < end; address += LINE)
        EDGE_REGISTER(0xE000EF70) = address; /* DCCIMVAC */
    __asm__ volatile("dsb\n isb" ::: "memory");
}
#else
void edge_share(const volatile void *from, uint32_t bytes) { (void)from, (void)bytes; }
#endif

static void share_mailbox(void) { edge_share(&edge_mailbox, sizeof edge_mailbox); }

/* Between these two an emulator counts instructions. */
__attribute__((noinline, used)) void edge_mark_begin(void) { edge_mark(0x70); }
__attribute__((noinline, used)) void edge_mark_end(void) { edge_mark(0x71); }

__attribute__((noinline, used, weak)) void edge_idle(void) { __asm__ volatile("" ::: "memory"); }

__attribute__((noinline, weak)) void edge_talk(void) {}

/* After each step of a profiled run. */
static void profile(void *context, int32_t step) {
    (void)context;
    edge_mark_end();
    step_cycles[step] = edge_elapsed(last, edge_count());
    last = edge_count();
    edge_mark_begin();
}

/* Keeps count where the counter is too narrow for a whole run. */
static void keep(void *context, int32_t step) {
    (void)context, (void)step;
    uint32_t now = edge_count();
    total += edge_elapsed(last, now);
    last = now;
}

static void run(edge_note note) {
    last = edge_count();
    edge_mark_begin();
    edge_run(edge_arena, note, 0);
    edge_mark_end();
    total += edge_elapsed(last, edge_count());
}

static uint32_t obey(uint32_t command, uint32_t argument) {
    edge_note timed = EDGE_COUNTER_IS_NARROW ? keep : 0;
    total = 0;
#ifdef EDGE_KEEPS
    if (command == EDGE_RESET) {
        edge_reset(edge_arena);
        return 0;
    }
#endif
    if (command != EDGE_RUN && command != EDGE_BENCH)
        return EDGE_ERROR_COMMAND;
    for (uint32_t runs = command == EDGE_RUN ? 1 : argument; runs; runs--)
        run(timed);
    edge_mailbox.cycles_low = (uint32_t)total;
    edge_mailbox.cycles_high = (uint32_t)(total >> 32);
    if (command == EDGE_BENCH)
        run(profile);
    return 0;
}

static void start_mailbox(void) {
    edge_mailbox.magic = 0;
    edge_mailbox.version = EDGE_VERSION;
    edge_mailbox.command = EDGE_NONE;
    edge_mailbox.status = EDGE_BOOTING;
    edge_mailbox.sequence = edge_mailbox.done_sequence = 0;
    edge_mailbox.argument = edge_mailbox.error = 0;
    edge_mailbox.cycles_low = edge_mailbox.cycles_high = 0;
    edge_mailbox.arena = (uint32_t)(uintptr_t)edge_arena;
    edge_mailbox.arena_bytes = edge_model.arena_bytes;
    edge_mailbox.step_count = (uint32_t)edge_model.step_count;
    edge_mailbox.step_cycles = (uint32_t)(uintptr_t)step_cycles;
    edge_mailbox.clock_hz = EDGE_CLOCK_HZ;
    edge_mailbox.library[0] = EDGE_LIBRARY_FIRST;
    edge_mailbox.library[1] = EDGE_LIBRARY_SECOND;
    edge_mailbox.magic = EDGE_MAGIC;
    edge_mailbox.status = EDGE_READY;
    share_mailbox();
    edge_share(edge_arena, sizeof edge_arena);
}

void edge_serve(void) {
#ifdef EDGE_KEEPS
    edge_reset(edge_arena);
#endif
    start_mailbox();
    edge_start_counter();
    for (;;) {
        edge_idle();
        edge_talk();
        share_mailbox();
        uint32_t sequence = edge_mailbox.sequence;
        if (sequence == edge_mailbox.done_sequence)
            continue;
        edge_mailbox.status = EDGE_BUSY;
        edge_share(edge_arena, sizeof edge_arena);
        edge_mailbox.error = obey(edge_mailbox.command, edge_mailbox.argument);
        edge_mailbox.status = edge_mailbox.error ? EDGE_FAILED : EDGE_DONE;
        edge_share(edge_arena, sizeof edge_arena);
        edge_share(step_cycles, sizeof step_cycles);
        edge_mailbox.done_sequence = sequence;
        share_mailbox();
    }
}

void edge_fault(void) {
    edge_mailbox.error = EDGE_ERROR_FAULT;
    edge_mailbox.status = EDGE_FAILED;
    edge_mailbox.done_sequence = edge_mailbox.sequence;
    share_mailbox();
    for (;;)
        edge_idle();
}
