/* UART0 of an ESP32-C3, as its ROM leaves it: 115200 baud, on the pins of the board's USB bridge. */
#include "uart.h"

#define EDGE_REGISTER(address) (*(volatile uint32_t *)(address))
enum { FIFO = 0x60000000, STATUS = 0x6000001C, DEPTH = 128 };

int edge_uart_get(void) { return EDGE_REGISTER(STATUS) & 0x3FF ? (int)(EDGE_REGISTER(FIFO) & 0xFF) : -1; }

void edge_uart_put(uint8_t byte) {
    while ((EDGE_REGISTER(STATUS) >> 16 & 0x3FF) >= DEPTH - 2)
        ;
    EDGE_REGISTER(FIFO) = byte;
}
