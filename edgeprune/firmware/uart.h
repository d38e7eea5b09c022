/* The mailbox over a serial line, for boards that no probe reaches: frames with numbers and checksums.

   On the line a frame is 0, its bytes by COBS (Cheshire and Baker 1999; no byte is 0), 0. Its bytes, little-endian:
   number (uint8), kind (uint8), session (uint16), body, CRC-32 of all before (uint32). Requests, and their answers:

     EDGE_UART_HELLO  (nothing)                    -> version, address of the mailbox, most bytes of a read or write
     EDGE_UART_READ   address, bytes (uint32 each) -> the bytes
     EDGE_UART_WRITE  address (uint32), the bytes  -> uint32: 1 where a run is about to begin, else 0

   An answer has its request's number, and as kind 0 or an error. The session is chosen by a hello and is 0 after reset:
   a board that was reset refuses whatever came before. After a run comes EDGE_UART_DONE, unasked. */
#ifndef EDGE_UART_H
#define EDGE_UART_H
#include <stdint.h>

enum { EDGE_UART_VERSION = 1, EDGE_UART_BODY = 512 };
enum { EDGE_UART_HELLO = 1, EDGE_UART_READ = 2, EDGE_UART_WRITE = 3, EDGE_UART_DONE = 0x80 };
enum { EDGE_UART_OK = 0, EDGE_UART_UNKNOWN = 1, EDGE_UART_ADDRESS = 2, EDGE_UART_SESSION = 3 };

/* Written for each family of chips: a byte that has arrived, or -1; send a byte, waiting until there is room. */
int edge_uart_get(void);
void edge_uart_put(uint8_t byte);
#endif
