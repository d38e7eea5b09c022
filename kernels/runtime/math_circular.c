/* Sines, cosines, tangents and their inverses, so that kernels need no libm. The float32 ones are the float64
   ones rounded. */
#include "elementary.h"

#define SQRT(x) __builtin_sqrt(x)
#define HALF_PI 0x1.921fb54442d18p+0
#define HALF_PI_LOW 0x1.1a62633145c07p-54

/* The bits of 2/pi after the point, behind 64 zero bits. */
static const uint64_t two_over_pi[] = {
    0,
    0xa2f9836e4e441529, 0xfc2757d1f534ddc0, 0xdb6295993c439041, 0xfe5163abdebbc561,
    0xb7246e3a424dd2e0, 0x06492eea09d1921c, 0xfe1deb1cb129a73e, 0xe88235f52ebb4484,
    0xe99c7026b45f7e41, 0x3991d639835339f4, 0x9c845f8bbdf9283b, 0x1ff897ffde05980f,
    0xef2f118b5a0a6d1f, 0x6d367ecf27cb09b7, 0x4f463f669e5fea2d, 0x7527bac7ebe5f17b,
    0x3d0739f78a5292ea, 0x6bfb5fb11f8d5d08, 0x56033046fc7b6bab,
    0, 0, 0,
};

/* The product of `mantissa` and `window`, both whole numbers, modulo 2^192, as its highest two bits and the rest, from
   -1/2 to 1/2 of them, in units of 2^62 */
#ifdef __SIZEOF_INT128__
static int split_product(uint64_t mantissa, const uint64_t window[3], double *rest) {
    unsigned __int128 low = (unsigned __int128)mantissa * window[2];
    unsigned __int128 high = (unsigned __int128)mantissa * window[1] + (uint64_t)(low >> 64);
    high += (unsigned __int128)(mantissa * window[0]) << 64;
    int quadrant = (int)(high >> 126);
    __int128 fraction = (__int128)(high << 2 | (uint64_t)low >> 62);
    *rest = (double)fraction;
    return quadrant + (fraction < 0);
}
#else
static uint64_t high_product(uint64_t a, uint64_t b) {
    uint64_t a0 = (uint32_t)a, a1 = a >> 32, b0 = (uint32_t)b, b1 = b >> 32;
    uint64_t middle = a1 * b0 + (a0 * b0 >> 32);
    uint64_t other = a0 * b1 + (uint32_t)middle;
    return a1 * b1 + (middle >> 32) + (other >> 32);
}

static int split_product(uint64_t mantissa, const uint64_t window[3], double *rest) {
    uint64_t low = mantissa * window[2], middle = mantissa * window[1];
    uint64_t sum = middle + high_product(mantissa, window[2]);
    uint64_t high = mantissa * window[0] + high_product(mantissa, window[1]) + (sum < middle);
    int64_t upper = (int64_t)(high << 2 | sum >> 62);
    *rest = (double)upper * 0x1p64 + (double)(sum << 2 | low >> 62);
    return (int)(high >> 62) + (upper < 0);
}
#endif

/* x modulo pi/2 for large x: its bits times just those bits of 2/pi that matter (Payne and Hanek, 1983) */
static int reduce_large(double x, double *remainder) {
    int exponent = (int)(bits_of(x) >> 52 & 0x7ff) - 1075;
    uint64_t mantissa = (bits_of(x) & ((UINT64_C(1) << 52) - 1)) | UINT64_C(1) << 52;
    int first = exponent + 62; /* of 192 bits, the highest of weight 2 */
    uint64_t window[3];
    for (int i = 0; i < 3; i++) {
        int word = first / 64 + i, shift = first % 64;
        window[i] = two_over_pi[word] << shift | (shift ? two_over_pi[word + 1] >> (64 - shift) : 0);
    }
    double fraction;
    int quadrant = split_product(mantissa, window, &fraction);
    *remainder = fraction * 0x1p-128 * HALF_PI;
    return quadrant;
}

/* |x| = n pi/2 + *high + *low; gives n modulo 4 */
static int reduce(double x, double *high, double *low) {
    *low = 0.0;
    if (x < 0.785) {
        *high = x;
        return 0;
    }
    if (x > 0x1p19)
        return reduce_large(x, high) & 3;
    double n = nearest_whole(x * 0x1.45f306dc9c883p-1);
    double first = x - n * 0x1.921fb54400000p+0, second = n * 0x1.0b4611a600000p-34;
    double near = first - second;
    double tail = n * 0x1.3198a2e037073p-69 - ((first - near) - second);
    *high = near - tail;
    *low = (near - *high) - tail;
    return (int)n & 3;
}

