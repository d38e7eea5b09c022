/* Serves EEMBC's runner between two requests of the mailbox, and keeps its time. */
#include "counter.h"
#include "edge_model.h"
#include "long_arithmetic.h"
#include "mailbox.h"
#include "mlperf_tiny.h"
#include "uart.h"

#ifdef EDGE_ESP32
/* The system timer of an ESP32-C3, as its ROM leaves it: 16 MHz whatever the clock of the core is. */
enum { TICKS_HZ = 16000000, UNIT = 0x60023004, LOW = 0x60023044, UPDATE = 1 << 30, VALID = 1 << 29 };
static uint32_t tick(void) {
    EDGE_REGISTER(UNIT) = UPDATE;
    while (!(EDGE_REGISTER(UNIT) & VALID))
        ;
    return EDGE_REGISTER(LOW);
}
#else
enum { TICKS_HZ = EDGE_CLOCK_HZ };
static uint32_t tick(void) { return edge_count(); }
#endif

static uint32_t last;
static uint64_t total;

/* Often enough that the counter goes round no more than once between. */
static void keep(void *context, int32_t step) {
    (void)context, (void)step;
    uint32_t now = tick();
    total += edge_elapsed(last, now);
    last = now;
}

uint32_t edge_mlperf_microseconds(void) {
    uint32_t rest, left;
    keep(0, 0);
    uint64_t seconds = edge_divide(total, TICKS_HZ, &rest);
    return (uint32_t)(edge_times(seconds, 1000000) + edge_divide(edge_times(rest, 1000000), TICKS_HZ, &left));
}

void edge_mlperf_infer(void) {
    edge_mark_begin();
    edge_run(edge_arena, EDGE_COUNTER_IS_NARROW ? keep : 0, 0);
    edge_mark_end();
    keep(0, 0);
}

void edge_talk(void) {
    static uint8_t started;
    if (!started) {
        started = 1;
        last = tick();
        edge_mlperf_start();
    }
    keep(0, 0);
    for (int byte = edge_uart_get(); byte >= 0; byte = edge_uart_get())
        edge_mlperf_take((uint8_t)byte);
}
