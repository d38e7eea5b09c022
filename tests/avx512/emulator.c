#define _GNU_SOURCE
#include "emulator.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

enum { LIBRARIES = 1 << 14, LEAVES = 64, OPERATIONS = 1024, NEXT = 16, NONE = 255 };

static const struct operation *const tables[] = {float_operations, integer_operations, shuffle_operations,
                                                 move_operations, mask_operations};
static struct {
    uint64_t base, size;
    const struct instruction *table;
} libraries[LIBRARIES];
static int library_count;
static struct leaf leaves[LEAVES];
static int leaf_count;
static uint64_t saved_state;
static atomic_ullong executed;
static struct sigaction before;
static __thread struct registers own;

/* Operation 1 is the first; 0 is none. */
static const struct operation *operations[OPERATIONS];

__attribute__((constructor)) static void list_operations(void) {
    int count = 1;
    for (size_t i = 0; i < sizeof tables / sizeof tables[0]; i++)
        for (const struct operation *row = tables[i]; row->name && count < OPERATIONS - 1; row++)
            operations[count++] = row;
}
const char *emulator_operation(int index) {
    return operations[index] ? operations[index]->name : NULL;
}

uint64_t address_of(const struct registers *registers, const struct instruction *code, uint64_t index) {
    uint64_t base = code->base == NONE ? 0 : code->base == NEXT ? registers->next : registers->general[code->base];
    if (!code->index_bytes && code->index != NONE)
        index = registers->general[code->index];
    return base + index * code->scale + (uint64_t)code->displacement;
}

static uint64_t cut(uint64_t value, int bytes) {
    return bytes >= 8 ? value : value & (((uint64_t)1 << 8 * bytes) - 1);
}

/* A lane that the mask leaves out is not touched: it may lie in memory that is not there. */
static void load(struct step *s, vector *to, const struct operand *from, int by_lane) {
    const uint8_t *memory = (const uint8_t *)address_of(s->registers, s->code, 0);
    int bytes = from->bytes;
    memset(to, 0, sizeof *to);
    if (s->code->repeats) {
        for (int i = 0; i < s->code->repeats; i++)
            memcpy(&to->b[i * bytes], memory, (size_t)bytes);
    } else if (by_lane && s->lanes) {
        int each = bytes / s->lanes;
        for (int i = 0; i < s->lanes; i++)
            if (s->selected >> i & 1)
                memcpy(&to->b[i * each], memory + i * each, (size_t)each);
    } else {
        memcpy(to, memory, (size_t)bytes);
    }
}

static void read_source(struct step *s, int i, int by_lane) {
    const struct operand *from = &s->sources[i];
    switch (from->kind) {
    case VECTOR:
        memset(&s->in[i], 0, sizeof s->in[i]);
        memcpy(&s->in[i], &s->registers->v[from->number], from->bytes);
        break;
    case MASK:
        s->in_mask[i] = s->registers->k[from->number];
        break;
    case GENERAL:
        s->in_general[i] = cut(s->registers->general[from->number], from->bytes);
        break;
    case MEMORY:
        load(s, &s->in[i], from, by_lane);
        break;
    default:
        break;
    }
}

static void write_vector(struct step *s, vector *to, int element, int filtered) {
    for (int i = 0; filtered && i < s->lanes; i++)
        if (!(s->selected >> i & 1))
            for (int j = i * element; j < (i + 1) * element; j++)
                s->out.b[j] = s->code->zeroing ? 0 : s->old.b[j];
    memset(&s->out.b[s->bytes], 0, (size_t)(VECTOR_BYTES - s->bytes));
    *to = s->out;
}

static void write_memory(struct step *s, int element, int filtered) {
    uint8_t *memory = (uint8_t *)address_of(s->registers, s->code, 0);
    if (!filtered) {
        memcpy(memory, &s->out, (size_t)s->bytes);
        return;
    }
    for (int i = 0; i < s->lanes; i++)
        if (s->selected >> i & 1)
            memcpy(memory + i * element, &s->out.b[i * element], (size_t)element);
}

static void write_result(struct step *s, const struct operand *to, const struct operation *operation) {
    int filtered = s->code->mask && (!(operation->traits & SELECTS) || s->code->zeroing);
    switch (to->kind) {
    case VECTOR:
        write_vector(s, &s->registers->v[to->number], operation->element, filtered);
        break;
    case MASK:
        s->registers->k[to->number] = s->code->mask ? s->out_mask & s->selected : s->out_mask;
        break;
    case GENERAL: /* 32 bits and fewer clear the rest */
        s->registers->general[to->number] = to->bytes == 8 ? s->out_general : (uint32_t)s->out_general;
        break;
    default:
        write_memory(s, operation->element, filtered);
    }
}

static void must_be_aligned(const struct step *s) {
    for (int i = 0; i < s->code->count; i++) {
        const struct operand *operand = &s->code->operands[i];
        if (operand->kind == MEMORY && address_of(s->registers, s->code, 0) % operand->bytes)
            abort();
    }
}

