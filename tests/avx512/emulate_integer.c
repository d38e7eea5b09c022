#include "emulator.h"

#define EACH(name, field, value)                                                                                       \
    static void name(struct step *s) {                                                                                 \
        const vector *a = &s->in[0], *b = &s->in[1], *old = &s->old;                                                   \
        int immediate = s->immediate;                                                                                  \
        (void)a, (void)b, (void)old, (void)immediate;                                                                  \
        for (int i = 0; i < s->lanes; i++)                                                                             \
            s->out.field[i] = (value);                                                                                 \
    }

static int64_t within(int64_t value, int64_t low, int64_t high) {
    return value < low ? low : value > high ? high : value;
}
#define INT8(value) ((int8_t)within(value, INT8_MIN, INT8_MAX))
#define UINT8(value) ((uint8_t)within(value, 0, UINT8_MAX))
#define INT16(value) ((int16_t)within(value, INT16_MIN, INT16_MAX))
#define UINT16(value) ((uint16_t)within(value, 0, UINT16_MAX))
#define INT32(value) ((int32_t)within(value, INT32_MIN, INT32_MAX))

#define SIZES(name, expression)                                                                                        \
    EACH(name##_b, b, (uint8_t)(a->b[i] expression b->b[i]))                                                           \
    EACH(name##_w, w, (uint16_t)(a->w[i] expression b->w[i]))                                                          \
    EACH(name##_d, d, a->d[i] expression b->d[i])                                                                      \
    EACH(name##_q, q, a->q[i] expression b->q[i])
SIZES(add, +)
SIZES(subtract, -)
SIZES(and, &)
SIZES(or, |)
SIZES(exclusive, ^)
EACH(but_d, d, ~a->d[i] & b->d[i])
EACH(but_q, q, ~a->q[i] & b->q[i])

EACH(add_int8, sb, INT8(a->sb[i] + b->sb[i]))
EACH(add_uint8, b, UINT8(a->b[i] + b->b[i]))
EACH(add_int16, sw, INT16(a->sw[i] + b->sw[i]))
EACH(add_uint16, w, UINT16(a->w[i] + b->w[i]))
EACH(subtract_int8, sb, INT8(a->sb[i] - b->sb[i]))
EACH(subtract_uint8, b, UINT8(a->b[i] - b->b[i]))
EACH(subtract_int16, sw, INT16(a->sw[i] - b->sw[i]))
EACH(subtract_uint16, w, UINT16(a->w[i] - b->w[i]))
EACH(average_b, b, (uint8_t)((a->b[i] + b->b[i] + 1) >> 1))
EACH(average_w, w, (uint16_t)((a->w[i] + b->w[i] + 1) >> 1))

#define ORDERED(suffix, field)                                                                                         \
    EACH(larger_##suffix, field, a->field[i] > b->field[i] ? a->field[i] : b->field[i])                                \
    EACH(smaller_##suffix, field, a->field[i] < b->field[i] ? a->field[i] : b->field[i])
ORDERED(sb, sb) ORDERED(b, b) ORDERED(sw, sw) ORDERED(w, w) ORDERED(sd, sd) ORDERED(d, d) ORDERED(sq, sq) ORDERED(q, q)

EACH(absolute_b, b, (uint8_t)(a->sb[i] < 0 ? -a->sb[i] : a->sb[i]))
EACH(absolute_w, w, (uint16_t)(a->sw[i] < 0 ? -a->sw[i] : a->sw[i]))
EACH(absolute_d, d, a->sd[i] < 0 ? 0u - a->d[i] : a->d[i])
EACH(absolute_q, q, a->sq[i] < 0 ? 0ull - a->q[i] : a->q[i])
EACH(sign_b, b, (uint8_t)(b->sb[i] < 0 ? -a->sb[i] : b->sb[i] ? a->sb[i] : 0))
EACH(sign_w, w, (uint16_t)(b->sw[i] < 0 ? -a->sw[i] : b->sw[i] ? a->sw[i] : 0))
EACH(sign_d, d, b->sd[i] < 0 ? 0u - a->d[i] : b->sd[i] ? a->d[i] : 0)

EACH(multiply_w, w, (uint16_t)((uint32_t)a->w[i] * b->w[i]))
EACH(multiply_d, d, a->d[i] * b->d[i])
EACH(multiply_q, q, a->q[i] * b->q[i])
EACH(multiply_high_sw, sw, (int16_t)((a->sw[i] * b->sw[i]) >> 16))
EACH(multiply_high_w, w, (uint16_t)(((uint32_t)a->w[i] * b->w[i]) >> 16))
EACH(multiply_rounded, w, (uint16_t)((((a->sw[i] * b->sw[i]) >> 14) + 1) >> 1))
EACH(multiply_even_sd, sq, (int64_t)a->sd[2 * i] * b->sd[2 * i])
EACH(multiply_even_d, q, (uint64_t)a->d[2 * i] * b->d[2 * i])
EACH(pairs_w, d, (uint32_t)(a->sw[2 * i] * b->sw[2 * i]) + (uint32_t)(a->sw[2 * i + 1] * b->sw[2 * i + 1]))
EACH(pairs_b, sw, INT16(a->b[2 * i] * b->sb[2 * i] + a->b[2 * i + 1] * b->sb[2 * i + 1]))

/* VNNI: the first source is unsigned where bytes are multiplied, the second signed; the destination is the addend. */
static int64_t four_bytes(const vector *a, const vector *b, int i) {
    int64_t sum = 0;
    for (int j = 4 * i; j < 4 * i + 4; j++)
        sum += (int64_t)a->b[j] * b->sb[j];
    return sum;
}
static int64_t two_words(const vector *a, const vector *b, int i) {
    return (int64_t)a->sw[2 * i] * b->sw[2 * i] + (int64_t)a->sw[2 * i + 1] * b->sw[2 * i + 1];
}
EACH(dot_bytes, d, old->d[i] + (uint32_t)four_bytes(a, b, i))
EACH(dot_bytes_saturated, sd, INT32(old->sd[i] + four_bytes(a, b, i)))
EACH(dot_words, d, old->d[i] + (uint32_t)two_words(a, b, i))
EACH(dot_words_saturated, sd, INT32(old->sd[i] + two_words(a, b, i)))

/* Shifts by one count for all: imm8, or the low 64 bits of the last source. */
static uint64_t count_of(const struct step *s) {
    return s->sources[1].kind == ABSENT ? (uint64_t)s->immediate : s->in[1].q[0];
}
static uint64_t left(uint64_t value, uint64_t count, uint64_t bits) {
    return count < bits ? value << count : 0;
}
static uint64_t right(uint64_t value, uint64_t count, uint64_t bits) {
    return count < bits ? value >> count : 0;
}
static int64_t right_signed(int64_t value, uint64_t count, uint64_t bits) {
    return value >> (count < bits ? count : bits - 1);
}
EACH(left_w, w, (uint16_t)left(a->w[i], count_of(s), 16))
EACH(left_d, d, (uint32_t)left(a->d[i], count_of(s), 32))
EACH(left_q, q, left(a->q[i], count_of(s), 64))
EACH(right_w, w, (uint16_t)right(a->w[i], count_of(s), 16))
EACH(right_d, d, (uint32_t)right(a->d[i], count_of(s), 32))
EACH(right_q, q, right(a->q[i], count_of(s), 64))
EACH(right_sw, sw, (int16_t)right_signed(a->sw[i], count_of(s), 16))
EACH(right_sd, sd, (int32_t)right_signed(a->sd[i], count_of(s), 32))
EACH(right_sq, sq, right_signed(a->sq[i], count_of(s), 64))
EACH(left_each_w, w, (uint16_t)left(a->w[i], b->w[i], 16))
EACH(left_each_d, d, (uint32_t)left(a->d[i], b->d[i], 32))
EACH(left_each_q, q, left(a->q[i], b->q[i], 64))
EACH(right_each_w, w, (uint16_t)right(a->w[i], b->w[i], 16))
EACH(right_each_d, d, (uint32_t)right(a->d[i], b->d[i], 32))
EACH(right_each_q, q, right(a->q[i], b->q[i], 64))
EACH(right_each_sw, sw, (int16_t)right_signed(a->sw[i], b->w[i], 16))
EACH(right_each_sd, sd, (int32_t)right_signed(a->sd[i], b->d[i], 32))
EACH(right_each_sq, sq, right_signed(a->sq[i], b->q[i], 64))
EACH(rotate_d, d, a->d[i] << (immediate & 31) | a->d[i] >> (-immediate & 31))
EACH(rotate_q, q, a->q[i] << (immediate & 63) | a->q[i] >> (-immediate & 63))
EACH(rotate_right_d, d, a->d[i] >> (immediate & 31) | a->d[i] << (-immediate & 31))
EACH(rotate_right_q, q, a->q[i] >> (immediate & 63) | a->q[i] << (-immediate & 63))
EACH(leading_d, d, a->d[i] ? (uint32_t)__builtin_clz(a->d[i]) : 32)
EACH(leading_q, q, a->q[i] ? (uint64_t)__builtin_clzll(a->q[i]) : 64)

/* Each bit is that of imm8 whose number the three bits give, the destination's first. */
static uint64_t chosen(uint64_t a, uint64_t b, uint64_t c, int table) {
    uint64_t result = 0;
    for (int i = 0; i < 8; i++)
        if (table >> i & 1)
            result |= (i & 4 ? a : ~a) & (i & 2 ? b : ~b) & (i & 1 ? c : ~c);
    return result;
}
EACH(ternary_d, d, (uint32_t)chosen(old->d[i], a->d[i], b->d[i], immediate))
EACH(ternary_q, q, chosen(old->q[i], a->q[i], b->q[i], immediate))

static void absolute_differences(struct step *s) {
    for (int i = 0; i < s->lanes; i++)
        for (int j = 8 * i; j < 8 * i + 8; j++)
            s->out.q[i] += (uint64_t)(s->in[0].b[j] > s->in[1].b[j] ? s->in[0].b[j] - s->in[1].b[j]
                                                                    : s->in[1].b[j] - s->in[0].b[j]);
}

/* Widening: every lane of the destination takes one narrower lane of the source. */
EACH(sb_to_w, sw, a->sb[i])
EACH(sb_to_d, sd, a->sb[i])
EACH(sb_to_q, sq, a->sb[i])
EACH(sw_to_d, sd, a->sw[i])
EACH(sw_to_q, sq, a->sw[i])
EACH(sd_to_q, sq, a->sd[i])
EACH(b_to_w, w, a->b[i])
EACH(b_to_d, d, a->b[i])
EACH(b_to_q, q, a->b[i])
EACH(w_to_d, d, a->w[i])
EACH(w_to_q, q, a->w[i])
EACH(d_to_q, q, a->d[i])

/* Narrowing: cut, saturated as signed, saturated as unsigned. */
#define NARROW(name, wide, narrow, to_signed, to_unsigned)                                                             \
    EACH(name, narrow, (__typeof__(s->out.narrow[0]))a->wide[i])                                                       \
    EACH(name##_signed, s##narrow, to_signed(a->s##wide[i]))                                                           \
    EACH(name##_unsigned, narrow, to_unsigned(a->wide[i] > INT64_MAX ? INT64_MAX : (int64_t)a->wide[i]))
#define UINT32(value) ((uint32_t)within(value, 0, UINT32_MAX))
NARROW(w_cut_b, w, b, INT8, UINT8)
NARROW(d_cut_b, d, b, INT8, UINT8)
NARROW(d_cut_w, d, w, INT16, UINT16)
NARROW(q_cut_b, q, b, INT8, UINT8)
NARROW(q_cut_w, q, w, INT16, UINT16)
NARROW(q_cut_d, q, d, INT32, UINT32)

/* Packing goes by 128 bits: first those of the one source, then those of the other. */
#define PACK(name, wide, narrow, per, convert)                                                                         \
    static void name(struct step *s) {                                                                                 \
        for (int i = 0; i < s->lanes; i++) {                                                                           \
            int block = i / (2 * per), place = i % (2 * per);                                                          \
            s->out.narrow[i] = convert(s->in[place / per].s##wide[block * per + place % per]);                         \
        }                                                                                                              \
    }
PACK(pack_wb_signed, w, sb, 8, INT8)
PACK(pack_wb_unsigned, w, b, 8, UINT8)
PACK(pack_dw_signed, d, sw, 4, INT16)
PACK(pack_dw_unsigned, d, w, 4, UINT16)

#define B(text, run, traits) {"v" text "b", run##_b, 1, 0, traits}
#define W(text, run, traits) {"v" text "w", run##_w, 2, 0, traits}
#define D(text, run, traits) {"v" text "d", run##_d, 4, 0, traits}
#define Q(text, run, traits) {"v" text "q", run##_q, 8, 0, traits}
#define ALL(text, run) B(text, run, 0), W(text, run, 0), D(text, run, 0), Q(text, run, 0)
#define BITS(text, run)                                                                                                \
    {"vp" text, run##_q, 8, 0, 0}, D("p" text, run, 0), Q("p" text, run, 0), {"v" text "ps", run##_d, 4, 0, 0},        \
        {"v" text "pd", run##_q, 8, 0, 0}
#define CUT(text, wide, narrow, run)                                                                                   \
    {"vpmov" text, run, narrow, wide, 0}, {"vpmovs" text, run##_signed, narrow, wide, 0},                              \
        {"vpmovus" text, run##_unsigned, narrow, wide, 0}

const struct operation integer_operations[] = {
    ALL("padd", add), ALL("psub", subtract), BITS("and", and), BITS("or", or), BITS("xor", exclusive),
    BITS("andn", but), {"vpaddsb", add_int8, 1, 0, 0}, {"vpaddusb", add_uint8, 1, 0, 0},
    {"vpaddsw", add_int16, 2, 0, 0}, {"vpaddusw", add_uint16, 2, 0, 0}, {"vpsubsb", subtract_int8, 1, 0, 0},
    {"vpsubusb", subtract_uint8, 1, 0, 0}, {"vpsubsw", subtract_int16, 2, 0, 0},
    {"vpsubusw", subtract_uint16, 2, 0, 0}, B("pavg", average, 0), W("pavg", average, 0), ALL("pabs", absolute),
    B("psign", sign, 0), W("psign", sign, 0), D("psign", sign, 0),
    {"vpmaxsb", larger_sb, 1, 0, 0}, {"vpmaxsw", larger_sw, 2, 0, 0}, {"vpmaxsd", larger_sd, 4, 0, 0},
    {"vpmaxsq", larger_sq, 8, 0, 0}, ALL("pmaxu", larger), {"vpminsb", smaller_sb, 1, 0, 0},
    {"vpminsw", smaller_sw, 2, 0, 0}, {"vpminsd", smaller_sd, 4, 0, 0}, {"vpminsq", smaller_sq, 8, 0, 0},
    ALL("pminu", smaller), W("pmull", multiply, 0), D("pmull", multiply, 0), Q("pmull", multiply, 0),
    {"vpmulhw", multiply_high_sw, 2, 0, 0}, {"vpmulhuw", multiply_high_w, 2, 0, 0},
    {"vpmulhrsw", multiply_rounded, 2, 0, 0}, {"vpmuldq", multiply_even_sd, 8, 0, 0},
    {"vpmuludq", multiply_even_d, 8, 0, 0}, {"vpmaddwd", pairs_w, 4, 0, 0}, {"vpmaddubsw", pairs_b, 2, 0, 0},
    {"vpdpbusd", dot_bytes, 4, 0, 0}, {"vpdpbusds", dot_bytes_saturated, 4, 0, 0},
    {"vpdpwssd", dot_words, 4, 0, 0}, {"vpdpwssds", dot_words_saturated, 4, 0, 0},
    W("psll", left, 0), D("psll", left, 0), Q("psll", left, 0), W("psrl", right, 0), D("psrl", right, 0),
    Q("psrl", right, 0), {"vpsraw", right_sw, 2, 0, 0}, {"vpsrad", right_sd, 4, 0, 0}, {"vpsraq", right_sq, 8, 0, 0},
    W("psllv", left_each, 0), D("psllv", left_each, 0), Q("psllv", left_each, 0), W("psrlv", right_each, 0),
    D("psrlv", right_each, 0), Q("psrlv", right_each, 0), {"vpsravw", right_each_sw, 2, 0, 0},
    {"vpsravd", right_each_sd, 4, 0, 0}, {"vpsravq", right_each_sq, 8, 0, 0},
    D("prol", rotate, 0), Q("prol", rotate, 0), D("pror", rotate_right, 0), Q("pror", rotate_right, 0),
    D("plzcnt", leading, 0), Q("plzcnt", leading, 0), D("pternlog", ternary, 0), Q("pternlog", ternary, 0),
    {"vpsadbw", absolute_differences, 8, 0, 0},
    {"vpmovsxbw", sb_to_w, 2, 0, 0}, {"vpmovsxbd", sb_to_d, 4, 0, 0}, {"vpmovsxbq", sb_to_q, 8, 0, 0},
    {"vpmovsxwd", sw_to_d, 4, 0, 0}, {"vpmovsxwq", sw_to_q, 8, 0, 0}, {"vpmovsxdq", sd_to_q, 8, 0, 0},
    {"vpmovzxbw", b_to_w, 2, 0, 0}, {"vpmovzxbd", b_to_d, 4, 0, 0}, {"vpmovzxbq", b_to_q, 8, 0, 0},
    {"vpmovzxwd", w_to_d, 4, 0, 0}, {"vpmovzxwq", w_to_q, 8, 0, 0}, {"vpmovzxdq", d_to_q, 8, 0, 0},
    CUT("wb", 2, 1, w_cut_b), CUT("db", 4, 1, d_cut_b), CUT("dw", 4, 2, d_cut_w), CUT("qb", 8, 1, q_cut_b),
    CUT("qw", 8, 2, q_cut_w), CUT("qd", 8, 4, q_cut_d),
    {"vpacksswb", pack_wb_signed, 1, 0, WHOLE}, {"vpackuswb", pack_wb_unsigned, 1, 0, WHOLE},
    {"vpackssdw", pack_dw_signed, 2, 0, WHOLE}, {"vpackusdw", pack_dw_unsigned, 2, 0, WHOLE},
    {NULL, NULL, 0, 0, 0},
};
