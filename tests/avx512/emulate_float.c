#include "emulator.h"

#include <math.h>
#include <string.h>

#define EACH(name, field, value)                                                                                       \
    static void name(struct step *s) {                                                                                 \
        const vector *a = &s->in[0], *b = &s->in[1], *old = &s->old;                                                   \
        (void)a, (void)b, (void)old;                                                                                   \
        for (int i = 0; i < s->lanes; i++)                                                                             \
            s->out.field[i] = (value);                                                                                 \
    }
#define BOTH(name, value_s, value_f) EACH(name##_s, s, value_s) EACH(name##_f, f, value_f)

BOTH(add, a->s[i] + b->s[i], a->f[i] + b->f[i])
BOTH(subtract, a->s[i] - b->s[i], a->f[i] - b->f[i])
BOTH(multiply, a->s[i] * b->s[i], a->f[i] * b->f[i])
BOTH(divide, a->s[i] / b->s[i], a->f[i] / b->f[i])
BOTH(larger, a->s[i] > b->s[i] ? a->s[i] : b->s[i], a->f[i] > b->f[i] ? a->f[i] : b->f[i])
BOTH(smaller, a->s[i] < b->s[i] ? a->s[i] : b->s[i], a->f[i] < b->f[i] ? a->f[i] : b->f[i])
BOTH(root, sqrtf(a->s[i]), sqrt(a->f[i]))
BOTH(scalar_root, sqrtf(b->s[i]), sqrt(b->f[i]))

