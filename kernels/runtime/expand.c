/* The decoders of edgeprune/lowering/coding.py. Nothing in the records is trusted: every length is checked. */
#include <string.h>

#include "program.h"

enum { COPY, NARROW, BITMAP, HUFFMAN, SHARED, CODEBOOK };
enum { HEAD = 6, ALIGNMENT = 64, MOST_STRIDE = 4, MOST_BITS = 32, LONGEST_CODE = 12, MOST_SYMBOLS = 1024, TABLE = 128 };

struct source {
    const uint8_t *at;
    size_t left;
};

struct words {
    uint8_t *at;
    size_t count;
    size_t size; /* bytes of one */
};

/* A queue of bits, the highest next. What is read beyond the source is zero, and `missing` counts its bytes. */
struct bits {
    struct source *source;
    uint64_t window;
    int filled;
    int missing;
};

struct codebook {
    uint16_t entries[1 << LONGEST_CODE]; /* see prefix_table */
    uint64_t values[MOST_SYMBOLS];
    size_t size; /* bytes of a word, 0 before one is read */
    int longest;
};

static const uint8_t *take(struct source *source, size_t bytes) {
    if (source->left < bytes)
        return NULL;
    const uint8_t *taken = source->at;
    source->at += bytes;
    source->left -= bytes;
    return taken;
}

static uint64_t load(const uint8_t *at, size_t size) {
    uint64_t value = 0;
    for (size_t i = 0; i < size; i++)
        value |= (uint64_t)at[i] << 8 * i;
    return value;
}

static inline void store(struct words words, size_t index, uint64_t value) {
    switch (words.size) {
    case 1: words.at[index] = (uint8_t)value; break;
    case 2: ((uint16_t *)words.at)[index] = (uint16_t)value; break;
    case 4: ((uint32_t *)words.at)[index] = (uint32_t)value; break;
    default: ((uint64_t *)words.at)[index] = value;
    }
}

/* At least 57 bits are there afterwards. */
static inline void fill(struct bits *bits) {
    struct source *source = bits->source;
    if (source->left >= 8) {
        uint64_t next;
        __builtin_memcpy(&next, source->at, 8);
        bits->window |= __builtin_bswap64(next) >> bits->filled;
        int bytes = (63 - bits->filled) / 8;
        source->at += bytes;
        source->left -= (size_t)bytes;
        bits->filled += 8 * bytes;
        return;
    }
    while (bits->filled <= 56) {
        uint64_t next = 0;
        if (bits->source->left)
            next = *take(bits->source, 1);
        else
            bits->missing++;
        bits->window |= next << (56 - bits->filled);
        bits->filled += 8;
    }
}

/* The next `count` bits, at most 32; `fill` comes first. */
static inline uint64_t peek(const struct bits *bits, int count) {
    return bits->window >> 1 >> (63 - count);
}

static inline void drop(struct bits *bits, int count) {
    bits->window <<= count;
    bits->filled -= count;
}

/* Gives back the bytes that were not used; fails where some were used that are not there. */
static int finish(struct bits *bits) {
    int unused = bits->filled / 8;
    if (bits->missing > unused)
        return 0;
    bits->source->at -= unused - bits->missing;
    bits->source->left += (size_t)(unused - bits->missing);
    return 1;
}

static int copy(struct source *source, struct words words) {
    const uint8_t *data = take(source, words.count * words.size);
    if (data)
        memcpy(words.at, data, words.count * words.size);
    return data != NULL;
}

static int narrow(struct source *source, struct words words) {
    const uint8_t *head = take(source, words.size + 1);
    if (!head || head[words.size] > MOST_BITS)
        return 0;
    uint64_t base = load(head, words.size);
    int width = head[words.size];
    struct bits bits = {source, 0, 0, 0};
    for (size_t i = 0; i < words.count; i++) {
        fill(&bits);
        store(words, i, base + peek(&bits, width));
        drop(&bits, width);
    }
    return finish(&bits);
}

static int bitmap(struct source *source, struct words words) {
    const uint8_t *map = take(source, (words.count + 7) / 8);
    if (!map)
        return 0;
    for (size_t i = 0; i < words.count; i++) {
        const uint8_t *word = NULL;
        if (map[i / 8] >> (7 - i % 8) & 1 && !(word = take(source, words.size)))
            return 0;
        store(words, i, word ? load(word, words.size) : 0);
    }
    return 1;
}

