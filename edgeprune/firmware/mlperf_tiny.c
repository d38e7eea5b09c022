/* Obeys the runner, one command at a time. Nothing here waits for a byte. */
#include "mlperf_tiny.h"
#include "edge_model.h"
#include "long_arithmetic.h"
#include "uart.h"

enum { COMMAND = 512, WARMUP = 10, MOST_RUNS = 1000000000, DECIMALS = 1000000 };

static char command[COMMAND + 1];
static uint32_t command_bytes, wanted_bytes, loaded_bytes;
static uint8_t input[EDGE_MLPERF_BYTES];

static void say(const char *text) {
    while (*text)
        edge_uart_put((uint8_t)*text++);
}

/* With zeros in front up to `width` digits. */
static void say_number(uint64_t number, int width) {
    char digits[21];
    int place = 20;
    digits[place] = 0;
    do {
        uint32_t digit;
        number = edge_divide(number, 10, &digit);
        digits[--place] = (char)('0' + digit);
    } while (number || 20 - place < width);
    say(digits + place);
}

static void say_line(const char *before, uint32_t number, const char *after) {
    say(before);
    say_number(number, 1);
    say(after);
    say("\r\n");
}

static void timestamp(void) { say_line("m-lap-us-", edge_mlperf_microseconds(), ""); }

/* mantissa * 2^exponent in six decimals, rounded half up; what is too large for that is the largest that is not. */
static void say_real(uint64_t mantissa, int exponent, int negative) {
    for (; mantissa >> 44; exponent++)
        mantissa >>= 1;
    uint64_t scaled = edge_times(mantissa, DECIMALS);
    for (; exponent > 0 && !(scaled >> 63); exponent--)
        scaled <<= 1;
    if (exponent > 0)
        scaled = UINT64_MAX;
    for (; exponent < -1 && scaled; exponent++)
        scaled >>= 1;
    if (exponent < 0)
        scaled = (scaled >> 1) + (scaled & 1);
    uint32_t decimals;
    uint64_t whole = edge_divide(scaled, DECIMALS, &decimals);
    say(negative && scaled ? "-" : "");
    say_number(whole, 1);
    say(".");
    say_number(decimals, 6);
}

/* The bits of a float, times `factor`. */
static void say_float(uint32_t bits, uint32_t factor, int negative) {
    int exponent = (int)(bits >> 23 & 0xFF);
    uint32_t mantissa = bits & 0x7FFFFF;
    negative ^= (int)(bits >> 31);
    if (exponent == 0xFF)
        say(mantissa ? "nan" : negative ? "-inf" : "inf");
    else
        say_real(edge_times(exponent ? mantissa | 0x800000 : mantissa, factor), (exponent ? exponent : 1) - 150, negative);
}

static uint32_t float_bits(float value) {
    union { float real; uint32_t bits; } both = {.real = value};
    return both.bits;
}

/* Of a whole number, its low 32 bits. */
static void say_value(const struct edge_tensor *tensor, uint32_t bytes, const uint8_t *place) {
    uint32_t bits = 0;
    for (uint32_t i = 0; i < bytes && i < 4; i++)
        bits |= (uint32_t)place[i] << 8 * i;
    if (tensor->dtype[0] == 'f') {
        say_float(bits, 1, 0);
        return;
    }
    if (bytes < 4 && tensor->dtype[0] == 'i' && bits >> (8 * bytes - 1))
        bits |= ~0u << 8 * bytes;
    int32_t whole = (int32_t)(bits - (uint32_t)tensor->zero);
    uint32_t size = whole < 0 ? 0u - (uint32_t)whole : (uint32_t)whole;
    if (tensor->scale != 0)
        say_float(float_bits(tensor->scale), size, whole < 0);
    else
        say_real(size, 0, whole < 0);
}

static void results(void) {
    const struct edge_tensor *tensor = edge_model.outputs;
    uint32_t count = 1, rest;
    for (int32_t axis = 0; axis < tensor->rank; axis++)
        count = (uint32_t)edge_times(count, (uint32_t)tensor->shape[axis]);
    uint32_t bytes = (uint32_t)edge_divide(tensor->bytes, count, &rest);
    const uint8_t *place = edge_arena + tensor->offset;
    say("m-results-[");
    for (uint32_t i = 0; i < count; i++, place += bytes) {
        say(i ? "," : "");
        say_value(tensor, bytes, place);
    }
    say("]\r\n");
}

/* A run may leave something else where the input was. */
static void infer_once(void) {
    const uint8_t *from = input;
    for (int32_t i = 0; i < edge_model.input_count; i++) {
        uint8_t *to = edge_arena + edge_model.inputs[i].offset;
        for (uint32_t left = edge_model.inputs[i].bytes; left; left--)
            *to++ = *from++ ^ EDGE_MLPERF_FLIP;
    }
    edge_mlperf_infer();
}

static void infer(uint32_t runs, uint32_t warmup) {
    say_line("m-warmup-start-", warmup, "");
    while (warmup--)
        infer_once();
    say("m-warmup-done\r\n");
    say_line("m-infer-start-", runs, "");
    timestamp();
    while (runs--)
        infer_once();
    timestamp();
    say("m-infer-done\r\n");
    results();
}