static double sine(double x, double low) {
    static const double series[] = {1.0 / 355687428096000.0, -1.0 / 1307674368000.0, 1.0 / 6227020800.0,
                                    -1.0 / 39916800.0,       1.0 / 362880.0,         -1.0 / 5040.0,
                                    1.0 / 120.0,             -1.0 / 6.0};
    double z = x * x;
    return x + (x * z * HORNER(z, series) + low * (1.0 - 0.5 * z));
}

static double cosine(double x, double low) {
    static const double series[] = {1.0 / 20922789888000.0, -1.0 / 87178291200.0, 1.0 / 479001600.0, -1.0 / 3628800.0,
                                    1.0 / 40320.0,          -1.0 / 720.0,         1.0 / 24.0};
    double z = x * x, half = 0.5 * z, near = 1.0 - half;
    return near + (((1.0 - near) - half) + (z * z * HORNER(z, series) - x * low));
}

static int is_finite(double x) {
    return magnitude(x) <= 0x1.fffffffffffffp1023;
}

static double quadrant_sine(int quadrant, double high, double low) {
    double value = quadrant & 1 ? cosine(high, low) : sine(high, low);
    return quadrant & 2 ? -value : value;
}

double sin(double x) {
    if (!is_finite(x) || x == 0)
        return x == 0 ? x : x - x;
    double high, low, size = magnitude(x);
    int quadrant = reduce(size, &high, &low);
    return quadrant_sine(x < 0 ? quadrant + 2 : quadrant, high, low);
}

double cos(double x) {
    if (!is_finite(x))
        return x - x;
    double high, low;
    int quadrant = reduce(magnitude(x), &high, &low);
    return quadrant_sine(quadrant + 1, high, low);
}

double tan(double x) {
    return sin(x) / cos(x);
}

/* atan(k / 8) as a sum of two */
static const double eighths[9][2] = {
    {0.0, 0.0},
    {0x1.fd5ba9aac2f6ep-4, -0x1.cd37686760c17p-59},
    {0x1.f5b75f92c80ddp-3, 0x1.8ab6e3cf7afbdp-57},
    {0x1.6f61941e4def1p-2, -0x1.c63aae6f6e918p-56},
    {0x1.dac670561bb4fp-2, 0x1.a2b7f222f65e2p-56},
    {0x1.1e00babdefeb4p-1, -0x1.928df287a668fp-58},
    {0x1.4978fa3269ee1p-1, 0x1.2419a87f2a458p-56},
    {0x1.700a7c5784634p-1, -0x1.8c34d25aadef6p-56},
    {0x1.921fb54442d18p-1, 0x1.1a62633145c07p-55},
};

/* atan(y / x) for 0 <= y <= x, x > 0 */
static double atan_ratio(double y, double x) {
    static const double series[] = {-1.0 / 15, 1.0 / 13, -1.0 / 11, 1.0 / 9, -1.0 / 7, 1.0 / 5, -1.0 / 3};
    double ratio = y / x;
    int k = (int)(ratio * 8.0 + 0.5);
    double c = k / 8.0, t = k ? (ratio - c) / (1.0 + ratio * c) : ratio, z = t * t;
    return eighths[k][0] + (t + (t * z * HORNER(z, series) + eighths[k][1]));
}

double atan(double x) {
    double size = magnitude(x);
    if (size != size)
        return x;
    double value = size <= 1.0 ? atan_ratio(size, 1.0) : HALF_PI - (atan_ratio(1.0, size) - HALF_PI_LOW);
    return with_sign(value, x);
}

double atan2(double y, double x) {
    double up = magnitude(y), right = magnitude(x), angle = 0.0;
    if (x != x || y != y)
        return x + y;
    if (up == right)
        angle = up == 0 ? 0.0 : 0.5 * HALF_PI;
    else
        angle = up < right ? atan_ratio(up, right) : HALF_PI - atan_ratio(right, up);
    return with_sign(bits_of(x) >> 63 ? 2.0 * HALF_PI - angle : angle, y);
}

double asin(double x) {
    double size = magnitude(x);
    return size == 1.0 ? with_sign(HALF_PI, x) : atan(x / SQRT((1.0 - x) * (1.0 + x)));
}

double acos(double x) {
    return x == -1.0 ? 2.0 * HALF_PI : 2.0 * atan(SQRT((1.0 - x) / (1.0 + x)));
}

float sinf(float x) { return (float)sin(x); }
float cosf(float x) { return (float)cos(x); }
float tanf(float x) { return (float)tan(x); }
float asinf(float x) { return (float)asin(x); }
float acosf(float x) { return (float)acos(x); }
float atanf(float x) { return (float)atan(x); }
float atan2f(float y, float x) { return (float)atan2(y, x); }
