/* What the generated program needs of the runtime. */
#ifndef EDGE_PROGRAM_H
#define EDGE_PROGRAM_H

#include <stdint.h>

#include "border.h"
#include "edge_model.h"

/* The packed weights, read where they are. */
extern const uint8_t edge_constants[];

#endif
