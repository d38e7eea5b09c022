#include "program.h"

#include <string.h>

#if defined(__x86_64__)

#include <cpuid.h>

enum { EAX, EBX, ECX, EDX };

/* The register state the system must save: 2 = SSE, 4 = AVX, 0xe0 = AVX-512 masks and upper halves. */
enum { NO_STATE = 0, AVX_STATE = 0x06, AVX512_STATE = 0xe6 };

static const struct feature {
    const char *flag;
    uint32_t leaf;
    int word;
    int bit;
    uint64_t state;
} features[] = {
    {"sse3", 1, ECX, 0, NO_STATE},
    {"pni", 1, ECX, 0, NO_STATE},
    {"ssse3", 1, ECX, 9, NO_STATE},
    {"fma", 1, ECX, 12, AVX_STATE},
    {"cx16", 1, ECX, 13, NO_STATE},
    {"sse4_1", 1, ECX, 19, NO_STATE},
    {"sse4_2", 1, ECX, 20, NO_STATE},
    {"movbe", 1, ECX, 22, NO_STATE},
    {"popcnt", 1, ECX, 23, NO_STATE},
    {"avx", 1, ECX, 28, AVX_STATE},
    {"f16c", 1, ECX, 29, AVX_STATE},
    {"bmi1", 7, EBX, 3, NO_STATE},
    {"avx2", 7, EBX, 5, AVX_STATE},
    {"bmi2", 7, EBX, 8, NO_STATE},
    {"avx512f", 7, EBX, 16, AVX512_STATE},
    {"avx512dq", 7, EBX, 17, AVX512_STATE},
    {"avx512cd", 7, EBX, 28, AVX512_STATE},
    {"avx512bw", 7, EBX, 30, AVX512_STATE},
    {"avx512vl", 7, EBX, 31, AVX512_STATE},
    {"avx512_vnni", 7, ECX, 11, AVX512_STATE},
    {"lahf_lm", 0x80000001, ECX, 0, NO_STATE},
    {"abm", 0x80000001, ECX, 5, NO_STATE},
};

static uint64_t saved_state(void) {
    uint32_t word[4];
    if (!__get_cpuid(1, &word[EAX], &word[EBX], &word[ECX], &word[EDX]) || !(word[ECX] >> 27 & 1))
        return 0;
    uint32_t low, high;
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return (uint64_t)high << 32 | low;
}

int edge_cpu_has(const char *flag) {
    for (size_t i = 0; i < sizeof features / sizeof features[0]; i++) {
        const struct feature *feature = &features[i];
        if (strcmp(feature->flag, flag) != 0)
            continue;
        uint32_t word[4];
        if (!__get_cpuid_count(feature->leaf, 0, &word[EAX], &word[EBX], &word[ECX], &word[EDX]))
            return 0;
        return (word[feature->word] >> feature->bit & 1) && (saved_state() & feature->state) == feature->state;
    }
    return 0;
}

#else

int edge_cpu_has(const char *flag) {
    (void)flag;
    return 0;
}

#endif
