/* Counts the instructions that an emulated program executes between its marks, `hint #0x70` and `hint #0x71` (those of
   AArch64, or of Thumb with marks=thumb), and writes one figure a region, in order, to the file named by the argument
   out=FILE. With blocks=FILE it also writes which runs of instructions it executed there, and how often: a line
   `region` for each region followed by lines `COUNT BLOCK`, and behind them all a line `block BLOCK ADDRESS WORD...`
   (hexadecimal) for each block. One thread alone counts. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "qemu_plugin.h"

QEMU_PLUGIN_EXPORT int qemu_plugin_version = QEMU_PLUGIN_VERSION;

enum { MOST_REGIONS = 1 << 16 };

/* hint #n is 0xd503201f with n in bits 5 to 11; hint.w #n of Thumb is the halfword 0xf3af, then 0x8000 with n added. */
static uint32_t begin_mark = 0xd503201f | 0x70 << 5, end_mark = 0xd503201f | 0x71 << 5;
static const uint32_t thumb_begin_mark = 0x8070f3af, thumb_end_mark = 0x8071f3af;

/* Instructions that are executed one after the other: what was translated at once, as far as there is no mark in it. */
struct block {
    struct block *next;
    uint64_t executed, before, used;
    uint64_t address;
    size_t index, size;
    uint32_t words[];
};

static uint64_t executed, begun_at;
static uint64_t regions[MOST_REGIONS];
static size_t region_count, block_count;
static int inside;
static char path[4096], blocks_path[4096];
static struct block *blocks;
static FILE *blocks_file;

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
    for (struct block *block = blocks; block; block = block->next)
        block->before = block->executed;
}

static void end(unsigned int cpu, void *data) {
    (void)cpu, (void)data;
    if (inside && region_count < MOST_REGIONS) {
        regions[region_count++] = executed - begun_at;
        if (blocks_file)
            fputs("region\n", blocks_file);
        for (struct block *block = blocks; block; block = block->next) {
            uint64_t times = block->executed - block->before;
            if (times)
                fprintf(blocks_file, "%" PRIu64 " %zu\n", times, block->index);
            block->used += times;
        }
    }
    inside = 0;
}

static int is_mark(uint32_t word) { return word == begin_mark || word == end_mark; }

/* The block of `size` instructions from number `first` on; without memory, none. */
static struct block *add_block(const struct qemu_plugin_tb *translated, size_t first, size_t size) {
    struct block *block = calloc(1, sizeof *block + size * sizeof block->words[0]);
    if (!block)
        return NULL;
    for (size_t i = 0; i < size; i++)
        block->words[i] = word_of(qemu_plugin_tb_get_insn(translated, first + i));
    block->address = qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(translated, first));
    block->size = size;
    block->index = block_count++;
    block->next = blocks;
    return blocks = block;
}

/* What lies between marks from number `first` on: counted by its first instruction. */
static void add_part(struct qemu_plugin_tb *translated, size_t first, size_t end) {
    struct block *part = blocks_file && end > first ? add_block(translated, first, end - first) : NULL;
    if (part)
        qemu_plugin_register_vcpu_insn_exec_inline(qemu_plugin_tb_get_insn(translated, first),
                                                   QEMU_PLUGIN_INLINE_ADD_U64, &part->executed, 1);
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *block) {
    (void)id;
    size_t count = qemu_plugin_tb_n_insns(block), marks = 0, part = 0;
    for (size_t i = 0; i < count; i++)
        marks += is_mark(word_of(qemu_plugin_tb_get_insn(block, i)));
    if (!marks) {
        qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, &executed, count);
        struct block *whole = blocks_file ? add_block(block, 0, count) : NULL;
        if (whole)
            qemu_plugin_register_vcpu_tb_exec_inline(block, QEMU_PLUGIN_INLINE_ADD_U64, &whole->executed, 1);
        return;
    }
    for (size_t i = 0; i < count; i++) {
        struct qemu_plugin_insn *instruction = qemu_plugin_tb_get_insn(block, i);
        uint32_t word = word_of(instruction);
        if (is_mark(word)) {
            add_part(block, part, i);
            part = i + 1;
            qemu_plugin_register_vcpu_insn_exec_cb(instruction, word == begin_mark ? begin : end,
                                                   QEMU_PLUGIN_CB_NO_REGS, NULL);
        }
        qemu_plugin_register_vcpu_insn_exec_inline(instruction, QEMU_PLUGIN_INLINE_ADD_U64, &executed, 1);
    }
    add_part(block, part, count);
}

static void write_blocks(void) {
    for (const struct block *block = blocks; block; block = block->next)
        if (block->used) {
            fprintf(blocks_file, "block %zu %" PRIx64, block->index, block->address);
            for (size_t i = 0; i < block->size; i++)
                fprintf(blocks_file, " %08" PRIx32, block->words[i]);
            fputc('\n', blocks_file);
        }
    fclose(blocks_file);
}

static void write_all(qemu_plugin_id_t id, void *data) {
    (void)id, (void)data;
    if (blocks_file)
        write_blocks();
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
        else if (strcmp(arguments[i], "marks=thumb") == 0)
            begin_mark = thumb_begin_mark, end_mark = thumb_end_mark;
        else if (strncmp(arguments[i], "blocks=", 7) == 0)
            snprintf(blocks_path, sizeof blocks_path, "%s", arguments[i] + 7);
    if (!path[0] || (blocks_path[0] && !(blocks_file = fopen(blocks_path, "w"))))
        return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, write_all, NULL);
    return 0;
}
