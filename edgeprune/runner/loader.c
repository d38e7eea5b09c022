#define _GNU_SOURCE
#include "loader.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "provided.h"

typedef ElfW(Ehdr) Header;
typedef ElfW(Phdr) Segment;
typedef ElfW(Dyn) Dynamic;
typedef ElfW(Sym) Symbol;

/* What a machine calls its relocations; RELATIVE adds the base, the others the address of a symbol. */
#if defined(__aarch64__)
enum { MACHINE = EM_AARCH64, RELATIVE = R_AARCH64_RELATIVE, WORD = R_AARCH64_ABS64 };
enum { GLOBAL = R_AARCH64_GLOB_DAT, SLOT = R_AARCH64_JUMP_SLOT };
#elif defined(__arm__)
enum { MACHINE = EM_ARM, RELATIVE = R_ARM_RELATIVE, WORD = R_ARM_ABS32 };
enum { GLOBAL = R_ARM_GLOB_DAT, SLOT = R_ARM_JUMP_SLOT };
#elif defined(__riscv)
enum { MACHINE = EM_RISCV, RELATIVE = R_RISCV_RELATIVE, WORD = R_RISCV_64 };
enum { GLOBAL = R_RISCV_64, SLOT = R_RISCV_JUMP_SLOT };
#elif defined(__x86_64__)
enum { MACHINE = EM_X86_64, RELATIVE = R_X86_64_RELATIVE, WORD = R_X86_64_64 };
enum { GLOBAL = R_X86_64_GLOB_DAT, SLOT = R_X86_64_JUMP_SLOT };
#endif

#if UINTPTR_MAX == UINT32_MAX
#define KIND(info) ELF32_R_TYPE(info)
#define NUMBER(info) ELF32_R_SYM(info)
#else
#define KIND(info) ELF64_R_TYPE(info)
#define NUMBER(info) ELF64_R_SYM(info)
#endif

enum { MOST_SEGMENTS = 32, MOST_TAGS = 36 };

struct edge_library {
    uint8_t *base;
    const Symbol *symbols;
    const char *names;
    uint32_t symbol_count;
};

static char message[256];

const char *edge_loader_error(void) { return message; }

static void *fail(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    return NULL;
}

static uintptr_t page_size(void) { return (uintptr_t)sysconf(_SC_PAGESIZE); }
static uintptr_t page_down(uintptr_t at) { return at / page_size() * page_size(); }
static uintptr_t page_up(uintptr_t at) { return page_down(at + page_size() - 1); }

static int protection(const Segment *segment) {
    return (segment->p_flags & PF_R ? PROT_READ : 0) | (segment->p_flags & PF_W ? PROT_WRITE : 0) |
           (segment->p_flags & PF_X ? PROT_EXEC : 0);
}

