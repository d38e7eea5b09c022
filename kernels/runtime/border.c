#include "border.h"

/* Fills `count` gaps of `size` to twice `size` bytes, `step` bytes apart, each by two stores that may overlap. */
static inline __attribute__((always_inline)) void fill_twice(uint8_t *gap, size_t count, size_t step, size_t bytes,
                                                             size_t size, int fill) {
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
    size_t row = columns * cell, gap = (left + right) * cell, before = top * row + left * cell;
    if (top + bottom >= rows) {
        __builtin_memset(buffer, fill, images * rows * row);
        return;
    }
    /* What lies after a row's cells is one piece of memory up to the next row's, or the next image's. */
    size_t lower = rows - top - bottom - 1, after = right * cell + bottom * row;
    __builtin_memset(buffer, fill, before);
    uint8_t *end = buffer + before + row - gap;
    for (size_t image = 0; image < images; image++) {
        fill_gaps(end, lower, row, gap, fill);
        end += lower * row;
        __builtin_memset(end, fill, image + 1 < images ? after + before : after);
        end += after + before + row - gap;
    }
}
