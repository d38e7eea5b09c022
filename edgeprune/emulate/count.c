/* Counts the AArch64 instructions that an emulated program executes between its marks, `hint #0x70` and `hint #0x71`,
   and writes one figure a region, in order, to the file named by the argument out=FILE. One thread alone counts. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "qemu_plugin.h"

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

enum { MOST_REGIONS = 1 << 16 };

/* hint #n is 0xd503201f with n in bits 5 to 11. */
static const uint32_t begin_mark = 0xd503201f | 0x70 << 5, end_mark = 0xd503201f | 0x71 << 5;

static uint64_t executed, begun_at;
static uint64_t regions[MOST_REGIONS];
static size_t region_count;
static int inside;
static char path[4096];

static uint32_t word_of(const struct qemu_plugin_insn *instruction) {
    uint32_t word = 0;
    if (qemu_plugin_insn_size(instruction) == sizeof word)
        memcpy(&word, qemu_plugin_insn_data(instruction), sizeof word);
    return word;
}

/* A mark is counted after it was seen: the begin's own one is taken off. */
static void begin(unsigned int cpu, void *data) {
    (void)cpu, (void)data;
    inside = 1;
    begun_at = executed + 1;
}

static void end(unsigned int cpu, void *data) {
    (void)cpu, (void)data;
    if (inside && region_count < MOST_REGIONS)
        regions[region_count++] = executed - begun_at;
    inside = 0;
}

static int is_mark(uint32_t word) { return word == begin_mark || word == end_mark; }

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
    (void)id;
    size_t count = qemu_plugin_tb_n_insns(block), marks = 0;
    for (size_t i = 0; i < count; i++)
        marks += is_mark(word_of(qemu_plugin_tb_get_insn(block, i)));
    if (!marks) {
        qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, &executed, count);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, i);
        uint32_t word = word_of(instruction);
        if (is_mark(word))
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, word == begin_mark ? begin : end,
                                                   QEMU_PLUGIN_CB_NO_REGS, NULL);
        qemu_plugin_register_vcpu_insn_exec_inline(instruction, QEMU_PLUGIN_INLINE_ADD_U64, &executed, 1);
    }
}

static void write_regions(qemu_plugin_id_t id, void *data) {
    (void)id, (void)data;
    FILE *file = fopen(path, "w");
    if (!file)
        return;
    for (size_t i = 0; i < region_count; i++)
        fprintf(file, "%" PRIu64 "\n", regions[i]);
    fclose(file);
}

QEMU_PLUGIN_EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t *info, int count, char **arguments) {
    (void)info;
    for (int i = 0; i < count; i++)
        if (strncmp(arguments[i], "out=", 4) == 0)
            snprintf(path, sizeof path, "%s", arguments[i] + 4);
    if (!path[0])
        return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, write_regions, NULL);
    return 0;
}
