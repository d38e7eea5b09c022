#include "emulator.h"

#include <string.h>

static void copy(struct step *s) {
    s->out = s->in[0];
}

/* From memory the rest becomes 0, from a register it is that of the first source. */
#define MOVE_SCALAR(name, field)                                                                                       \
    static void name(struct step *s) {                                                                                 \
        s->out.field[0] = s->code->count == 3 ? s->in[1].field[0] : s->in[0].field[0];                                 \
    }
MOVE_SCALAR(move_single, d)
MOVE_SCALAR(move_double, q)

/* The decoder notes as the immediate how many bytes are moved. */
static void move_element(struct step *s) {
    uint64_t value = s->sources[0].kind == GENERAL ? s->in_general[0] : s->in[0].q[0];
    s->out.q[0] = s->out_general = s->immediate == 8 ? value : (uint32_t)value;
}

/* Half an xmm: a store takes it, a load puts it beside the other half of the first source. */
static void move_low(struct step *s) {
    if (s->code->count == 3)
        s->out.q[1] = s->in[0].q[1];
    s->out.q[0] = s->code->count == 3 ? s->in[1].q[0] : s->in[0].q[0];
}
static void move_high(struct step *s) {
    s->out.q[0] = s->code->count == 3 ? s->in[0].q[0] : s->in[0].q[1];
    if (s->code->count == 3)
        s->out.q[1] = s->in[1].q[0];
}
static void low_to_high(struct step *s) {
    s->out.q[0] = s->in[0].q[0];
    s->out.q[1] = s->in[1].q[0];
}
static void high_to_low(struct step *s) {
    s->out.q[0] = s->in[1].q[1];
    s->out.q[1] = s->in[0].q[1];
}

static void clear_upper(struct step *s) {
    for (int i = 0; i < 16; i++)
        memset(&s->registers->v[i].b[16], 0, VECTOR_BYTES - 16);
}
static void clear_all(struct step *s) {
    memset(s->registers->v, 0, 16 * sizeof(vector));
}

/* Gathers and scatters: `place` is the memory operand among the operands, `data` the register. */
static uint64_t element_address(const struct step *s, int i, int index_bytes) {
    const vector *indices = &s->registers->v[s->code->index];
    return address_of(s->registers, s->code, index_bytes == 4 ? (uint64_t)(int64_t)indices->sd[i] : indices->q[i]);
}

static void gather(struct step *s, int bytes, int index_bytes) {
    const struct instruction *code = s->code;
    const struct operand *to = &code->operands[0], *vector_mask = &code->operands[2];
    vector result = s->registers->v[to->number];
    int lanes = to->bytes / bytes, indices = code->index_bytes / index_bytes;
    lanes = lanes < indices ? lanes : indices;
    for (int i = 0; i < lanes; i++) {
        int wanted = code->mask ? (int)(s->registers->k[code->mask] >> i & 1)
                                : s->registers->v[vector_mask->number].b[(i + 1) * bytes - 1] >> 7;
        if (wanted)
            memcpy(&result.b[i * bytes], (const void *)element_address(s, i, index_bytes), (size_t)bytes);
    }
    memset(&result.b[lanes * bytes], 0, (size_t)(VECTOR_BYTES - lanes * bytes));
    if (code->mask)
        s->registers->k[code->mask] = 0;
    else
        memset(&s->registers->v[vector_mask->number], 0, VECTOR_BYTES);
    s->registers->v[to->number] = result;
}
static void gather_4_by_4(struct step *s) { gather(s, 4, 4); }
static void gather_8_by_4(struct step *s) { gather(s, 8, 4); }
static void gather_4_by_8(struct step *s) { gather(s, 4, 8); }
static void gather_8_by_8(struct step *s) { gather(s, 8, 8); }

static void scatter(struct step *s, int bytes, int index_bytes) {
    const struct instruction *code = s->code;
    int lanes = code->operands[1].bytes / bytes, indices = code->index_bytes / index_bytes;
    lanes = lanes < indices ? lanes : indices;
    for (int i = 0; i < lanes; i++)
        if (s->registers->k[code->mask] >> i & 1)
            memcpy((void *)element_address(s, i, index_bytes),
                   &s->registers->v[code->operands[1].number].b[i * bytes], (size_t)bytes);
    s->registers->k[code->mask] = 0;
}
static void scatter_4_by_4(struct step *s) { scatter(s, 4, 4); }
static void scatter_8_by_4(struct step *s) { scatter(s, 8, 4); }
static void scatter_4_by_8(struct step *s) { scatter(s, 4, 8); }
static void scatter_8_by_8(struct step *s) { scatter(s, 8, 8); }

/* Compression puts the selected lanes together, expansion puts the first lanes where the mask selects. */
static void compress(struct step *s, int bytes) {
    const struct instruction *code = s->code;
    const struct operand *to = &code->operands[0], *from = &code->operands[1];
    uint64_t wanted = code->mask ? s->registers->k[code->mask] : UINT64_MAX;
    vector source = s->registers->v[from->number], result = {{0}};
    int lanes = from->bytes / bytes, count = 0;
    for (int i = 0; i < lanes; i++)
        if (wanted >> i & 1)
            memcpy(&result.b[bytes * count++], &source.b[i * bytes], (size_t)bytes);
    if (to->kind == MEMORY) {
        memcpy((void *)address_of(s->registers, code, 0), &result, (size_t)(bytes * count));
        return;
    }
    if (!code->zeroing)
        memcpy(&result.b[bytes * count], &s->registers->v[to->number].b[bytes * count], (size_t)(bytes * (lanes - count)));
    s->registers->v[to->number] = result;
}
static void expand(struct step *s, int bytes) {
    const struct instruction *code = s->code;
    const struct operand *to = &code->operands[0], *from = &code->operands[1];
    uint64_t wanted = code->mask ? s->registers->k[code->mask] : UINT64_MAX;
    const uint8_t *source = from->kind == MEMORY ? (const uint8_t *)address_of(s->registers, code, 0)
                                                 : s->registers->v[from->number].b;
    vector result = {{0}};
    for (int i = 0, count = 0; i < to->bytes / bytes; i++) {
        if (wanted >> i & 1)
            memcpy(&result.b[i * bytes], source + bytes * count++, (size_t)bytes);
        else if (!code->zeroing)
            memcpy(&result.b[i * bytes], &s->registers->v[to->number].b[i * bytes], (size_t)bytes);
    }
    s->registers->v[to->number] = result;
}
static void compress_4(struct step *s) { compress(s, 4); }
static void compress_8(struct step *s) { compress(s, 8); }
static void expand_4(struct step *s) { expand(s, 4); }
static void expand_8(struct step *s) { expand(s, 8); }

