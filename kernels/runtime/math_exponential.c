/* Exponentials, logarithms, powers, hyperbolic and error functions, so that kernels need no libm. The float32
   ones are the float64 ones rounded. */
#include "elementary.h"

#define SQRT(x) __builtin_sqrt(x)

static const double exp_series[] = {
    1.0 / 6227020800.0, 1.0 / 479001600.0, 1.0 / 39916800.0, 1.0 / 3628800.0, 1.0 / 362880.0, 1.0 / 40320.0,
    1.0 / 5040.0,       1.0 / 720.0,       1.0 / 120.0,      1.0 / 24.0,      1.0 / 6.0,      0.5,
};

/* exp(r) - 1 for |r| < 0.35, r = high + low */
static double small_expm1(double high, double low) {
    return high + (low + high * high * HORNER(high, exp_series));
}

/* x times 2 to the power n, for |n| < 2200 */
static double scaled(double x, int n) {
    for (; n > 1000; n -= 1000)
        x *= 0x1p1000;
    for (; n < -1000; n += 900)
        x *= 0x1p-900;
    return x * from_bits((uint64_t)(n + 1023) << 52);
}

double exp(double x) {
    if (!(x < 710.0))
        return x * (x != x ? 1.0 : 0x1p1000 * 0x1p1000);
    if (x < -746.0)
        return 0.0;
    double n = nearest_whole(x * 0x1.71547652b82fep+0);
    double near = x - n * LN2_HIGH, r = near - n * LN2_LOW;
    return scaled(1.0 + small_expm1(r, (near - r) - n * LN2_LOW), (int)n);
}

double exp2(double x) {
    if (!(x < 1024.0))
        return x * (x != x ? 1.0 : 0x1p1000 * 0x1p1000);
    if (x < -1080.0)
        return 0.0;
    double n = nearest_whole(x);
    return scaled(1.0 + small_expm1((x - n) * 0x1.62e42fefa39efp-1, 0.0), (int)n);
}

double exp10(double x) { return exp(x * 0x1.26bb1bbb55516p+1); }

double expm1(double x) {
    return magnitude(x) < 0.34 ? small_expm1(x, 0.0) : exp(x) - 1.0;
}

/* x = (1 + f) 2^k with 1 + f between sqrt(1/2) and sqrt(2); gives log(1 + f) as f - *rest */
static double split_log(double x, double *k, double *rest) {
    static const double series[] = {2.0 / 23, 2.0 / 21, 2.0 / 19, 2.0 / 17, 2.0 / 15, 2.0 / 13,
                                    2.0 / 11, 2.0 / 9,  2.0 / 7,  2.0 / 5,  2.0 / 3};
    int shift = 0;
    if (x < 0x1p-1022) {
        x *= 0x1p54;
        shift = 54;
    }
    uint64_t offset = bits_of(x) - UINT64_C(0x3fe6a09e667f3bcd);
    int64_t exponent = (int64_t)offset >> 52;
    double f = from_bits(bits_of(x) - ((uint64_t)exponent << 52)) - 1.0;
    double s = f / (2.0 + f), z = s * s, half = 0.5 * f * f;
    *k = (double)(exponent - shift);
    *rest = half - s * (half + z * HORNER(z, series));
    return f;
}

/* log(x) where x is no finite positive number */
static double log_edge(double x) {
    return x == 0 ? -1.0 / magnitude(x) : x > 0 ? x : (x - x) / (x - x);
}

static int is_ordinary(double x) {
    return x > 0 && x <= 0x1.fffffffffffffp1023;
}

double log(double x) {
    if (!is_ordinary(x))
        return x != x ? x : log_edge(x);
    double k, rest, f = split_log(x, &k, &rest);
    return k * LN2_HIGH - ((rest - k * LN2_LOW) - f);
}

double log2(double x) {
    if (!is_ordinary(x))
        return x != x ? x : log_edge(x);
    double k, rest, f = split_log(x, &k, &rest);
    return k + (f - rest) * 0x1.71547652b82fep+0;
}

double log10(double x) {
    if (!is_ordinary(x))
        return x != x ? x : log_edge(x);
    double k, rest, f = split_log(x, &k, &rest);
    return k * 0x1.3441350800000p-2 + (k * 0x1.f79fef311f12bp-34 + (f - rest) * 0x1.bcb7b1526e50ep-2);
}

double log1p(double x) {
    double u = 1.0 + x;
    if (!(u > 0) || u > 0x1p1000)
        return log(u);
    return u == 1.0 ? x : log(u) * (x / (u - 1.0));
}

