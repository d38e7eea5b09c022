/* Rounding, remainders and the like, so that kernels need no libm. */
#include "elementary.h"

/* The widest whole numbers, and how many bits they have left beside a mantissa of 53. */
#ifdef __SIZEOF_INT128__
typedef unsigned __int128 wide;
enum { WIDER = 60 };
#else
typedef uint64_t wide;
enum { WIDER = 11 };
#endif

double fabs(double x) { return magnitude(x); }
double copysign(double x, double y) { return with_sign(x, y); }
double sqrt(double x) { return __builtin_sqrt(x); }
double fmax(double x, double y) { return x != x || x < y ? y : x; }
double fmin(double x, double y) { return x != x || y < x ? y : x; }

double trunc(double x) {
    return magnitude(x) < 0x1p52 ? with_sign((double)(int64_t)x, x) : x;
}

double floor(double x) {
    double whole = trunc(x);
    return whole > x ? whole - 1.0 : whole;
}

double ceil(double x) {
    double whole = trunc(x);
    return whole < x ? with_sign(whole + 1.0, x) : whole;
}

double round(double x) {
    double whole = trunc(x);
    return magnitude(x - whole) >= 0.5 ? whole + with_sign(1.0, x) : whole;
}

double rint(double x) {
    double size = magnitude(x);
    return size < 0x1p52 ? with_sign((size + 0x1p52) - 0x1p52, x) : x;
}

double nearbyint(double x) { return rint(x); }
double roundeven(double x) { return rint(x); }

/* x = m 2^e with a whole m; 0 for zero */
static uint64_t whole_mantissa(double x, int *exponent) {
    int biased = (int)(bits_of(x) >> 52 & 0x7ff);
    uint64_t fraction = bits_of(x) & ((UINT64_C(1) << 52) - 1);
    *exponent = (biased ? biased : 1) - 1075;
    return biased ? fraction | UINT64_C(1) << 52 : fraction;
}

static double power_of_two(int n) {
    return n < -1022 ? from_bits(UINT64_C(1) << (n + 1074)) : from_bits((uint64_t)(n + 1023) << 52);
}

double fmod(double x, double y) {
    int ex, ey;
    uint64_t mx = whole_mantissa(x, &ex), my = whole_mantissa(y, &ey);
    if (y == 0 || x != x || y != y || ex == 972)
        return (x * y) / (x * y);
    if (ex < ey || ey == 972)
        return x;
    mx %= my;
    for (int left = ex - ey; left > 0 && mx; left -= WIDER)
        mx = (uint64_t)(((wide)mx << (left < WIDER ? left : WIDER)) % my);
    return with_sign((double)mx * power_of_two(ey), x);
}

double ldexp(double x, int n) {
    for (; n > 1000 && x != 0; n -= 1000)
        x *= 0x1p1000;
    for (; n < -900 && x != 0; n += 900)
        x *= 0x1p-900;
    return x == 0 ? x : x * power_of_two(n);
}

static void two_sum(double a, double b, double *sum, double *error) {
    *sum = a + b;
    double part = *sum - a;
    *error = (a - (*sum - part)) + (b - part);
}

static void halves(double x, double *high, double *low) {
    double big = x * 134217729.0;
    *high = big - (big - x);
    *low = x - *high;
}

/* Dekker's exact product, then one rounding; right but for overflow and underflow on the way. */
double fma(double x, double y, double z) {
#pragma STDC FP_CONTRACT OFF
    double xh, xl, yh, yl, sum, error, product = x * y;
    if (!(magnitude(product) < 0x1p970) || !(magnitude(z) < 0x1p970))
        return product + z;
    halves(x, &xh, &xl);
    halves(y, &yh, &yl);
    double rest = ((xh * yh - product) + xh * yl + xl * yh) + xl * yl;
    two_sum(product, z, &sum, &error);
    return sum + (error + rest);
}

float fabsf(float x) { return __builtin_fabsf(x); }
float copysignf(float x, float y) { return __builtin_copysignf(x, y); }
float sqrtf(float x) { return __builtin_sqrtf(x); }
float fmaxf(float x, float y) { return x != x || x < y ? y : x; }
float fminf(float x, float y) { return x != x || y < x ? y : x; }

/* In single precision alone: many microcontrollers have no other. */
static float signed_as(float size, float x) { return __builtin_copysignf(size, x); }

float truncf(float x) {
    return __builtin_fabsf(x) < 0x1p23f ? signed_as((float)(int32_t)x, x) : x;
}

float floorf(float x) {
    float whole = truncf(x);
    return whole > x ? whole - 1.0f : whole;
}

float ceilf(float x) {
    float whole = truncf(x);
    return whole < x ? signed_as(whole + 1.0f, x) : whole;
}

float roundf(float x) {
    float whole = truncf(x);
    return __builtin_fabsf(x - whole) >= 0.5f ? whole + signed_as(1.0f, x) : whole;
}

float rintf(float x) {
    float size = __builtin_fabsf(x);
    return size < 0x1p23f ? signed_as((size + 0x1p23f) - 0x1p23f, x) : x;
}

float nearbyintf(float x) { return rintf(x); }
float roundevenf(float x) { return rintf(x); }
long lrintf(float x) { return (long)rintf(x); }

float fmodf(float x, float y) { return (float)fmod(x, y); }
float ldexpf(float x, int n) { return (float)ldexp(x, n); }
float fmaf(float x, float y, float z) { return (float)((double)x * y + z); }
