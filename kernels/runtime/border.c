#include "border.h"

/* Loops of a few stores over a few rows, which are not worth the preparation of an unrolled loop. */
#ifdef __clang__
#define EDGE_SHORT_LOOP _Pragma("clang loop unroll(disable)")
#else
#define EDGE_SHORT_LOOP
#endif

/* Fills `count` gaps of `size` to twice `size` bytes, `step` bytes apart, each by two stores that may overlap. */
static inline __attribute__((always_inline)) void fill_twice(uint8_t *gap, size_t count, size_t step, size_t bytes,
                                                             size_t size, int fill) {
    EDGE_SHORT_LOOP
    for (; count; count--, gap += step) {
        __builtin_memset(gap, fill, size);
        __builtin_memset(gap + bytes - size, fill, size);
    }
}

/* Fills `count` gaps of `bytes` bytes, `step` bytes apart: small ones without a call on machines of 64 bits, which store
   many bytes at once wherever they lie. */
static void fill_gaps(uint8_t *gap, size_t count, size_t step, size_t bytes, int fill) {
    if (sizeof(void *) == 8 && bytes >= 16 && bytes <= 32)
        fill_twice(gap, count, step, bytes, 16, fill);
    else if (sizeof(void *) == 8 && bytes >= 8 && bytes < 16)
        fill_twice(gap, count, step, bytes, 8, fill);
    else if (bytes)
        for (; count; count--, gap += step)
            __builtin_memset(gap, fill, bytes);
}

void edge_clear_border(uint8_t *buffer, size_t images, size_t rows, size_t columns, size_t cell, size_t top,
                       size_t bottom, size_t left, size_t right, int fill) {
    size_t row = columns * cell, image = rows * row, gap = (left + right) * cell;
    if (top + bottom >= rows) {
        __builtin_memset(buffer, fill, images * image);
        return;
    }
    /* The right edge of a row and the left edge of the next are neighbours in memory, and so are the last rows of an
       image and the first of the next. */
    __builtin_memset(buffer, fill, top * row + left * cell);
    fill_gaps(buffer + row - right * cell, images * rows - 1, row, gap, fill);
    for (; images > 1; images--) {
        buffer += image;
        __builtin_memset(buffer - bottom * row, fill, (bottom + top) * row);
    }
    buffer += image - bottom * row;
    __builtin_memset(buffer - right * cell, fill, right * cell + bottom * row);
}