static int is_whole(double y) {
    return magnitude(y) >= 0x1p52 || y == (magnitude(y) < 0x1p51 ? nearest_whole(y) : (double)(int64_t)y);
}

static int is_odd(double y) {
    return magnitude(y) < 0x1p53 && ((int64_t)y & 1);
}

/* Within 1e-13 relative: the error of the logarithm grows with the exponent. */
double pow(double x, double y) {
    if (y == 0 || x == 1.0)
        return 1.0;
    if (x != x || y != y)
        return x + y;
    if (x < 0 && is_whole(y) && x >= -0x1.fffffffffffffp1023)
        return is_odd(y) ? -pow(-x, y) : pow(-x, y);
    if (x == -1.0 && magnitude(y) > 0x1.fffffffffffffp1023)
        return 1.0;
    double size = magnitude(x);
    if (size == 0 || size > 0x1.fffffffffffffp1023) {
        double grows = (size == 0) == (y > 0) ? 0.0 : 0x1p1000 * 0x1p1000;
        return is_whole(y) && is_odd(y) ? with_sign(grows, x) : grows;
    }
    return exp(y * log(x));
}

double sinh(double x) {
    double size = magnitude(x);
    if (size > 700.0) {
        double half = exp(0.5 * size);
        return with_sign(0.5 * half * half, x);
    }
    double t = expm1(size);
    return with_sign(0.5 * (t + t / (t + 1.0)), x);
}

double cosh(double x) {
    double half = exp(0.5 * magnitude(x));
    return 0.5 * half * half + 0.5 / (half * half);
}

double tanh(double x) {
    double size = magnitude(x);
    if (size != size)
        return x;
    double t = size > 20.0 ? 1.0 : expm1(2.0 * size);
    return with_sign(size > 20.0 ? 1.0 : t / (t + 2.0), x);
}

double asinh(double x) {
    double size = magnitude(x);
    double value = size > 0x1p500 ? log(size) + 0x1.62e42fefa39efp-1
                                  : log1p(size + size * size / (1.0 + SQRT(1.0 + size * size)));
    return with_sign(value, x);
}

double acosh(double x) {
    double t = x - 1.0;
    if (x < 1.0)
        return (x - x) / 0.0;
    return x > 0x1p500 ? log(x) + 0x1.62e42fefa39efp-1 : log1p(t + SQRT(2.0 * t + t * t));
}

double atanh(double x) {
    double size = magnitude(x);
    return with_sign(0.5 * log1p(2.0 * size / (1.0 - size)), x);
}

/* erf by its series of positive terms, e^(-x^2) sum 2^n x^(2n+1) / (2n+1)!! */
double erf(double x) {
    double size = magnitude(x);
    if (!(size < 6.0))
        return x != x ? x : with_sign(1.0, x);
    double square = 2.0 * size * size, term = size, sum = size;
    for (int n = 3; term > 1e-17 * sum; n += 2) {
        term *= square / n;
        sum += term;
    }
    return with_sign(0x1.20dd750429b6dp+0 * exp(-size * size) * sum, x);
}

/* 1 - erf, beyond 2 by its continued fraction */
double erfc(double x) {
    if (!(x > 2.0))
        return 1.0 - erf(x);
    double fraction = 0.0;
    for (int n = 60; n > 0; n--)
        fraction = 0.5 * n / (x + fraction);
    return x > 27.0 ? 0.0 : exp(-x * x) / (1.772453850905516 * (x + fraction));
}

float expf(float x) { return (float)exp(x); }
float exp2f(float x) { return (float)exp2(x); }
float exp10f(float x) { return (float)exp10(x); }
float expm1f(float x) { return (float)expm1(x); }
float logf(float x) { return (float)log(x); }
float log2f(float x) { return (float)log2(x); }
float log10f(float x) { return (float)log10(x); }
float log1pf(float x) { return (float)log1p(x); }
float powf(float x, float y) { return (float)pow(x, y); }
float sinhf(float x) { return (float)sinh(x); }
float coshf(float x) { return (float)cosh(x); }
float tanhf(float x) { return (float)tanh(x); }
float asinhf(float x) { return (float)asinh(x); }
float acoshf(float x) { return (float)acosh(x); }
float atanhf(float x) { return (float)atanh(x); }
float erff(float x) { return (float)erf(x); }
float erfcf(float x) { return (float)erfc(x); }
