/* Serves requests of the line between two runs. Nothing here waits for the host. */
#include "uart.h"
#include "mailbox.h"

enum { HEAD = 4, TAIL = 4, ADDRESS = 4, FRAME = HEAD + ADDRESS + EDGE_UART_BODY + TAIL };

typedef uint32_t __attribute__((may_alias)) word;

static uint8_t frame[FRAME] __attribute__((aligned(4)));
static uint32_t frame_bytes, block_left;
static uint8_t block_code, broken, running;
static uint16_t session;

static uint32_t crc32(const uint8_t *data, uint32_t bytes) {
    uint32_t crc = 0xFFFFFFFFu;
    for (uint32_t i = 0; i < bytes; i++) {
        crc ^= data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (0xEDB88320u & -(crc & 1));
    }
    return ~crc;
}

static uint32_t get_word(const uint8_t *place) {
    return place[0] | (uint32_t)place[1] << 8 | (uint32_t)place[2] << 16 | (uint32_t)place[3] << 24;
}

static void put_word(uint8_t *place, uint32_t word) {
    for (int i = 0; i < 4; i++)
        place[i] = (uint8_t)(word >> 8 * i);
}

/* The frame with `bytes` of body, as an answer or a note of `kind`. */
static void send(uint8_t kind, uint32_t bytes) {
    frame[1] = kind;
    frame[2] = (uint8_t)session;
    frame[3] = (uint8_t)(session >> 8);
    put_word(frame + HEAD + bytes, crc32(frame, HEAD + bytes));
    uint32_t end = HEAD + bytes + TAIL;
    edge_uart_put(0);
    for (uint32_t start = 0; start <= end;) {
        uint32_t stop = start;
        while (stop < end && frame[stop] && stop - start < 254)
            stop++;
        edge_uart_put((uint8_t)(stop - start + 1));
        for (uint32_t i = start; i < stop; i++)
            edge_uart_put(frame[i]);
        start = stop + !(stop - start == 254 && stop < end);
    }
    edge_uart_put(0);
}

static int within(uint32_t address, uint32_t bytes, uint32_t start, uint32_t size) {
    return address >= start && address - start <= size && bytes <= size - (address - start);
}

static uint32_t here(const volatile void *place) { return (uint32_t)(uintptr_t)place; }

static int readable(uint32_t address, uint32_t bytes) {
    return within(address, bytes, here(&edge_mailbox), sizeof edge_mailbox) ||
           within(address, bytes, edge_mailbox.arena, edge_mailbox.arena_bytes) ||
           within(address, bytes, edge_mailbox.step_cycles, 4 * edge_mailbox.step_count);
}

/* What describes the memory is the board's own: of the mailbox, only what asks for work is written. */
static int writable(uint32_t address, uint32_t bytes) {
    return within(address, bytes, here(&edge_mailbox.command), 4) ||
           within(address, bytes, here(&edge_mailbox.argument), 4) ||
           within(address, bytes, here(&edge_mailbox.sequence), 4) ||
           within(address, bytes, edge_mailbox.arena, edge_mailbox.arena_bytes);
}

/* Whole words in one access where they can be. */
static void copy(volatile uint8_t *to, const volatile uint8_t *from, uint32_t bytes) {
    if ((((uintptr_t)to | (uintptr_t)from | bytes) & 3) == 0) {
        for (uint32_t i = 0; i < bytes; i += 4)
            *(volatile word *)(to + i) = *(const volatile word *)(from + i);
    } else {
        for (uint32_t i = 0; i < bytes; i++)
            to[i] = from[i];
    }
}

static void hello(void) {
    session = (uint16_t)(frame[2] | frame[3] << 8);
    put_word(frame + HEAD, EDGE_UART_VERSION);
    put_word(frame + HEAD + 4, here(&edge_mailbox));
    put_word(frame + HEAD + 8, EDGE_UART_BODY);
    send(EDGE_UART_OK, 12);
}

static void serve_read(uint32_t body) {
    uint32_t address = get_word(frame + HEAD), bytes = get_word(frame + HEAD + 4);
    if (body != 8 || bytes > EDGE_UART_BODY || !readable(address, bytes)) {
        send(EDGE_UART_ADDRESS, 0);
        return;
    }
    copy(frame + HEAD, (const volatile uint8_t *)(uintptr_t)address, bytes);
    send(EDGE_UART_OK, bytes);
}

static void serve_write(uint32_t body) {
    uint32_t address = get_word(frame + HEAD), bytes = body - ADDRESS;
    if (body < ADDRESS || !writable(address, bytes)) {
        send(EDGE_UART_ADDRESS, 0);
        return;
    }
    copy((volatile uint8_t *)(uintptr_t)address, frame + HEAD + ADDRESS, bytes);
    running = edge_mailbox.sequence != edge_mailbox.done_sequence;
    put_word(frame + HEAD, running);
    send(EDGE_UART_OK, 4);
}

static void serve(uint32_t bytes) {
    uint32_t body = bytes - HEAD - TAIL;
    if (bytes < HEAD + TAIL || crc32(frame, bytes - TAIL) != get_word(frame + bytes - TAIL))
        return;
    if (frame[1] == EDGE_UART_HELLO)
        hello();
    else if ((frame[2] | frame[3] << 8) != session || !session)
        send(EDGE_UART_SESSION, 0);
    else if (frame[1] == EDGE_UART_READ)
        serve_read(body);
    else if (frame[1] == EDGE_UART_WRITE)
        serve_write(body);
    else
        send(EDGE_UART_UNKNOWN, 0);
}

static void keep(uint8_t byte) {
    if (frame_bytes == FRAME)
        broken = 1;
    else
        frame[frame_bytes++] = byte;
}

static void take(uint8_t byte) {
    if (byte == 0) {
        uint32_t bytes = frame_bytes;
        int whole = !broken && block_left == 0 && bytes;
        frame_bytes = block_left = 0;
        block_code = broken = 0;
        if (whole)
            serve(bytes);
    } else if (block_left) {
        block_left--;
        keep(byte);
    } else {
        if (block_code && block_code != 255)
            keep(0);
        block_code = byte;
        block_left = byte - 1u;
    }
}

void edge_idle(void) {
    if (running && edge_mailbox.sequence == edge_mailbox.done_sequence) {
        running = 0;
        frame[0] = 0;
        put_word(frame + HEAD, edge_mailbox.done_sequence);
        send(EDGE_UART_DONE, 4);
        frame_bytes = block_left = 0;
        block_code = 0;
        broken = 1;
    }
    for (int byte = edge_uart_get(); byte >= 0 && !running; byte = edge_uart_get())
        take((uint8_t)byte);
}
