/* The firmware's serial side on this machine: its line is a pty, its model adds one to every byte of the arena. */
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <termios.h>
#include <unistd.h>
#include "mailbox.h"
#include "uart.h"

enum { ARENA = 4000, STEPS = 3 };
volatile struct edge_mailbox edge_mailbox;
static uint8_t arena[ARENA] __attribute__((aligned(16)));
static uint32_t steps[STEPS] = {11, 22, 33};
static int line;

int edge_uart_get(void) {
    uint8_t byte;
    return read(line, &byte, 1) == 1 ? byte : -1;
}

void edge_uart_put(uint8_t byte) {
    while (write(line, &byte, 1) != 1)
        usleep(100);
}

int main(int count, char **arguments) {
    line = open(arguments[1], O_RDWR | O_NONBLOCK | O_NOCTTY);
    struct termios settings;
    if (count < 2 || line < 0 || tcgetattr(line, &settings))
        return 1;
    cfmakeraw(&settings);
    tcsetattr(line, TCSANOW, &settings);
    edge_mailbox.version = EDGE_VERSION;
    edge_mailbox.arena = (uint32_t)(uintptr_t)arena;
    edge_mailbox.arena_bytes = ARENA;
    edge_mailbox.step_count = STEPS;
    edge_mailbox.step_cycles = (uint32_t)(uintptr_t)steps;
    edge_mailbox.magic = EDGE_MAGIC;
    edge_mailbox.status = EDGE_READY;
    for (;;) {
        edge_idle();
        uint32_t sequence = edge_mailbox.sequence;
        if (sequence == edge_mailbox.done_sequence) {
            usleep(200);
            continue;
        }
        if (edge_mailbox.argument >= 100000)
            execv(arguments[0], arguments);
        usleep(1000 * edge_mailbox.argument);
        for (int i = 0; i < ARENA; i++)
            arena[i]++;
        edge_mailbox.cycles_low = 2 * edge_mailbox.argument;
        edge_mailbox.status = EDGE_DONE;
        edge_mailbox.done_sequence = sequence;
    }
}
