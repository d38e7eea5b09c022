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
    uint32_t subleaf;
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
    {"avx_vnni", 7, EAX, 4, AVX_STATE, 1},
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
        if (!__get_cpuid_count(feature->leaf, feature->subleaf, &word[EAX], &word[EBX], &word[ECX], &word[EDX]))
            return 0;
        return (word[feature->word] >> feature->bit & 1) && (saved_state() & feature->state) == feature->state;
    }
    return 0;
}

#elif defined(__aarch64__) || defined(__arm__) || defined(__riscv)

#include <sys/auxv.h>

/* A bit of AT_HWCAP (word 0) or AT_HWCAP2 (word 1), which the kernel sets; RISC-V sets one for each letter. */
static const struct feature {
    const char *flag;
    int word;
    int bit;
} features[] = {
#if defined(__aarch64__)
    {"fp", 0, 0},      {"asimd", 0, 1},    {"aes", 0, 3},      {"pmull", 0, 4},    {"sha1", 0, 5},
    {"sha2", 0, 6},    {"crc32", 0, 7},    {"atomics", 0, 8},  {"fphp", 0, 9},     {"asimdhp", 0, 10},
    {"asimdrdm", 0, 12}, {"lrcpc", 0, 15}, {"dcpop", 0, 16},   {"asimddp", 0, 20}, {"sve", 0, 22},
    {"asimdfhm", 0, 23}, {"sve2", 1, 1},   {"i8mm", 1, 13},    {"bf16", 1, 14},
#elif defined(__arm__)
    {"half", 0, 1},    {"thumb", 0, 2},    {"fastmult", 0, 4}, {"vfp", 0, 6},      {"edsp", 0, 7},
    {"neon", 0, 12},   {"vfpv3", 0, 13},   {"tls", 0, 15},     {"vfpv4", 0, 16},   {"idiva", 0, 17},
    {"idivt", 0, 18},  {"vfpd32", 0, 19},
#else
    {"i", 0, 'i' - 'a'}, {"m", 0, 'm' - 'a'}, {"a", 0, 'a' - 'a'}, {"f", 0, 'f' - 'a'},
    {"d", 0, 'd' - 'a'}, {"c", 0, 'c' - 'a'}, {"v", 0, 'v' - 'a'},
#endif
};

int edge_cpu_has(const char *flag) {
    const unsigned long words[] = {getauxval(16), getauxval(26)};
    for (size_t i = 0; i < sizeof features / sizeof features[0]; i++)
        if (strcmp(features[i].flag, flag) == 0)
            return words[features[i].word] >> features[i].bit & 1;
    return 0;
}

#else

int edge_cpu_has(const char *flag) {
    (void)flag;
    return 0;
}

#endif