/* The digits name the factors and the addend: 1 is the destination, 2 and 3 the sources. */
#define FUSED(name, sign, subtract)                                                                                    \
    BOTH(name##132, fmaf(sign old->s[i], b->s[i], subtract a->s[i]), fma(sign old->f[i], b->f[i], subtract a->f[i]))   \
    BOTH(name##213, fmaf(sign a->s[i], old->s[i], subtract b->s[i]), fma(sign a->f[i], old->f[i], subtract b->f[i]))   \
    BOTH(name##231, fmaf(sign a->s[i], b->s[i], subtract old->s[i]), fma(sign a->f[i], b->f[i], subtract old->f[i]))
FUSED(fmadd, , )
FUSED(fmsub, , -)
FUSED(fnmadd, -, )
FUSED(fnmsub, -, -)

static double rounded_to_integer(double value, int mode) {
    switch (mode & 4 ? 0 : mode & 3) { /* bit 2: as MXCSR says, which is to nearest even */
    case 1:
        return floor(value);
    case 2:
        return ceil(value);
    case 3:
        return trunc(value);
    default:
        return nearbyint(value);
    }
}

/* imm8[7:4]: the number of binary places kept. */
static double rounded_to_scale(double value, int immediate) {
    int places = immediate >> 4 & 15;
    if (!isfinite(value))
        return value;
    return copysign(ldexp(rounded_to_integer(ldexp(value, places), immediate), -places), value);
}
BOTH(round_packed, (float)rounded_to_scale(a->s[i], s->immediate), rounded_to_scale(a->f[i], s->immediate))
BOTH(round_scalar, (float)rounded_to_scale(b->s[i], s->immediate), rounded_to_scale(b->f[i], s->immediate))

static int32_t to_int32(double value) {
    return value >= -2147483648.0 && value <= 2147483647.0 ? (int32_t)value : INT32_MIN;
}
static uint32_t to_uint32(double value) {
    return value >= 0 && value <= 4294967295.0 ? (uint32_t)value : UINT32_MAX;
}
static int64_t to_int64(double value) {
    return value >= -0x1p63 && value < 0x1p63 ? (int64_t)value : INT64_MIN;
}
EACH(int32_to_s, s, (float)a->sd[i])
EACH(uint32_to_s, s, (float)a->d[i])
EACH(int32_to_f, f, (double)a->sd[i])
EACH(uint32_to_f, f, (double)a->d[i])
EACH(int64_to_s, s, (float)a->sq[i])
EACH(int64_to_f, f, (double)a->sq[i])
EACH(uint64_to_f, f, (double)a->q[i])
EACH(s_to_int32, sd, to_int32(nearbyint((double)a->s[i])))
EACH(s_to_int32_cut, sd, to_int32(trunc((double)a->s[i])))
EACH(s_to_uint32, d, to_uint32(nearbyint((double)a->s[i])))
EACH(s_to_uint32_cut, d, to_uint32(trunc((double)a->s[i])))
EACH(f_to_int32, sd, to_int32(nearbyint(a->f[i])))
EACH(f_to_int32_cut, sd, to_int32(trunc(a->f[i])))
EACH(s_to_int64_cut, sq, to_int64(trunc((double)a->s[i])))
EACH(s_to_int64, sq, to_int64(nearbyint((double)a->s[i])))
EACH(f_to_int64_cut, sq, to_int64(trunc(a->f[i])))
EACH(f_to_int64, sq, to_int64(nearbyint(a->f[i])))
EACH(s_to_f, f, (double)a->s[i])
EACH(f_to_s, s, (float)a->f[i])
EACH(scalar_s_to_f, f, (double)b->s[i])
EACH(scalar_f_to_s, s, (float)b->f[i])

static float half_to_float(uint16_t half) {
    int exponent = half >> 10 & 31, fraction = half & 1023;
    float magnitude = exponent == 31 ? (fraction ? NAN : INFINITY)
                      : exponent     ? ldexpf((float)(1024 + fraction), exponent - 25)
                                     : ldexpf((float)fraction, -24);
    return half >> 15 ? -magnitude : magnitude;
}

static uint16_t float_to_half(float value, int mode) {
    uint16_t sign = signbit(value) ? 0x8000 : 0;
    double magnitude = fabs((double)value);
    if (isnan(value)) {
        uint32_t bits;
        memcpy(&bits, &value, sizeof bits);
        return sign | 0x7e00 | (uint16_t)(bits >> 13 & 0x3ff);
    }
    if (isinf(value))
        return sign | 0x7c00;
    int exponent = magnitude > 0 ? ilogb(magnitude) : -14;
    int place = (exponent < -14 ? -14 : exponent) - 10;
    double steps = fabs(rounded_to_integer(ldexp(sign ? -magnitude : magnitude, -place), mode));
    double rounded = ldexp(steps, place);
    if (rounded >= 65536.0) {
        int keeps = (mode & 4 ? 0 : mode & 3) == 3 || (mode & 3) == (sign ? 2 : 1);
        return sign | (keeps && !(mode & 4) ? 0x7bff : 0x7c00);
    }
    if (rounded < 0x1p-14)
        return sign | (uint16_t)ldexp(rounded, 24);
    exponent = ilogb(rounded);
    return sign | (uint16_t)((exponent + 15) << 10) | (uint16_t)(ldexp(rounded, 10 - exponent) - 1024);
}
EACH(half_to_s, s, half_to_float(a->w[i]))
EACH(s_to_half, w, float_to_half(a->s[i], s->immediate))

static void scalar_from_general(struct step *s, int single) {
    uint64_t bits = s->sources[1].kind == MEMORY ? s->in[1].q[0] : s->in_general[1];
    int64_t value = s->sources[1].bytes == 8 ? (int64_t)bits : (int32_t)bits;
    if (single)
        s->out.s[0] = (float)value;
    else
        s->out.f[0] = (double)value;
}
static void general_to_s(struct step *s) {
    scalar_from_general(s, 1);
}
static void general_to_f(struct step *s) {
    scalar_from_general(s, 0);
}
static void to_general(struct step *s, double value) {
    s->out_general = s->bytes == 8 ? (uint64_t)to_int64(value) : (uint32_t)to_int32(value);
}
static void s_to_general(struct step *s) {
    to_general(s, nearbyint((double)s->in[0].s[0]));
}
static void s_to_general_cut(struct step *s) {
    to_general(s, trunc((double)s->in[0].s[0]));
}
static void f_to_general(struct step *s) {
    to_general(s, nearbyint(s->in[0].f[0]));
}
static void f_to_general_cut(struct step *s) {
    to_general(s, trunc(s->in[0].f[0]));
}

/* CF, PF and ZF say less, unordered and equal; the others are cleared. */
static void set_order(struct step *s, double a, double b) {
    uint64_t order = isnan(a) || isnan(b) ? 0x45 : a > b ? 0 : a < b ? 0x01 : 0x40;
    s->registers->flags = (s->registers->flags & ~(uint64_t)0x8d5) | order;
}
static void order_s(struct step *s) {
    set_order(s, s->in[0].s[0], s->in[1].s[0]);
}
static void order_f(struct step *s) {
    set_order(s, s->in[0].f[0], s->in[1].f[0]);
}

/* The predicate: bits 0 to 2 choose, bit 2 negates; from 8 on, the answers for unordered values change sides. */
static int compare(double a, double b, int predicate) {
    int unordered = isnan(a) || isnan(b);
    static const uint8_t when_unordered[16] = {0, 0, 0, 1, 1, 1, 1, 0, 1, 1, 1, 0, 0, 0, 0, 1};
    if (unordered)
        return when_unordered[predicate & 15];
    switch (predicate & 15) {
    case 0: case 8:
        return a == b;
    case 1:
        return a < b;
    case 2:
        return a <= b;
    case 3: case 11:
        return 0;
    case 4: case 12:
        return a != b;
    case 5: case 13:
        return a >= b;
    case 6: case 14:
        return a > b;
    case 9:
        return a < b;
    case 10:
        return a <= b;
    default:
        return 1;
    }
}
static int nth(const struct step *s, int i, int size) {
    double a = size == 4 ? s->in[0].s[i] : s->in[0].f[i], b = size == 4 ? s->in[1].s[i] : s->in[1].f[i];
    return compare(a, b, s->immediate);
}
static void compare_s(struct step *s) {
    for (int i = 0; i < s->lanes; i++) {
        s->out.d[i] = nth(s, i, 4) ? UINT32_MAX : 0;
        s->out_mask |= (uint64_t)nth(s, i, 4) << i;
    }
}
static void compare_f(struct step *s) {
    for (int i = 0; i < s->lanes; i++) {
        s->out.q[i] = nth(s, i, 8) ? UINT64_MAX : 0;
        s->out_mask |= (uint64_t)nth(s, i, 8) << i;
    }
}

/* b's exponent, as an integer: a * 2 ** floor(b). */
static float scaled_s(float a, float b) {
    return isnan(a) || isnan(b) ? NAN : (float)ldexp((double)a, (int)fmax(-10000, fmin(10000, floor((double)b))));
}
EACH(scale_s, s, scaled_s(a->s[i], b->s[i]))

#define PACKED(text, run) {"v" text "ps", run##_s, 4, 0, 0}, {"v" text "pd", run##_f, 8, 0, 0}
#define SINGLE(text, run) {"v" text "ss", run##_s, 4, 0, SCALAR}, {"v" text "sd", run##_f, 8, 0, SCALAR}
#define EITHER(text, run) PACKED(text, run), SINGLE(text, run)
#define FORM(text, run)                                                                                                \
    PACKED(text, run), {"v" text "ss", run##_s, 4, 0, SCALAR | KEEPS}, {"v" text "sd", run##_f, 8, 0, SCALAR | KEEPS}
#define FORMS(text, run) FORM(text "132", run##132), FORM(text "213", run##213), FORM(text "231", run##231)

const struct operation float_operations[] = {
    EITHER("add", add), EITHER("sub", subtract), EITHER("mul", multiply), EITHER("div", divide),
    EITHER("max", larger), EITHER("min", smaller), PACKED("sqrt", root), SINGLE("sqrt", scalar_root),
    FORMS("fmadd", fmadd), FORMS("fmsub", fmsub), FORMS("fnmadd", fnmadd), FORMS("fnmsub", fnmsub),
    PACKED("rndscale", round_packed), SINGLE("rndscale", round_scalar),
    PACKED("round", round_packed), SINGLE("round", round_scalar),
    {"vcvtdq2ps", int32_to_s, 4, 0, 0}, {"vcvtudq2ps", uint32_to_s, 4, 0, 0}, {"vcvtdq2pd", int32_to_f, 8, 0, 0},
    {"vcvtudq2pd", uint32_to_f, 8, 0, 0}, {"vcvtqq2ps", int64_to_s, 4, 8, 0}, {"vcvtqq2pd", int64_to_f, 8, 0, 0},
    {"vcvtuqq2pd", uint64_to_f, 8, 0, 0}, {"vcvtps2dq", s_to_int32, 4, 0, 0}, {"vcvttps2dq", s_to_int32_cut, 4, 0, 0},
    {"vcvtps2udq", s_to_uint32, 4, 0, 0}, {"vcvttps2udq", s_to_uint32_cut, 4, 0, 0},
    {"vcvtpd2dq", f_to_int32, 4, 8, 0}, {"vcvttpd2dq", f_to_int32_cut, 4, 8, 0},
    {"vcvttps2qq", s_to_int64_cut, 8, 0, 0}, {"vcvtps2qq", s_to_int64, 8, 0, 0},
    {"vcvttpd2qq", f_to_int64_cut, 8, 0, 0}, {"vcvtpd2qq", f_to_int64, 8, 0, 0},
    {"vcvtps2pd", s_to_f, 8, 0, 0}, {"vcvtpd2ps", f_to_s, 4, 8, 0},
    {"vcvtss2sd", scalar_s_to_f, 8, 0, SCALAR}, {"vcvtsd2ss", scalar_f_to_s, 4, 0, SCALAR},
    {"vcvtph2ps", half_to_s, 4, 0, 0}, {"vcvtps2ph", s_to_half, 2, 4, 0},
    {"vcvtsi2ss", general_to_s, 4, 0, SCALAR}, {"vcvtsi2sd", general_to_f, 8, 0, SCALAR},
    {"vcvtss2si", s_to_general, 0, 0, 0}, {"vcvttss2si", s_to_general_cut, 0, 0, 0},
    {"vcvtsd2si", f_to_general, 0, 0, 0}, {"vcvttsd2si", f_to_general_cut, 0, 0, 0},
    {"vucomiss", order_s, 0, 0, READS}, {"vucomisd", order_f, 0, 0, READS},
    {"vcomiss", order_s, 0, 0, READS}, {"vcomisd", order_f, 0, 0, READS},
    {"vcmpps", compare_s, 4, 4, 0}, {"vcmppd", compare_f, 8, 8, 0},
    {"vcmpss", compare_s, 4, 0, SCALAR}, {"vcmpsd", compare_f, 8, 0, SCALAR},
    {"vscalefps", scale_s, 4, 0, 0},
    {NULL, NULL, 0, 0, 0},
};
