#include "emulator.h"

static uint64_t low(uint64_t value, int bits) {
    return bits == 64 ? value : value & (((uint64_t)1 << bits) - 1);
}

#define EACH_MASK(name, value)                                                                                         \
    static void name(struct step *s, int bits) {                                                                       \
        uint64_t a = s->in_mask[0], b = s->in_mask[1];                                                                 \
        (void)a, (void)b;                                                                                              \
        s->out_mask = low(value, bits);                                                                                \
    }                                                                                                                  \
    static void name##_b(struct step *s) { name(s, 8); }                                                               \
    static void name##_w(struct step *s) { name(s, 16); }                                                              \
    static void name##_d(struct step *s) { name(s, 32); }                                                              \
    static void name##_q(struct step *s) { name(s, 64); }
EACH_MASK(and, a & b)
EACH_MASK(but, ~a & b)
EACH_MASK(or, a | b)
EACH_MASK(exclusive, a ^ b)
EACH_MASK(same, ~(a ^ b))
EACH_MASK(invert, ~a)
EACH_MASK(add, a + b)
EACH_MASK(left, s->immediate < bits ? a << s->immediate : 0)
EACH_MASK(right, s->immediate < bits ? low(a, bits) >> s->immediate : 0)
EACH_MASK(unpack, low(a, bits / 2) << bits / 2 | low(b, bits / 2))

/* A move is between masks, memory and general registers; only one of the two ends is a mask's. */
#define MOVE(name, bits)                                                                                               \
    static void name(struct step *s) {                                                                                 \
        const struct operand *from = &s->sources[0];                                                                   \
        uint64_t value = from->kind == MASK     ? s->in_mask[0]                                                        \
                         : from->kind == MEMORY ? s->in[0].q[0]                                                        \
                                                : s->in_general[0];                                                    \
        s->out_mask = s->out_general = s->out.q[0] = low(value, bits);                                                 \
    }
MOVE(move_b, 8) MOVE(move_w, 16) MOVE(move_d, 32) MOVE(move_q, 64)

/* ZF: no bit of either; CF: every bit of either. */
static void test_or(struct step *s, int bits) {
    uint64_t both = low(s->in_mask[0] | s->in_mask[1], bits), full = low(UINT64_MAX, bits);
    uint64_t flags = (both == 0 ? 0x40 : 0) | (both == full ? 1 : 0);
    s->registers->flags = (s->registers->flags & ~(uint64_t)0x8d5) | flags;
}
static void test_or_b(struct step *s) { test_or(s, 8); }
static void test_or_w(struct step *s) { test_or(s, 16); }
static void test_or_d(struct step *s) { test_or(s, 32); }
static void test_or_q(struct step *s) { test_or(s, 64); }

/* ZF: the two have no bit in common; CF: the second has none beyond the first's. */
static void test(struct step *s, int bits) {
    uint64_t a = s->in_mask[0], b = s->in_mask[1];
    uint64_t flags = (low(a & b, bits) == 0 ? 0x40 : 0) | (low(~a & b, bits) == 0 ? 1 : 0);
    s->registers->flags = (s->registers->flags & ~(uint64_t)0x8d5) | flags;
}
static void test_b(struct step *s) { test(s, 8); }
static void test_w(struct step *s) { test(s, 16); }
static void test_d(struct step *s) { test(s, 32); }
static void test_q(struct step *s) { test(s, 64); }

static void test_vector(struct step *s) {
    uint64_t common = 0, beyond = 0;
    for (int i = 0; i < s->sources[0].bytes / 8; i++) {
        common |= s->in[0].q[i] & s->in[1].q[i];
        beyond |= ~s->in[0].q[i] & s->in[1].q[i];
    }
    s->registers->flags = (s->registers->flags & ~(uint64_t)0x8d5) | (common ? 0 : 0x40) | (beyond ? 0 : 1);
}

#define COMPARE(name, field)                                                                                           \
    static int name##_holds(const struct step *s, int i) {                                                             \
        switch (s->immediate & 7) {                                                                                    \
        case 0:                                                                                                        \
            return s->in[0].field[i] == s->in[1].field[i];                                                             \
        case 1:                                                                                                        \
            return s->in[0].field[i] < s->in[1].field[i];                                                              \
        case 2:                                                                                                        \
            return s->in[0].field[i] <= s->in[1].field[i];                                                             \
        case 3:                                                                                                        \
            return 0;                                                                                                  \
        case 4:                                                                                                        \
            return s->in[0].field[i] != s->in[1].field[i];                                                             \
        case 5:                                                                                                        \
            return s->in[0].field[i] >= s->in[1].field[i];                                                             \
        case 6:                                                                                                        \
            return s->in[0].field[i] > s->in[1].field[i];                                                              \
        default:                                                                                                       \
            return 1;                                                                                                  \
        }                                                                                                              \
    }                                                                                                                  \
    static void name(struct step *s) {                                                                                 \
        for (int i = 0; i < s->lanes; i++)                                                                             \
            s->out_mask |= (uint64_t)name##_holds(s, i) << i;                                                          \
    }                                                                                                                  \
    static void name##_fill(struct step *s, int predicate) {                                                           \
        s->immediate = predicate;                                                                                      \
        name(s);                                                                                                       \
        for (int i = 0; i < s->lanes; i++)                                                                             \
            s->out.field[i] = (__typeof__(s->out.field[0]))-(int)(s->out_mask >> i & 1);                               \
    }                                                                                                                  \
    static void name##_equal(struct step *s) { name##_fill(s, 0); }                                                    \
    static void name##_above(struct step *s) { name##_fill(s, 6); }
