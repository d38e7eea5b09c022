/* What a core without division and long multiplication calls instead: the names of GCC and those of Arm's ABI. */
#include <stdint.h>

#if defined(__arm__) && __ARM_ARCH_ISA_THUMB == 1
#define NAME(arm, name) __attribute__((used, alias(#name))) arm

/* Division by zero gives 0, as on cores that divide. */
static uint32_t divide(uint32_t value, uint32_t by, uint32_t *rest) {
    uint32_t quotient = 0, bit = 1;
    if (by == 0)
        bit = 0;
    for (; by < value && !(by >> 31) && bit; by <<= 1)
        bit <<= 1;
    for (; bit; bit >>= 1, by >>= 1)
        if (value >= by)
            value -= by, quotient |= bit;
    *rest = value;
    return quotient;
}

static uint32_t size_of(int32_t value) { return value < 0 ? 0u - (uint32_t)value : (uint32_t)value; }

/* Quotient in the low word, rest in the high one. */
static uint64_t both(uint32_t quotient, uint32_t rest) { return (uint64_t)rest << 32 | quotient; }

__attribute__((used)) uint64_t __aeabi_uidivmod(uint32_t value, uint32_t by) {
    uint32_t rest, quotient = divide(value, by, &rest);
    return both(quotient, rest);
}

__attribute__((used)) uint64_t __aeabi_idivmod(int32_t value, int32_t by) {
    uint32_t rest, quotient = divide(size_of(value), size_of(by), &rest);
    return both((value < 0) != (by < 0) ? 0u - quotient : quotient, value < 0 ? 0u - rest : rest);
}

__attribute__((used)) uint32_t __udivsi3(uint32_t value, uint32_t by) { return (uint32_t)__aeabi_uidivmod(value, by); }
__attribute__((used)) uint32_t __umodsi3(uint32_t value, uint32_t by) { return __aeabi_uidivmod(value, by) >> 32; }
__attribute__((used)) int32_t __divsi3(int32_t value, int32_t by) { return (int32_t)__aeabi_idivmod(value, by); }
__attribute__((used)) int32_t __modsi3(int32_t value, int32_t by) { return (int32_t)(__aeabi_idivmod(value, by) >> 32); }
uint32_t NAME(__aeabi_uidiv, __udivsi3)(uint32_t, uint32_t);
int32_t NAME(__aeabi_idiv, __divsi3)(int32_t, int32_t);

/* By halves of 16 bits; the barriers keep the compiler from seeing the long product that would call this again. */
__attribute__((used)) uint64_t __muldi3(uint64_t left, uint64_t right) {
    uint32_t a = (uint32_t)left, b = (uint32_t)right;
    uint32_t low = (a & 0xFFFF) * (b & 0xFFFF), first = (a >> 16) * (b & 0xFFFF);
    uint32_t second = (a & 0xFFFF) * (b >> 16), high = (a >> 16) * (b >> 16);
    __asm__("" : "+r"(first), "+r"(second), "+r"(high));
    first += low >> 16;
    second += first & 0xFFFF;
    high += (first >> 16) + (second >> 16) + a * (uint32_t)(right >> 32) + (uint32_t)(left >> 32) * b;
    return (uint64_t)high << 32 | second << 16 | (low & 0xFFFF);
}
uint64_t NAME(__aeabi_lmul, __muldi3)(uint64_t, uint64_t);

__attribute__((used)) uint64_t __ashldi3(uint64_t value, int32_t by) {
    uint32_t low = (uint32_t)value, high = (uint32_t)(value >> 32);
    if (by == 0)
        return value;
    return by >= 32 ? (uint64_t)(low << (by - 32)) << 32 : (uint64_t)(high << by | low >> (32 - by)) << 32 | low << by;
}

__attribute__((used)) uint64_t __lshrdi3(uint64_t value, int32_t by) {
    uint32_t low = (uint32_t)value, high = (uint32_t)(value >> 32);
    if (by == 0)
        return value;
    return by >= 32 ? high >> (by - 32) : (uint64_t)(high >> by) << 32 | low >> by | high << (32 - by);
}

__attribute__((used)) int64_t __ashrdi3(int64_t value, int32_t by) {
    uint32_t low = (uint32_t)value;
    int32_t high = (int32_t)(value >> 32);
    if (by == 0)
        return value;
    uint32_t moved = by >= 32 ? (uint32_t)(high >> (by - 32)) : low >> by | (uint32_t)high << (32 - by);
    uint32_t rest = (uint32_t)(by >= 32 ? high >> 31 : high >> by);
    return (int64_t)((uint64_t)rest << 32 | moved);
}
uint64_t NAME(__aeabi_llsl, __ashldi3)(uint64_t, int32_t);
uint64_t NAME(__aeabi_llsr, __lshrdi3)(uint64_t, int32_t);
int64_t NAME(__aeabi_lasr, __ashrdi3)(int64_t, int32_t);

__attribute__((used)) int32_t __clzsi2(uint32_t value) {
    int32_t zeros = value ? 0 : 1;
    for (int32_t step = 16; step; step >>= 1)
        if (!(value >> (32 - step)))
            zeros += step, value <<= step;
    return zeros;
}
#endif
