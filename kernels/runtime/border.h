/* The border of stored images. */
#ifndef EDGE_BORDER_H
#define EDGE_BORDER_H

#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(hidden)

/* Fills the border of `images` images of `rows` x `columns` cells of `cell` bytes. */
void edge_clear_border(uint8_t *buffer, size_t images, size_t rows, size_t columns, size_t cell, size_t top,
                       size_t bottom, size_t left, size_t right, int fill);

#pragma GCC visibility pop

#endif