static int map_segment(int file, uint8_t *base, const Segment *segment) {
    uintptr_t start = page_down(segment->p_vaddr), file_end = segment->p_vaddr + segment->p_filesz;
    uintptr_t end = page_up(segment->p_vaddr + segment->p_memsz), mapped = page_up(file_end);
    off_t offset = (off_t)(segment->p_offset - (segment->p_vaddr - start));
    if (mapped > start && mmap(base + start, mapped - start, protection(segment), MAP_PRIVATE | MAP_FIXED, file,
                               offset) == MAP_FAILED)
        return 0;
    if (end > mapped && mmap(base + mapped, end - mapped, protection(segment),
                             MAP_PRIVATE | MAP_FIXED | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
        return 0;
    if (segment->p_memsz > segment->p_filesz && mapped > file_end)
        memset(base + file_end, 0, mapped - file_end);
    return 1;
}

static const Segment *find_segment(const Segment *segments, int count, uint32_t type) {
    for (int i = 0; i < count; i++)
        if (segments[i].p_type == type)
            return &segments[i];
    return NULL;
}

static uint8_t *map_all(int file, const Segment *segments, int count, off_t size) {
    uintptr_t span = 0;
    for (int i = 0; i < count; i++) {
        if (segments[i].p_type != PT_LOAD)
            continue;
        if (segments[i].p_offset + segments[i].p_filesz > (uint64_t)size || segments[i].p_filesz > segments[i].p_memsz)
            return fail("the library is cut off");
        if (segments[i].p_vaddr + segments[i].p_memsz > span)
            span = segments[i].p_vaddr + segments[i].p_memsz;
    }
    uint8_t *base = mmap(NULL, page_up(span), PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED)
        return fail("no memory for the library: %s", strerror(errno));
    for (int i = 0; i < count; i++)
        if (segments[i].p_type == PT_LOAD && !map_segment(file, base, &segments[i]))
            return fail("the library cannot be mapped: %s", strerror(errno));
    return base;
}

static int address_of(const struct edge_library *library, uint32_t number, uintptr_t *address) {
    const Symbol *symbol = &library->symbols[number];
    const char *name = library->names + symbol->st_name;
    if (symbol->st_shndx != SHN_UNDEF)
        *address = (uintptr_t)library->base + symbol->st_value;
    else
        *address = (uintptr_t)edge_provided(name);
    if (*address || symbol->st_info >> 4 == STB_WEAK)
        return 1;
    fail("the library wants %s, which this program does not have", name);
    return 0;
}

/* Applies one table; the addend is in the entry or, for the older kind, in its place. */
static int relocate(const struct edge_library *library, const uint8_t *table, size_t bytes, int with_addend) {
    size_t step = with_addend ? sizeof(ElfW(Rela)) : sizeof(ElfW(Rel));
    for (size_t at = 0; at + step <= bytes; at += step) {
        const ElfW(Rela) *entry = (const void *)(table + at);
        uintptr_t *place = (uintptr_t *)(library->base + entry->r_offset);
        uintptr_t addend = with_addend ? (uintptr_t)entry->r_addend : *place, symbol = 0;
        unsigned kind = KIND(entry->r_info);
        if (kind == RELATIVE) {
            *place = (uintptr_t)library->base + addend;
            continue;
        }
        if (kind != (unsigned)WORD && kind != (unsigned)GLOBAL && kind != (unsigned)SLOT) {
            fail("the library has a relocation of kind %u", kind);
            return 0;
        }
        if (!address_of(library, NUMBER(entry->r_info), &symbol))
            return 0;
        *place = symbol + (kind == (unsigned)WORD ? addend : 0);
    }
    return 1;
}

static int link_in_place(struct edge_library *library, const Dynamic *dynamic) {
    uintptr_t tag[MOST_TAGS] = {0};
    for (; dynamic->d_tag != DT_NULL; dynamic++)
        if (dynamic->d_tag > 0 && dynamic->d_tag < MOST_TAGS)
            tag[dynamic->d_tag] = dynamic->d_un.d_val;
    if (!tag[DT_SYMTAB] || !tag[DT_STRTAB] || !tag[DT_HASH] || tag[DT_INIT] || tag[DT_INIT_ARRAYSZ]) {
        fail("the library is not one of edgeprune's");
        return 0;
    }
    library->symbols = (const void *)(library->base + tag[DT_SYMTAB]);
    library->names = (const char *)library->base + tag[DT_STRTAB];
    library->symbol_count = ((const uint32_t *)(library->base + tag[DT_HASH]))[1];
    return relocate(library, library->base + tag[DT_RELA], tag[DT_RELASZ], 1) &&
           relocate(library, library->base + tag[DT_REL], tag[DT_RELSZ], 0) &&
           relocate(library, library->base + tag[DT_JMPREL], tag[DT_PLTRELSZ], tag[DT_PLTREL] == DT_RELA);
}

static struct edge_library *load_open(int file) {
    static struct edge_library library;
    Header header;
    Segment segments[MOST_SEGMENTS];
    struct stat status;
    if (fstat(file, &status) || pread(file, &header, sizeof header, 0) != sizeof header ||
        memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_type != ET_DYN)
        return fail("the file is no shared library");
    if (header.e_machine != MACHINE || header.e_ident[EI_CLASS] != (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32))
        return fail("the library is for another processor");
    size_t bytes = header.e_phnum * sizeof(Segment);
    if (header.e_phnum > MOST_SEGMENTS || pread(file, segments, bytes, (off_t)header.e_phoff) != (ssize_t)bytes)
        return fail("the library is cut off");
    const Segment *dynamic = find_segment(segments, header.e_phnum, PT_DYNAMIC);
    if (!dynamic)
        return fail("the file is no shared library");
    library.base = map_all(file, segments, header.e_phnum, status.st_size);
    if (!library.base || !link_in_place(&library, (const void *)(library.base + dynamic->p_vaddr)))
        return NULL;
    const Segment *settled = find_segment(segments, header.e_phnum, PT_GNU_RELRO);
    if (settled) {
        uintptr_t start = page_down(settled->p_vaddr), end = page_down(settled->p_vaddr + settled->p_memsz);
        if (end > start)
            mprotect(library.base + start, end - start, PROT_READ);
    }
    return &library;
}

struct edge_library *edge_load(const char *path) {
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0)
        return fail("%s: %s", path, strerror(errno));
    struct edge_library *library = load_open(file);
    close(file);
    return library;
}

void *edge_find(const struct edge_library *library, const char *name) {
    for (uint32_t i = 1; i < library->symbol_count; i++) {
        const Symbol *symbol = &library->symbols[i];
        if (symbol->st_shndx != SHN_UNDEF && strcmp(library->names + symbol->st_name, name) == 0)
            return library->base + symbol->st_value;
    }
    return NULL;
}
