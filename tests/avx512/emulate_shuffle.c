#include "emulator.h"

#include <string.h>

#define EACH(name, field, value)                                                                                       \
    static void name(struct step *s) {                                                                                 \
        const vector *a = &s->in[0], *b = &s->in[1], *c = &s->in[2], *old = &s->old;                                   \
        int immediate = s->immediate, lanes = s->lanes;                                                                \
        (void)a, (void)b, (void)c, (void)old, (void)immediate, (void)lanes;                                            \
        for (int i = 0; i < s->lanes; i++)                                                                             \
            s->out.field[i] = (value);                                                                                 \
    }

/* Within every 128 bits. */
EACH(bytes_by_index, b, b->b[i] & 0x80 ? 0 : a->b[(i & ~15) | (b->b[i] & 15)])
EACH(words_by_immediate, d, a->d[(i & ~3) | (immediate >> 2 * (i & 3) & 3)])
EACH(low_by_immediate, w, i & 4 ? a->w[i] : a->w[(i & ~7) | (immediate >> 2 * (i & 3) & 3)])
EACH(high_by_immediate, w, i & 4 ? a->w[(i & ~7) | 4 | (immediate >> 2 * (i & 3) & 3)] : a->w[i])
EACH(two_by_immediate_d, d, (i & 2 ? b : a)->d[(i & ~3) | (immediate >> 2 * (i & 3) & 3)])
EACH(two_by_immediate_q, q, (i & 1 ? b : a)->q[(i & ~1) | (immediate >> i & 1)])
EACH(within_by_immediate_q, q, a->q[(i & ~1) | (immediate >> i & 1)])
EACH(within_by_index_d, d, a->d[(i & ~3) | (b->d[i] & 3)])
EACH(within_by_index_q, q, a->q[(i & ~1) | (b->q[i] >> 1 & 1)])
EACH(low_halves_b, b, (i & 1 ? b : a)->b[(i & ~15) | (i & 15) >> 1])
EACH(low_halves_w, w, (i & 1 ? b : a)->w[(i & ~7) | (i & 7) >> 1])
EACH(low_halves_d, d, (i & 1 ? b : a)->d[(i & ~3) | (i & 3) >> 1])
EACH(low_halves_q, q, (i & 1 ? b : a)->q[i & ~1])
EACH(high_halves_b, b, (i & 1 ? b : a)->b[(i & ~15) | 8 | (i & 15) >> 1])
EACH(high_halves_w, w, (i & 1 ? b : a)->w[(i & ~7) | 4 | (i & 7) >> 1])
EACH(high_halves_d, d, (i & 1 ? b : a)->d[(i & ~3) | 2 | (i & 3) >> 1])
EACH(high_halves_q, q, (i & 1 ? b : a)->q[i | 1])
EACH(odd_twice, d, a->d[i | 1])
EACH(even_twice, d, a->d[i & ~1])
EACH(even_twice_q, q, a->q[i & ~1])

/* The 32 bytes of a pair of 128 bits, the first source above the second, moved down. */
static uint8_t aligned_byte(const struct step *s, int i) {
    int place = (i & 15) + s->immediate;
    return place < 16 ? s->in[1].b[(i & ~15) | place] : place < 32 ? s->in[0].b[(i & ~15) | (place - 16)] : 0;
}
EACH(align_bytes, b, aligned_byte(s, i))
EACH(byte_left, b, (i & 15) >= immediate ? a->b[i - immediate] : 0)
EACH(byte_right, b, (i & 15) + immediate < 16 ? a->b[i + immediate] : 0)
EACH(align_d, d, i + (immediate & (lanes - 1)) < lanes ? b->d[i + (immediate & (lanes - 1))]
                                                       : a->d[i + (immediate & (lanes - 1)) - lanes])
EACH(align_q, q, i + (immediate & (lanes - 1)) < lanes ? b->q[i + (immediate & (lanes - 1))]
                                                       : a->q[i + (immediate & (lanes - 1)) - lanes])