COMPARE(compare_sb, sb) COMPARE(compare_b, b) COMPARE(compare_sw, sw) COMPARE(compare_w, w)
COMPARE(compare_sd, sd) COMPARE(compare_d, d) COMPARE(compare_sq, sq) COMPARE(compare_q, q)

#define BIT_TEST(suffix, field, bits)                                                                                  \
    static void any_##suffix(struct step *s) {                                                                         \
        for (int i = 0; i < s->lanes; i++)                                                                             \
            s->out_mask |= (uint64_t)((s->in[0].field[i] & s->in[1].field[i]) != 0) << i;                              \
    }                                                                                                                  \
    static void none_##suffix(struct step *s) {                                                                        \
        for (int i = 0; i < s->lanes; i++)                                                                             \
            s->out_mask |= (uint64_t)((s->in[0].field[i] & s->in[1].field[i]) == 0) << i;                              \
    }                                                                                                                  \
    static void to_mask_##suffix(struct step *s) {                                                                     \
        for (int i = 0; i < s->lanes; i++)                                                                             \
            s->out_mask |= (uint64_t)(s->in[0].field[i] >> (bits - 1) & 1) << i;                                       \
    }                                                                                                                  \
    static void from_mask_##suffix(struct step *s) {                                                                   \
        for (int i = 0; i < s->lanes; i++)                                                                             \
            s->out.field[i] = (__typeof__(s->out.field[0]))(s->in_mask[0] >> i & 1 ? -1 : 0);                          \
    }                                                                                                                  \
    static void signs_##suffix(struct step *s) {                                                                       \
        for (int i = 0; i < s->sources[0].bytes * 8 / bits; i++)                                                       \
            s->out_general |= (uint64_t)(s->in[0].field[i] >> (bits - 1) & 1) << i;                                    \
    }
BIT_TEST(b, b, 8) BIT_TEST(w, w, 16) BIT_TEST(d, d, 32) BIT_TEST(q, q, 64)

#define K(text, run) {"k" text "b", run##_b, 0, 0, 0}, {"k" text "w", run##_w, 0, 0, 0},                               \
    {"k" text "d", run##_d, 0, 0, 0}, {"k" text "q", run##_q, 0, 0, 0}
#define KTEST(text, run) {"k" text "b", run##_b, 0, 0, READS}, {"k" text "w", run##_w, 0, 0, READS},                   \
    {"k" text "d", run##_d, 0, 0, READS}, {"k" text "q", run##_q, 0, 0, READS}
#define VALL(before, after, run)                                                                                       \
    {before "b" after, run##_b, 1, 1, 0}, {before "w" after, run##_w, 2, 2, 0}, {before "d" after, run##_d, 4, 4, 0},  \
        {before "q" after, run##_q, 8, 8, 0}
#define FILL(text, size, run) {"vpcmpeq" text, run##_equal, size, size, 0}, {"vpcmpgt" text, run##_above, size, size, 0}

const struct operation mask_operations[] = {
    K("and", and), K("andn", but), K("or", or), K("xor", exclusive), K("xnor", same), K("not", invert), K("add", add),
    K("shiftl", left), K("shiftr", right), K("mov", move), KTEST("ortest", test_or), KTEST("test", test),
    {"kunpckbw", unpack_w, 0, 0, 0}, {"kunpckwd", unpack_d, 0, 0, 0}, {"kunpckdq", unpack_q, 0, 0, 0},
    {"vpcmpb", compare_sb, 1, 1, 0}, {"vpcmpub", compare_b, 1, 1, 0}, {"vpcmpw", compare_sw, 2, 2, 0},
    {"vpcmpuw", compare_w, 2, 2, 0}, {"vpcmpd", compare_sd, 4, 4, 0}, {"vpcmpud", compare_d, 4, 4, 0},
    {"vpcmpq", compare_sq, 8, 8, 0}, {"vpcmpuq", compare_q, 8, 8, 0},
    FILL("b", 1, compare_sb), FILL("w", 2, compare_sw), FILL("d", 4, compare_sd), FILL("q", 8, compare_sq),
    VALL("vptestm", "", any), VALL("vptestnm", "", none), VALL("vpmov", "2m", to_mask),
    {"vpmovm2b", from_mask_b, 1, 0, 0}, {"vpmovm2w", from_mask_w, 2, 0, 0}, {"vpmovm2d", from_mask_d, 4, 0, 0},
    {"vpmovm2q", from_mask_q, 8, 0, 0}, {"vpmovmskb", signs_b, 0, 0, 0}, {"vmovmskps", signs_d, 0, 0, 0},
    {"vmovmskpd", signs_q, 0, 0, 0}, {"vptest", test_vector, 0, 0, READS},
    {NULL, NULL, 0, 0, 0},
};
