/* The coded constants in memory: in the caller's, or in one piece that all contexts share. */
#include <pthread.h>
#include <stdlib.h>

#include "edge.h"
#include "program.h"

enum { ALIGNMENT = 64 };

static struct {
    pthread_mutex_t lock;
    void *owned;
    const uint8_t *constants;
    size_t users;
} shared = {PTHREAD_MUTEX_INITIALIZER, NULL, NULL, 0};

size_t edge_constants_memory(void) {
    size_t bytes = edge_model.expanded_bytes;
    return bytes ? bytes + 2 * ALIGNMENT : 0;
}

static uint8_t *aligned(void *memory) {
    return (uint8_t *)(((size_t)memory + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT);
}

static int expand_into(void *memory, const uint8_t **constants) {
    uint8_t *start = aligned(memory);
    const uint8_t *records = edge_constants + edge_model.records;
    if (!edge_expand(records, edge_model.records_bytes, start, edge_model.expanded_bytes))
        return EDGE_DAMAGED;
    *constants = start;
    return EDGE_OK;
}

static int share(void) {
    shared.owned = malloc(edge_constants_memory());
    int code = shared.owned ? expand_into(shared.owned, &shared.constants) : EDGE_MEMORY;
    if (code != EDGE_OK)
        free(shared.owned);
    return code;
}

int edge_constants_take(void *memory, const uint8_t **constants) {
    *constants = NULL;
    if (!edge_model.expanded_bytes)
        return EDGE_OK;
    if (memory)
        return expand_into(memory, constants);
    pthread_mutex_lock(&shared.lock);
    int code = shared.users ? EDGE_OK : share();
    if (code == EDGE_OK) {
        shared.users++;
        *constants = shared.constants;
    }
    pthread_mutex_unlock(&shared.lock);
    return code;
}

void edge_constants_give(const uint8_t *constants) {
    pthread_mutex_lock(&shared.lock);
    if (constants && shared.users && constants == shared.constants && --shared.users == 0)
        free(shared.owned);
    pthread_mutex_unlock(&shared.lock);
}