/* Across the whole vector; an index is taken modulo the lanes. */
EACH(anywhere_b, b, b->b[a->b[i] & (lanes - 1)])
EACH(anywhere_w, w, b->w[a->w[i] & (lanes - 1)])
EACH(anywhere_d, d, b->d[a->d[i] & (lanes - 1)])
EACH(anywhere_q, q, b->q[a->q[i] & (lanes - 1)])
EACH(quarters_q, q, a->q[(i & ~3) | (immediate >> 2 * (i & 3) & 3)])
#define FROM_TWO(suffix)                                                                                               \
    EACH(over_table_##suffix, suffix, (a->suffix[i] & lanes ? b : old)->suffix[a->suffix[i] & (lanes - 1)])            \
    EACH(over_index_##suffix, suffix, (old->suffix[i] & lanes ? b : a)->suffix[old->suffix[i] & (lanes - 1)])
FROM_TWO(b) FROM_TWO(w) FROM_TWO(d) FROM_TWO(q)

/* Blocks of 128 bits: the lower half of the result comes from the first source, the upper from the second. */
static uint64_t block_quad(const struct step *s, int i) {
    int blocks = s->bytes / 16, block = i / 2, bits = blocks == 4 ? 2 : 1;
    int from = s->immediate >> block * bits & (blocks - 1);
    return s->in[block >= blocks / 2].q[2 * from + i % 2];
}
static void shuffle_blocks(struct step *s) {
    for (int i = 0; i < s->bytes / 8; i++)
        s->out.q[i] = block_quad(s, i);
}
static void permute_blocks(struct step *s) {
    for (int i = 0; i < 4; i++) {
        int choice = s->immediate >> (i / 2 * 4) & 15;
        s->out.q[i] = choice & 8 ? 0 : s->in[choice >> 1 & 1].q[(choice & 1) * 2 + i % 2];
    }
}

static void insert(struct step *s, int bytes) {
    int places = s->bytes / bytes;
    s->out = s->in[0];
    memcpy(&s->out.b[(s->immediate & (places - 1)) * bytes], &s->in[1], (size_t)bytes);
}
static void insert_16(struct step *s) { insert(s, 16); }
static void insert_32(struct step *s) { insert(s, 32); }
static void extract(struct step *s, int bytes) {
    int places = s->sources[0].bytes / bytes;
    memcpy(&s->out, &s->in[0].b[(s->immediate & (places - 1)) * bytes], (size_t)bytes);
}
static void extract_16(struct step *s) { extract(s, 16); }
static void extract_32(struct step *s) { extract(s, 32); }

#define ONE(suffix, size)                                                                                              \
    static void insert_##suffix(struct step *s) {                                                                      \
        s->out = s->in[0];                                                                                             \
        s->out.suffix[s->immediate & (16 / size - 1)] =                                                                \
            (__typeof__(s->out.suffix[0]))(s->sources[1].kind == MEMORY ? s->in[1].q[0] : s->in_general[1]);           \
    }                                                                                                                  \
    static void extract_##suffix(struct step *s) {                                                                     \
        s->out_general = s->out.q[0] = s->in[0].suffix[s->immediate & (16 / size - 1)];                                \
    }
ONE(b, 1) ONE(w, 2) ONE(d, 4) ONE(q, 8)

/* imm8: from [7:6] (memory has one), to [5:4], zeroed [3:0]. */
static void insert_single(struct step *s) {
    int from = s->sources[1].kind == MEMORY ? 0 : s->immediate >> 6;
    s->out = s->in[0];
    s->out.d[s->immediate >> 4 & 3] = s->in[1].d[from];
    for (int i = 0; i < 4; i++)
        if (s->immediate >> i & 1)
            s->out.d[i] = 0;
}

/* A general register, the lowest lane of a vector, or memory that holds one element, everywhere. */
#define SPREAD(suffix)                                                                                                 \
    static void spread_##suffix(struct step *s) {                                                                      \
        uint64_t value = s->sources[0].kind == GENERAL ? s->in_general[0] : s->in[0].suffix[0];                        \
        for (int i = 0; i < s->lanes; i++)                                                                             \
            s->out.suffix[i] = (__typeof__(s->out.suffix[0]))value;                                                    \
    }
SPREAD(b) SPREAD(w) SPREAD(d) SPREAD(q)
EACH(spread_8, d, a->d[i & 1])
EACH(spread_16, d, a->d[i & 3])
EACH(spread_32, d, a->d[i & 7])
EACH(spread_16_q, q, a->q[i & 1])
EACH(spread_32_q, q, a->q[i & 3])

EACH(blend_by_immediate_d, d, (immediate >> i & 1 ? b : a)->d[i])
EACH(blend_by_immediate_q, q, (immediate >> i & 1 ? b : a)->q[i])
EACH(blend_by_immediate_w, w, (immediate >> (i & 7) & 1 ? b : a)->w[i])
EACH(blend_by_sign_b, b, (c->b[i] & 0x80 ? b : a)->b[i])
EACH(blend_by_sign_d, d, (c->d[i] >> 31 ? b : a)->d[i])
EACH(blend_by_sign_q, q, (c->q[i] >> 63 ? b : a)->q[i])
EACH(blend_by_mask_b, b, (s->selected >> i & 1 ? b : a)->b[i])
EACH(blend_by_mask_w, w, (s->selected >> i & 1 ? b : a)->w[i])
EACH(blend_by_mask_d, d, (s->selected >> i & 1 ? b : a)->d[i])
EACH(blend_by_mask_q, q, (s->selected >> i & 1 ? b : a)->q[i])

