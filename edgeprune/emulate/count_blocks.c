/* Counts the instructions that unicorn executes between two marks: called for each block that it enters. The block at
   `begin` starts a region behind its first instruction, the one at `end` ends it before its own first. */
#include <stddef.h>
#include <stdint.h>

struct known {
    uint32_t bytes, instructions;
};

/* `code` are the `bytes` of the program from `start` on, `known` has one entry for every two of them. */
struct counter {
    const uint8_t *code;
    uint64_t start, bytes;
    struct known *known;
    uint64_t *regions;
    uint64_t most_regions, region_count;
    uint64_t begin, end, executed, begun_at;
    uint32_t riscv, inside, outside;
};

static uint32_t length(const struct counter *counter, uint64_t place) {
    if (counter->riscv)
        return (counter->code[place] & 3) == 3 ? 4 : 2;
    return counter->code[place + 1] >> 3 >= 0x1d ? 4 : 2;
}

static uint32_t instructions(struct counter *counter, uint64_t address, uint32_t bytes) {
    uint64_t first = address - counter->start;
    if (address < counter->start || first + bytes > counter->bytes) {
        counter->outside = 1;
        return 0;
    }
    struct known *known = &counter->known[first / 2];
    if (known->bytes != bytes) {
        known->bytes = bytes;
        known->instructions = 0;
        for (uint64_t place = first; place < first + bytes; place += length(counter, place))
            known->instructions++;
    }
    return known->instructions;
}

__attribute__((visibility("default"))) void edge_count_block(void *machine, uint64_t address, uint32_t bytes,
                                                             struct counter *counter) {
    (void)machine;
    if (address == counter->end && counter->inside) {
        counter->inside = 0;
        if (counter->region_count < counter->most_regions)
            counter->regions[counter->region_count] = counter->executed - counter->begun_at;
        counter->region_count++;
    }
    if (address == counter->begin) {
        counter->inside = 1;
        counter->begun_at = counter->executed + 1;
    }
    if (counter->inside)
        counter->executed += instructions(counter, address, bytes);
}
