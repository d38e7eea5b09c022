/* The first UART of Arm's MPS2 and MPS3 images (CMSDK), which QEMU emulates. */
#include "uart.h"

#define EDGE_REGISTER(address) (*(volatile uint32_t *)(address))
enum { DATA = 0x40004000, STATE = 0x40004004, CONTROL = 0x40004008, DIVIDER = 0x40004010 };

static void start(void) {
    if ((EDGE_REGISTER(CONTROL) & 3) == 3)
        return;
    EDGE_REGISTER(DIVIDER) = 217;
    EDGE_REGISTER(CONTROL) = 3;
}

int edge_uart_get(void) {
    start();
    return EDGE_REGISTER(STATE) & 2 ? (int)(EDGE_REGISTER(DATA) & 0xFF) : -1;
}

void edge_uart_put(uint8_t byte) {
    start();
    while (EDGE_REGISTER(STATE) & 1)
        ;
    EDGE_REGISTER(DATA) = byte;
}