/* The least of eight and its place. */
static void least(struct step *s) {
    int at = 0;
    for (int i = 1; i < 8; i++)
        if (s->in[0].w[i] < s->in[0].w[at])
            at = i;
    s->out.w[0] = s->in[0].w[at];
    s->out.w[1] = (uint16_t)at;
}

#define NAMED(text, run, size, traits) {"v" text, run, size, 0, traits}
#define TABLES(suffix, size)                                                                                           \
    NAMED("permt2" #suffix, over_table_##suffix, size, WHOLE), NAMED("permi2" #suffix, over_index_##suffix, size, WHOLE)

const struct operation shuffle_operations[] = {
    NAMED("pshufb", bytes_by_index, 1, WHOLE), NAMED("pshufd", words_by_immediate, 4, WHOLE),
    NAMED("pshuflw", low_by_immediate, 2, WHOLE), NAMED("pshufhw", high_by_immediate, 2, WHOLE),
    NAMED("shufps", two_by_immediate_d, 4, WHOLE), NAMED("shufpd", two_by_immediate_q, 8, WHOLE),
    NAMED("permilps", within_by_index_d, 4, WHOLE), NAMED("permilpd", within_by_index_q, 8, WHOLE),
    NAMED("permilps.imm", words_by_immediate, 4, WHOLE), NAMED("permilpd.imm", within_by_immediate_q, 8, WHOLE),
    NAMED("punpcklbw", low_halves_b, 1, WHOLE), NAMED("punpcklwd", low_halves_w, 2, WHOLE),
    NAMED("punpckldq", low_halves_d, 4, WHOLE), NAMED("punpcklqdq", low_halves_q, 8, WHOLE),
    NAMED("punpckhbw", high_halves_b, 1, WHOLE), NAMED("punpckhwd", high_halves_w, 2, WHOLE),
    NAMED("punpckhdq", high_halves_d, 4, WHOLE), NAMED("punpckhqdq", high_halves_q, 8, WHOLE),
    NAMED("unpcklps", low_halves_d, 4, WHOLE), NAMED("unpcklpd", low_halves_q, 8, WHOLE),
    NAMED("unpckhps", high_halves_d, 4, WHOLE), NAMED("unpckhpd", high_halves_q, 8, WHOLE),
    NAMED("movshdup", odd_twice, 4, WHOLE), NAMED("movsldup", even_twice, 4, WHOLE),
    NAMED("movddup", even_twice_q, 8, WHOLE), NAMED("palignr", align_bytes, 1, WHOLE),
    NAMED("pslldq", byte_left, 1, WHOLE), NAMED("psrldq", byte_right, 1, WHOLE),
    NAMED("alignd", align_d, 4, WHOLE), NAMED("alignq", align_q, 8, WHOLE),
    NAMED("permb", anywhere_b, 1, WHOLE), NAMED("permw", anywhere_w, 2, WHOLE),
    NAMED("permd", anywhere_d, 4, WHOLE), NAMED("permps", anywhere_d, 4, WHOLE),
    NAMED("permq", anywhere_q, 8, WHOLE), NAMED("permpd", anywhere_q, 8, WHOLE),
    NAMED("permq.imm", quarters_q, 8, WHOLE), NAMED("permpd.imm", quarters_q, 8, WHOLE),
    TABLES(b, 1), TABLES(w, 2), TABLES(d, 4), TABLES(q, 8),
    NAMED("permt2ps", over_table_d, 4, WHOLE), NAMED("permi2ps", over_index_d, 4, WHOLE),
    NAMED("permt2pd", over_table_q, 8, WHOLE), NAMED("permi2pd", over_index_q, 8, WHOLE),
    NAMED("shuff32x4", shuffle_blocks, 4, WHOLE), NAMED("shuff64x2", shuffle_blocks, 8, WHOLE),
    NAMED("shufi32x4", shuffle_blocks, 4, WHOLE), NAMED("shufi64x2", shuffle_blocks, 8, WHOLE),
    NAMED("perm2f128", permute_blocks, 16, WHOLE), NAMED("perm2i128", permute_blocks, 16, WHOLE),
    NAMED("insertf128", insert_16, 16, WHOLE), NAMED("inserti128", insert_16, 16, WHOLE),
    NAMED("insertf32x4", insert_16, 4, WHOLE), NAMED("inserti32x4", insert_16, 4, WHOLE),
    NAMED("insertf64x2", insert_16, 8, WHOLE), NAMED("inserti64x2", insert_16, 8, WHOLE),
    NAMED("insertf32x8", insert_32, 4, WHOLE), NAMED("inserti32x8", insert_32, 4, WHOLE),
    NAMED("insertf64x4", insert_32, 8, WHOLE), NAMED("inserti64x4", insert_32, 8, WHOLE),
    NAMED("extractf128", extract_16, 16, WHOLE), NAMED("extracti128", extract_16, 16, WHOLE),
    NAMED("extractf32x4", extract_16, 4, WHOLE), NAMED("extracti32x4", extract_16, 4, WHOLE),
    NAMED("extractf64x2", extract_16, 8, WHOLE), NAMED("extracti64x2", extract_16, 8, WHOLE),
    NAMED("extractf32x8", extract_32, 4, WHOLE), NAMED("extracti32x8", extract_32, 4, WHOLE),
    NAMED("extractf64x4", extract_32, 8, WHOLE), NAMED("extracti64x4", extract_32, 8, WHOLE),
    NAMED("pinsrb", insert_b, 1, WHOLE), NAMED("pinsrw", insert_w, 2, WHOLE), NAMED("pinsrd", insert_d, 4, WHOLE),
    NAMED("pinsrq", insert_q, 8, WHOLE), NAMED("pextrb", extract_b, 1, WHOLE), NAMED("pextrw", extract_w, 2, WHOLE),
    NAMED("pextrd", extract_d, 4, WHOLE), NAMED("pextrq", extract_q, 8, WHOLE),
    NAMED("extractps", extract_d, 4, WHOLE), NAMED("insertps", insert_single, 4, WHOLE),
    NAMED("pbroadcastb", spread_b, 1, WHOLE), NAMED("pbroadcastw", spread_w, 2, WHOLE),
    NAMED("pbroadcastd", spread_d, 4, WHOLE), NAMED("pbroadcastq", spread_q, 8, WHOLE),
    NAMED("broadcastss", spread_d, 4, WHOLE), NAMED("broadcastsd", spread_q, 8, WHOLE),
    NAMED("broadcastf128", spread_16, 4, WHOLE), NAMED("broadcasti128", spread_16, 4, WHOLE),
    NAMED("broadcastf32x4", spread_16, 4, WHOLE), NAMED("broadcasti32x4", spread_16, 4, WHOLE),
    NAMED("broadcastf32x2", spread_8, 4, WHOLE), NAMED("broadcasti32x2", spread_8, 4, WHOLE),
    NAMED("broadcastf32x8", spread_32, 4, WHOLE), NAMED("broadcasti32x8", spread_32, 4, WHOLE),
    NAMED("broadcastf64x2", spread_16_q, 8, WHOLE), NAMED("broadcasti64x2", spread_16_q, 8, WHOLE),
    NAMED("broadcastf64x4", spread_32_q, 8, WHOLE), NAMED("broadcasti64x4", spread_32_q, 8, WHOLE),
    NAMED("phminposuw", least, 2, WHOLE), NAMED("blendps", blend_by_immediate_d, 4, WHOLE), NAMED("blendpd", blend_by_immediate_q, 8, WHOLE),
    NAMED("pblendd", blend_by_immediate_d, 4, WHOLE), NAMED("pblendw", blend_by_immediate_w, 2, WHOLE),
    NAMED("pblendvb", blend_by_sign_b, 1, WHOLE), NAMED("blendvps", blend_by_sign_d, 4, WHOLE),
    NAMED("blendvpd", blend_by_sign_q, 8, WHOLE),
    {"vpblendmb", blend_by_mask_b, 1, 0, WHOLE | SELECTS}, {"vpblendmw", blend_by_mask_w, 2, 0, WHOLE | SELECTS},
    {"vpblendmd", blend_by_mask_d, 4, 0, WHOLE | SELECTS}, {"vpblendmq", blend_by_mask_q, 8, 0, WHOLE | SELECTS},
    {"vblendmps", blend_by_mask_d, 4, 0, WHOLE | SELECTS}, {"vblendmpd", blend_by_mask_q, 8, 0, WHOLE | SELECTS},
    {NULL, NULL, 0, 0, 0},
};
