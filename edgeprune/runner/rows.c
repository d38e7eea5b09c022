#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"
#include "model.h"

static FILE *opened(const char *path, const char *mode, const char *what) {
    if (!path)
        edge_give_up("--%s is missing", what);
    FILE *file = fopen(path, mode);
    if (!file)
        edge_give_up("%s: %s", path, strerror(errno));
    return file;
}

/* The next row of `side`; 0 at the end of the file. */
static int read_row(FILE *file, const char *path, const struct edge_side *side) {
    for (int port = 0; port < side->count; port++) {
        size_t got = fread(side->row[port], 1, side->bytes[port], file);
        if (got == 0 && port == 0 && feof(file))
            return 0;
        if (got != side->bytes[port])
            edge_give_up("%s: not a whole number of rows of %zu bytes", path, side->row_bytes);
    }
    return 1;
}

int edge_run_rows(const struct edge_asked *asked) {
    struct edge_loaded model = {0};
    edge_open_model(&model, asked->library, asked->threads, 0);
    FILE *inputs = opened(asked->inputs, "rb", "inputs"), *outputs = opened(asked->outputs, "wb", "outputs");
    long rows = 0;
    for (; read_row(inputs, asked->inputs, &model.inputs); rows++) {
        if (asked->reset_every && rows % asked->reset_every == 0)
            edge_forget(&model);
        edge_infer(&model);
        for (int port = 0; port < model.outputs.count; port++)
            if (fwrite(model.outputs.row[port], 1, model.outputs.bytes[port], outputs) != model.outputs.bytes[port])
                edge_give_up("%s: %s", asked->outputs, strerror(errno));
    }
    if (fclose(outputs))
        edge_give_up("%s: %s", asked->outputs, strerror(errno));
    fclose(inputs);
    printf("{\"rows\": %ld}\n", rows);
    return 0;
}

/* The largest difference of one row: of real numbers by their value, of others 1 where a byte differs. */
static double difference(FILE *expected, const char *path, const struct edge_side *side) {
    double largest = 0;
    for (int port = 0; port < side->count; port++) {
        int real = strcmp(side->dtype[port], "float32") == 0;
        for (size_t at = 0; at < side->bytes[port]; at += sizeof(float)) {
            size_t bytes = side->bytes[port] - at < sizeof(float) ? side->bytes[port] - at : sizeof(float);
            const uint8_t *found = (const uint8_t *)side->row[port] + at;
            float wanted, got;
            if (fread(&wanted, 1, bytes, expected) != bytes)
                edge_give_up("%s: fewer rows than inputs", path);
            if (memcmp(&wanted, found, bytes) == 0)
                continue;
            memcpy(&got, found, bytes);
            double apart = real ? fabs((double)got - (double)wanted) : 1.0;
            if (!(apart <= largest))
                largest = apart == apart ? apart : INFINITY;
        }
    }
    return largest;
}

int edge_verify(const struct edge_asked *asked) {
    struct edge_loaded model = {0};
    edge_open_model(&model, asked->library, asked->threads, 0);
    FILE *inputs = opened(asked->inputs, "rb", "inputs"), *expected = opened(asked->expected, "rb", "expected");
    long rows = 0;
    double largest = 0;
    for (; read_row(inputs, asked->inputs, &model.inputs); rows++) {
        edge_infer(&model);
        double apart = difference(expected, asked->expected, &model.outputs);
        largest = apart > largest ? apart : largest;
    }
    int equal = largest <= asked->tolerance;
    printf("{\"rows\": %ld, \"largest_difference\": %.9g, \"equal\": %s}\n", rows, largest < 1e300 ? largest : 1e300,
           equal ? "true" : "false");
    return equal ? 0 : 3;
}
