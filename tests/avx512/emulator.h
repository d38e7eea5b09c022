/* Vector instructions of x86-64 in plain C, for libraries whose vector instructions were made invalid beforehand.

   Every operation is written from its definition in Intel's Software Developer's Manual, volume 2. */
#ifndef EMULATOR_H
#define EMULATOR_H

#include <stddef.h>
#include <stdint.h>

enum { VECTOR_BYTES = 64, VECTORS = 32, MASKS = 8, OPERANDS = 5 };
enum kind { ABSENT, VECTOR, MASK, GENERAL, MEMORY };

typedef union {
    uint8_t b[64];
    int8_t sb[64];
    uint16_t w[32];
    int16_t sw[32];
    uint32_t d[16];
    int32_t sd[16];
    uint64_t q[8];
    int64_t sq[8];
    float s[16];
    double f[8];
} vector;

struct operand {
    uint8_t kind;
    uint8_t number;
    uint8_t bytes;
};

/* One decoded instruction; `operation` is 0 where none of ours begins. A vector `index` makes it a gather. */
struct instruction {
    uint16_t operation;
    uint8_t length;
    uint8_t count;
    struct operand operands[OPERANDS];
    uint8_t mask;
    uint8_t zeroing;
    uint8_t repeats;
    uint8_t immediate;
    uint8_t base;
    uint8_t index;
    uint8_t index_bytes;
    uint8_t scale;
    int64_t displacement;
};

struct registers {
    vector v[VECTORS];
    uint64_t k[MASKS];
    uint64_t general[16];
    uint64_t flags;
    uint64_t next;
};

/* One execution: `in` are the sources, `old` what the destination held, `out` what it will hold. */
struct step {
    const struct instruction *code;
    struct registers *registers;
    const struct operand *sources;
    vector in[3];
    uint64_t in_mask[3];
    uint64_t in_general[3];
    vector old;
    vector out;
    uint64_t out_mask;
    uint64_t out_general;
    uint64_t selected;
    int lanes;
    int bytes;
    int immediate;
};

/* `element` is the destination's, in bytes, which masks select; `source` is given where lanes are counted by it. */
struct operation {
    const char *name;
    void (*run)(struct step *step);
    uint8_t element;
    uint8_t source;
    uint8_t traits;
};

enum traits {
    SCALAR = 1,  /* only lane 0 is computed and masked */
    READS = 2,   /* no destination among the operands: flags alone change */
    WHOLE = 4,   /* lanes of the result are not those of a memory operand: it is read in full */
    ALIGNED = 8, /* faults unless its memory operand is aligned to its size */
    WRITES = 16, /* the operation itself reads memory and writes its results */
    SELECTS = 32, /* the mask is an operand of the operation, not a filter of what it writes */
    KEEPS = 64   /* lanes that are not computed stay as they are in the destination */
};

extern const struct operation float_operations[], integer_operations[], shuffle_operations[], move_operations[],
    mask_operations[];

uint64_t address_of(const struct registers *registers, const struct instruction *code, uint64_t index);
void identify(struct step *step);
void read_state(struct step *step);

/* For the process: which processor cpuid describes, and a library whose instructions are to be executed. */
struct leaf {
    uint32_t leaf;
    uint32_t subleaf;
    uint32_t words[4];
};
const char *emulator_operation(int index);
void emulator_processor(const struct leaf *leaves, int count, uint64_t state);
int emulator_add(uint64_t base, const struct instruction *table, uint64_t size);
uint64_t emulator_executed(void);

#endif