/* The next word of the command from *at on, ended by 0; the command is split at spaces, once. */
static char *word(char **at) {
    char *start = *at;
    while (*start == ' ')
        start++;
    char *end = start;
    while (*end && *end != ' ')
        end++;
    *at = *end ? end + 1 : end;
    *end = 0;
    return start;
}

static int same(const char *a, const char *b) {
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

/* The decimal number `text`, or -1 where it is none or above MOST_RUNS. */
static int32_t number(const char *text) {
    uint32_t value = 0;
    if (!*text)
        return -1;
    for (; *text; text++) {
        if (*text < '0' || *text > '9')
            return -1;
        value = (value << 3) + (value << 1) + (uint32_t)(*text - '0');
        if (value > MOST_RUNS)
            return -1;
    }
    return (int32_t)value;
}

static int hex_digit(char letter) {
    if (letter >= '0' && letter <= '9')
        return letter - '0';
    letter |= 0x20;
    return letter >= 'a' && letter <= 'f' ? letter - 'a' + 10 : -1;
}

static void obey_infer(char *rest) {
    char *runs = word(&rest), *warmup = word(&rest);
    int32_t wanted_runs = *runs ? number(runs) : 1, wanted_warmup = *warmup ? number(warmup) : WARMUP;
    if (wanted_runs < 1 || wanted_warmup < 0)
        say("e-[infer wants a number of runs from 1 and of warmups from 0]\r\n");
    else if (loaded_bytes != wanted_bytes)
        say_line("e-[the input lacks bytes: ", wanted_bytes - loaded_bytes, "]");
    else
        infer((uint32_t)wanted_runs, (uint32_t)wanted_warmup);
}

static void obey_load(const char *bytes) {
    if (number(bytes) != EDGE_MLPERF_BYTES) {
        say_line("e-[the input of this model is of bytes: ", EDGE_MLPERF_BYTES, "]");
        return;
    }
    wanted_bytes = EDGE_MLPERF_BYTES;
    loaded_bytes = 0;
    say_line("m-[Expecting ", wanted_bytes, " bytes]");
}

static void obey_print(void) {
    static const char digits[] = "0123456789abcdef";
    for (uint32_t i = 0; i < loaded_bytes; i++) {
        say(i & 7 ? "-" : "m-buffer-");
        edge_uart_put((uint8_t)digits[input[i] >> 4]);
        edge_uart_put((uint8_t)digits[input[i] & 15]);
        if ((i & 7) == 7 || i + 1 == loaded_bytes)
            say("\r\n");
    }
}

/* What comes after the last byte that was wanted is left out. */
static void obey_bytes(const char *text) {
    for (; *text && loaded_bytes < wanted_bytes; text += 2) {
        int high = hex_digit(text[0]), low = high < 0 ? -1 : hex_digit(text[1]);
        if (low < 0) {
            say("e-[db wants two hexadecimal digits a byte]\r\n");
            return;
        }
        input[loaded_bytes++] = (uint8_t)(high << 4 | low);
        if (loaded_bytes == wanted_bytes)
            say("m-load-done\r\n");
    }
}

static void obey_db(char *rest) {
    char *what = word(&rest);
    if (same(what, "load"))
        obey_load(word(&rest));
    else if (same(what, "print"))
        obey_print();
    else if (!*what)
        say("e-[db wants load, print or bytes]\r\n");
    else if (!wanted_bytes)
        say("e-[db load comes before bytes]\r\n");
    else
        obey_bytes(what);
}

static void obey_unknown(const char *what) {
    say("e-[Unknown command: ");
    for (; *what; what++)
        edge_uart_put((uint8_t)(*what > ' ' && *what < 127 ? *what : '?'));
    say("]\r\n");
}

static void obey(void) {
    char *rest = command, *what = word(&rest);
    if (same(what, "name"))
        say("m-name-dut-[edgeprune]\r\n");
    else if (same(what, "timestamp"))
        timestamp();
    else if (same(what, "profile"))
        say("m-profile-[ULPMark for tinyML Firmware V0.0.1]\r\nm-model-[" EDGE_MLPERF_MODEL "]\r\n");
    else if (same(what, "help"))
        say("name, timestamp, profile, db load BYTES, db HH.., db print, infer N [W], results; each ends in a %\r\n");
    else if (same(what, "db"))
        obey_db(rest);
    else if (same(what, "infer"))
        obey_infer(rest);
    else if (same(what, "results"))
        results();
    else
        obey_unknown(what);
}

void edge_mlperf_start(void) {
    command_bytes = wanted_bytes = loaded_bytes = 0;
    say("m-timestamp-mode-performance\r\n");
    timestamp();
    say("m-init-done\r\nm-ready\r\n");
}

void edge_mlperf_take(uint8_t byte) {
    if (byte != '%') {
        if (byte == '\r' || byte == '\n')
            byte = ' ';
        if (command_bytes <= COMMAND)
            command[command_bytes++] = (char)byte;
        return;
    }
    int whole = command_bytes <= COMMAND;
    command[whole ? command_bytes : 0] = 0;
    command_bytes = 0;
    if (whole)
        obey();
    else
        say("e-[the command is too long]\r\n");
    say("m-ready\r\n");
}