static int lanes_of(const struct step *s, const struct operation *operation) {
    if (operation->traits & SCALAR)
        return 1;
    int repeats = s->sources[0].kind == MEMORY && s->code->repeats ? s->code->repeats : 1;
    if (operation->source)
        return s->sources[0].bytes * repeats / operation->source;
    return operation->element ? s->bytes / operation->element : 0;
}

static void execute(struct registers *registers, const struct instruction *code) {
    const struct operation *operation = operations[code->operation];
    struct step s = {.code = code, .registers = registers, .immediate = code->immediate};
    if (operation->traits & WRITES) {
        operation->run(&s);
        return;
    }
    int reads_only = operation->traits & READS, count = code->count - !reads_only;
    const struct operand *to = &code->operands[0];
    s.sources = reads_only ? to : to + 1;
    s.bytes = to->bytes;
    s.selected = code->mask ? registers->k[code->mask] : UINT64_MAX;
    s.lanes = lanes_of(&s, operation);
    if (operation->traits & ALIGNED)
        must_be_aligned(&s);
    for (int i = 0; i < count; i++)
        read_source(&s, i, code->mask && !(operation->traits & WHOLE));
    if (!reads_only && to->kind == VECTOR)
        s.old = registers->v[to->number];
    if (operation->traits & SCALAR && to->kind == VECTOR && code->count > 2)
        s.out = operation->traits & KEEPS ? s.old : s.in[0];
    operation->run(&s);
    if (!reads_only)
        write_result(&s, to, operation);
}

void identify(struct step *s) {
    uint64_t *general = s->registers->general;
    uint32_t words[4] = {0, 0, 0, 0};
    for (int i = 0; i < leaf_count; i++)
        if (leaves[i].leaf == (uint32_t)general[0] && (leaves[i].subleaf == (uint32_t)general[1] || ~leaves[i].subleaf == 0))
            memcpy(words, leaves[i].words, sizeof words);
    general[0] = words[0], general[3] = words[1], general[1] = words[2], general[2] = words[3];
}

void read_state(struct step *s) {
    s->registers->general[0] = (uint32_t)saved_state;
    s->registers->general[2] = saved_state >> 32;
}

static const struct instruction *found_at(uint64_t address) {
    static __thread int last;
    for (int i = -1; i < library_count; i++) {
        int index = i < 0 ? last : library_count - 1 - i;
        if (index >= library_count || address - libraries[index].base >= libraries[index].size)
            continue;
        last = index;
        const struct instruction *found = &libraries[index].table[address - libraries[index].base];
        return found->operation ? found : NULL;
    }
    return NULL;
}

static const int places[16] = {REG_RAX, REG_RCX, REG_RDX, REG_RBX, REG_RSP, REG_RBP, REG_RSI, REG_RDI,
                               REG_R8,  REG_R9,  REG_R10, REG_R11, REG_R12, REG_R13, REG_R14, REG_R15};

/* The lower 16 bytes of the first 16 vectors are the processor's own, which its SSE instructions share. */
static void handle(int signal, siginfo_t *info, void *context) {
    greg_t *saved = ((ucontext_t *)context)->uc_mcontext.gregs;
    fpregset_t vectors = ((ucontext_t *)context)->uc_mcontext.fpregs;
    uint64_t address = (uint64_t)saved[REG_RIP];
    const struct instruction *code = found_at(address);
    (void)signal, (void)info;
    if (!code) {
        sigaction(SIGILL, &before, NULL);
        return;
    }
    for (int i = 0; i < 16; i++) {
        own.general[i] = (uint64_t)saved[places[i]];
        memcpy(&own.v[i], &vectors->_xmm[i], 16);
    }
    own.flags = (uint64_t)saved[REG_EFL];
    for (; code; code = found_at(address)) {
        address += code->length;
        own.next = address;
        execute(&own, code);
        atomic_fetch_add_explicit(&executed, 1, memory_order_relaxed);
    }
    for (int i = 0; i < 16; i++) {
        saved[places[i]] = (greg_t)own.general[i];
        memcpy(&vectors->_xmm[i], &own.v[i], 16);
    }
    saved[REG_EFL] = (greg_t)own.flags;
    saved[REG_RIP] = (greg_t)address;
}

int emulator_add(uint64_t base, const struct instruction *table, uint64_t size) {
    if (library_count == LIBRARIES)
        return -1;
    struct sigaction action = {.sa_sigaction = handle, .sa_flags = SA_SIGINFO | SA_NODEFER};
    if (!library_count && sigaction(SIGILL, &action, &before))
        return -1;
    libraries[library_count].base = base;
    libraries[library_count].size = size;
    libraries[library_count++].table = table;
    return 0;
}

void emulator_processor(const struct leaf *described, int count, uint64_t state) {
    leaf_count = count < LEAVES ? count : LEAVES;
    memcpy(leaves, described, (size_t)leaf_count * sizeof *leaves);
    saved_state = state;
}

uint64_t emulator_executed(void) {
    return executed;
}

/* What a library calls in the place of sigfillset: a thread that blocks SIGILL could not be emulated. */
int emulatefil(sigset_t *set) {
    memset(set, 0xff, sizeof *set);
    return sigdelset(set, SIGILL);
}
