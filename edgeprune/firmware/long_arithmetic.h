/* 64-bit products and quotients on cores that have neither, without a library. */
#ifndef EDGE_LONG_ARITHMETIC_H
#define EDGE_LONG_ARITHMETIC_H
#include <stdint.h>

/* value * by, modulo 2^64. */
static inline uint64_t edge_times(uint64_t value, uint32_t by) {
    uint64_t product = 0;
    for (; by; by >>= 1, value <<= 1)
        if (by & 1)
            product += value;
    return product;
}

/* value / by, rounded down; *rest is what is left. */
static inline uint64_t edge_divide(uint64_t value, uint32_t by, uint32_t *rest) {
    uint64_t quotient = 0, left = 0;
    for (int bit = 0; bit < 64; bit++, value <<= 1) {
        left = left << 1 | value >> 63;
        quotient <<= 1;
        if (left >= by)
            left -= by, quotient |= 1;
    }
    *rest = (uint32_t)left;
    return quotient;
}
#endif