/* AVX: the top bit of every lane of the second operand selects. */
static void masked_move(struct step *s, int bytes) {
    const struct instruction *code = s->code;
    const vector *mask = &s->registers->v[code->operands[1].number];
    uint8_t *memory = (uint8_t *)address_of(s->registers, code, 0);
    int stores = code->operands[0].kind == MEMORY;
    const struct operand *data = &code->operands[stores ? 2 : 0];
    vector result = {{0}};
    for (int i = 0; i < data->bytes / bytes; i++) {
        if (!(mask->b[(i + 1) * bytes - 1] >> 7))
            continue;
        if (stores)
            memcpy(memory + i * bytes, &s->registers->v[data->number].b[i * bytes], (size_t)bytes);
        else
            memcpy(&result.b[i * bytes], memory + i * bytes, (size_t)bytes);
    }
    if (!stores)
        s->registers->v[data->number] = result;
}
static void masked_move_4(struct step *s) { masked_move(s, 4); }
static void masked_move_8(struct step *s) { masked_move(s, 8); }

#define GATHERS(letter, index)                                                                                         \
    {"vgather" letter "ps", gather_4_by_##index, 0, 0, WRITES}, {"vgather" letter "pd", gather_8_by_##index, 0, 0, WRITES}, \
        {"vpgather" letter "d", gather_4_by_##index, 0, 0, WRITES},                                                    \
        {"vpgather" letter "q", gather_8_by_##index, 0, 0, WRITES},                                                    \
        {"vscatter" letter "ps", scatter_4_by_##index, 0, 0, WRITES},                                                  \
        {"vscatter" letter "pd", scatter_8_by_##index, 0, 0, WRITES},                                                  \
        {"vpscatter" letter "d", scatter_4_by_##index, 0, 0, WRITES},                                                  \
        {"vpscatter" letter "q", scatter_8_by_##index, 0, 0, WRITES}

const struct operation move_operations[] = {
    {"vmovups", copy, 4, 0, 0}, {"vmovupd", copy, 8, 0, 0}, {"vmovdqu", copy, 4, 0, 0}, {"vlddqu", copy, 4, 0, 0},
    {"vmovdqu8", copy, 1, 0, 0}, {"vmovdqu16", copy, 2, 0, 0}, {"vmovdqu32", copy, 4, 0, 0},
    {"vmovdqu64", copy, 8, 0, 0}, {"vmovaps", copy, 4, 0, ALIGNED}, {"vmovapd", copy, 8, 0, ALIGNED},
    {"vmovdqa", copy, 4, 0, ALIGNED}, {"vmovdqa32", copy, 4, 0, ALIGNED}, {"vmovdqa64", copy, 8, 0, ALIGNED},
    {"vmovntps", copy, 4, 0, ALIGNED}, {"vmovntpd", copy, 8, 0, ALIGNED}, {"vmovntdq", copy, 4, 0, ALIGNED},
    {"vmovntdqa", copy, 4, 0, ALIGNED}, {"vmovss", move_single, 4, 0, SCALAR}, {"vmovsd", move_double, 8, 0, SCALAR},
    {"vmovd", move_element, 0, 0, 0}, {"vmovq", move_element, 0, 0, 0},
    {"vmovlps", move_low, 0, 0, 0}, {"vmovlpd", move_low, 0, 0, 0}, {"vmovhps", move_high, 0, 0, 0},
    {"vmovhpd", move_high, 0, 0, 0}, {"vmovlhps", low_to_high, 0, 0, 0}, {"vmovhlps", high_to_low, 0, 0, 0},
    {"vzeroupper", clear_upper, 0, 0, WRITES}, {"vzeroall", clear_all, 0, 0, WRITES},
    GATHERS("d", 4), GATHERS("q", 8),
    {"vcompressps", compress_4, 0, 0, WRITES}, {"vcompresspd", compress_8, 0, 0, WRITES},
    {"vpcompressd", compress_4, 0, 0, WRITES}, {"vpcompressq", compress_8, 0, 0, WRITES},
    {"vexpandps", expand_4, 0, 0, WRITES}, {"vexpandpd", expand_8, 0, 0, WRITES},
    {"vpexpandd", expand_4, 0, 0, WRITES}, {"vpexpandq", expand_8, 0, 0, WRITES},
    {"vmaskmovps", masked_move_4, 0, 0, WRITES}, {"vmaskmovpd", masked_move_8, 0, 0, WRITES},
    {"vpmaskmovd", masked_move_4, 0, 0, WRITES}, {"vpmaskmovq", masked_move_8, 0, 0, WRITES},
    {"cpuid", identify, 0, 0, WRITES}, {"xgetbv", read_state, 0, 0, WRITES},
    {NULL, NULL, 0, 0, 0},
};
