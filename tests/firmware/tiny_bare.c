/* A model as the lowering makes them, by hand: two inputs, two outputs, three steps.
   scaled = int8 first + second (saturated); sum = int32 sum of first times the constants, by a float on the way. */
#include "edge_model.h"

static const int32_t first_shape[] = {1, 8}, sum_shape[] = {1, 1};
static const struct edge_tensor inputs[] = {
    {"first", "int8", 2, first_shape, 8, 0.5f, 3, 0},
    {"second", "int8", 2, first_shape, 8, 0.25f, -1, 16},
};
static const struct edge_tensor outputs[] = {
    {"scaled", "int8", 2, first_shape, 8, 0.125f, 5, 32},
    {"sum", "float32", 2, sum_shape, 4, 0, 0, 48},
};
const struct edge_model edge_model = {"tiny", "cortex-m4", 64, 2, inputs, 2, outputs, 3};

static const int16_t weights[8] = {3, -5, 7, 11, -13, 17, 19, 23};
static volatile int32_t offset = 1000;
static volatile int32_t runs;

void edge_run(void *arena, edge_note note, void *context) {
    int8_t *first = arena, *second = first + 16, *scaled = first + 32;
    float *sum = (float *)(first + 48);
    for (int i = 0; i < 16; i++)
        first[32 + i] = 0;
    if (note) note(context, 0);
    for (int i = 0; i < 8; i++) {
        int32_t value = first[i] + second[i];
        scaled[i] = value > 127 ? 127 : value < -128 ? -128 : value;
    }
    if (note) note(context, 1);
    int32_t total = offset;
    for (int i = 0; i < 8; i++)
        total += first[i] * weights[i];
    runs++;
    *sum = (float)total * 0.5f;
    if (note) note(context, 2);
}
