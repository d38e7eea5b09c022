#include "border.h"

void edge_clear_border(uint8_t *buffer, size_t images, size_t rows, size_t columns, size_t cell, size_t top,
                       size_t bottom, size_t left, size_t right, int fill) {
    size_t row = columns * cell;
    for (size_t image = 0; image < images; image++, buffer += rows * row) {
        __builtin_memset(buffer, fill, top * row);
        __builtin_memset(buffer + (rows - bottom) * row, fill, bottom * row);
        if (left + right == 0 || top + bottom >= rows)
            continue;
        /* The right edge of one row and the left edge of the next are neighbours in memory. */
        uint8_t *edge = buffer + top * row;
        __builtin_memset(edge, fill, left * cell);
        for (size_t y = top; y + 1 < rows - bottom; y++, edge += row)
            __builtin_memset(edge + row - right * cell, fill, (left + right) * cell);
        __builtin_memset(edge + row - right * cell, fill, right * cell);
    }
}
