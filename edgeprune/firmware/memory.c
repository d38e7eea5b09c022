/* The few functions that compilers call on their own. */
#include <stddef.h>
#include <stdint.h>

typedef uint32_t __attribute__((may_alias)) word;

static inline int aligned(const void *a, const void *b) { return (((uintptr_t)a | (uintptr_t)b) & 3) == 0; }

__attribute__((used)) void *memcpy(void *restrict to, const void *restrict from, size_t count) {
    uint8_t *out = to;
    const uint8_t *in = from;
    if (aligned(out, in)) {
        for (; count >= 16; count -= 16, out += 16, in += 16) {
            word a = ((const word *)in)[0], b = ((const word *)in)[1], c = ((const word *)in)[2], d = ((const word *)in)[3];
            ((word *)out)[0] = a, ((word *)out)[1] = b, ((word *)out)[2] = c, ((word *)out)[3] = d;
        }
        for (; count >= 4; count -= 4, out += 4, in += 4)
            *(word *)out = *(const word *)in;
    }
    for (; count; count--)
        *out++ = *in++;
    return to;
}

__attribute__((used)) void *memmove(void *to, const void *from, size_t count) {
    uint8_t *out = to;
    const uint8_t *in = from;
    if (out <= in || out >= in + count)
        return memcpy(to, from, count);
    for (; count; count--)
        out[count - 1] = in[count - 1];
    return to;
}

__attribute__((used)) void *memset(void *to, int value, size_t count) {
    uint8_t *out = to;
    if (aligned(out, out)) {
        word all = (uint8_t)value * 0x01010101u;
        for (; count >= 16; count -= 16, out += 16)
            ((word *)out)[0] = all, ((word *)out)[1] = all, ((word *)out)[2] = all, ((word *)out)[3] = all;
        for (; count >= 4; count -= 4, out += 4)
            *(word *)out = all;
    }
    for (; count; count--)
        *out++ = (uint8_t)value;
    return to;
}

#ifdef __arm__
/* The names of the run-time ABI for Arm; its memset has value and count the other way round. */
#define SAME(name) __attribute__((alias(#name), used))
void __aeabi_memcpy(void *, const void *, size_t) SAME(memcpy);
void __aeabi_memcpy4(void *, const void *, size_t) SAME(memcpy);
void __aeabi_memcpy8(void *, const void *, size_t) SAME(memcpy);
void __aeabi_memmove(void *, const void *, size_t) SAME(memmove);
void __aeabi_memmove4(void *, const void *, size_t) SAME(memmove);
void __aeabi_memmove8(void *, const void *, size_t) SAME(memmove);
__attribute__((used)) void __aeabi_memset(void *to, size_t count, int value) { memset(to, value, count); }
void __aeabi_memset4(void *, size_t, int) SAME(__aeabi_memset);
void __aeabi_memset8(void *, size_t, int) SAME(__aeabi_memset);
__attribute__((used)) void __aeabi_memclr(void *to, size_t count) { memset(to, 0, count); }
void __aeabi_memclr4(void *, size_t) SAME(__aeabi_memclr);
void __aeabi_memclr8(void *, size_t) SAME(__aeabi_memclr);
#endif
