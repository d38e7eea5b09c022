/* What the files of elementary functions share. */
#ifndef EDGE_ELEMENTARY_H
#define EDGE_ELEMENTARY_H

#include <stdint.h>

#define LN2_HIGH 0x1.62e42fee00000p-1
#define LN2_LOW 0x1.a39ef35793c76p-33

static inline uint64_t bits_of(double x) {
    uint64_t bits;
    __builtin_memcpy(&bits, &x, sizeof bits);
    return bits;
}

static inline double from_bits(uint64_t bits) {
    double x;
    __builtin_memcpy(&x, &bits, sizeof x);
    return x;
}

static inline double magnitude(double x) {
    return from_bits(bits_of(x) & ~(UINT64_C(1) << 63));
}

static inline double with_sign(double x, double sign) {
    uint64_t mask = UINT64_C(1) << 63;
    return from_bits((bits_of(x) & ~mask) | (bits_of(sign) & mask));
}

/* The nearest whole number, ties to even, for |x| < 2^51. */
static inline double nearest_whole(double x) {
    return (x + 0x1.8p52) - 0x1.8p52;
}

/* Horner's rule, highest power first. */
static inline double horner(double x, const double *coefficients, int count) {
    double sum = coefficients[0];
    for (int i = 1; i < count; i++)
        sum = sum * x + coefficients[i];
    return sum;
}

#define HORNER(x, coefficients) horner(x, coefficients, (int)(sizeof(coefficients) / sizeof((coefficients)[0])))

#endif