/* Fills `entries`, 2^longest of them: (symbol << 4 | bits of its code) of all codes, by the bits they begin with.
   Returns the number of symbols, 0 where the lengths are not those of a whole prefix code. */
static size_t prefix_table(const uint8_t *counts, int longest, uint16_t *entries) {
    size_t symbols = 0, place = 0, end = (size_t)1 << longest;
    for (int length = 1; length <= longest; length++) {
        for (uint64_t left = load(counts + 2 * (length - 1), 2); left; left--, symbols++) {
            size_t next = place + (end >> length);
            if (next > end || symbols == MOST_SYMBOLS)
                return 0;
            for (; place < next; place++)
                entries[place] = (uint16_t)(symbols << 4 | (size_t)length);
        }
    }
    return place == end ? symbols : 0;
}

/* A codebook of bytes as the length of each code, four bits a byte. */
static int read_table(struct source *source, struct codebook *book) {
    const uint8_t *table = take(source, TABLE);
    if (!table)
        return 0;
    uint8_t counts[2 * LONGEST_CODE];
    int symbols = 0;
    book->longest = 0;
    for (int length = 1; length <= LONGEST_CODE; length++) {
        int before = symbols;
        for (int byte = 0; byte < 2 * TABLE; byte++)
            if ((table[byte / 2] >> (byte % 2 ? 0 : 4) & 15) == length)
                book->values[symbols++] = (uint64_t)byte;
        counts[2 * length - 2] = (uint8_t)(symbols - before);
        counts[2 * length - 1] = (uint8_t)((symbols - before) >> 8);
        if (symbols > before)
            book->longest = length;
    }
    book->size = 1;
    return book->longest && prefix_table(counts, book->longest, book->entries);
}

static int read_codebook(struct source *source, size_t size, struct codebook *book) {
    const uint8_t *head = take(source, 1);
    if (!head || *head > LONGEST_CODE)
        return 0;
    if (*head == 0)
        return size == 1 && read_table(source, book);
    int longest = *head;
    const uint8_t *counts = take(source, 2 * (size_t)longest);
    size_t symbols = counts ? prefix_table(counts, longest, book->entries) : 0;
    const uint8_t *values = take(source, symbols * size);
    if (!symbols || !values)
        return 0;
    for (size_t i = 0; i < symbols; i++)
        book->values[i] = load(values + i * size, size);
    book->longest = longest;
    book->size = size;
    return 1;
}

static int huffman(struct source *source, struct words words, const struct codebook *book) {
    if (book->size != words.size)
        return 0;
    struct bits bits = {source, 0, 0, 0};
    for (size_t i = 0; i < words.count; i++) {
        fill(&bits);
        uint16_t entry = book->entries[peek(&bits, book->longest)];
        store(words, i, book->values[entry >> 4]);
        drop(&bits, entry & 15);
    }
    return finish(&bits);
}

/* Differences at a distance of `stride` words become the words again. */
static void sum_up(struct words words, size_t stride) {
    for (size_t i = stride; stride && i < words.count; i++) {
        const uint8_t *before = words.at + (i - stride) * words.size, *own = words.at + i * words.size;
        store(words, i, load(before, words.size) + load(own, words.size));
    }
}

static int own_huffman(struct source *source, struct words words) {
    struct codebook book;
    return read_codebook(source, words.size, &book) && huffman(source, words, &book);
}

static int decode(int coding, struct source *source, struct words words, struct codebook *shared) {
    switch (coding) {
    case COPY: return copy(source, words);
    case NARROW: return narrow(source, words);
    case BITMAP: return bitmap(source, words);
    case HUFFMAN: return own_huffman(source, words);
    case SHARED: return huffman(source, words, shared);
    case CODEBOOK: return words.count == 0 && read_codebook(source, words.size, shared);
    default: return 0;
    }
}

int edge_expand(const uint8_t *records, size_t bytes, uint8_t *memory, size_t room) {
    struct source source = {records, bytes};
    struct codebook shared;
    shared.size = 0;
    while (source.left) {
        const uint8_t *head = take(&source, HEAD);
        if (!head || head[0] >> 4 > 3 || head[1] > MOST_STRIDE)
            return 0;
        struct words words = {memory, (size_t)load(head + 2, 4), (size_t)1 << (head[0] >> 4)};
        if (words.count > room / words.size || !decode(head[0] & 15, &source, words, &shared))
            return 0;
        sum_up(words, head[1]);
        size_t used = (words.count * words.size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
        if (used > room)
            return 0;
        memory += used;
        room -= used;
    }
    return room == 0;
}
