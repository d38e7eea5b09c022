/* edge-run: runs, times and verifies a compiled model on a board; prints one JSON object. */
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "model.h"

enum { STACK_BYTES = 1 << 20, MOST_THREADS = 1024 };

static const char usage[] =
    "usage: edge-run facts [--json]\n"
    "       edge-run bench --library FILE [--threads N] [--seconds S | --runs N] [--json]\n"
    "       edge-run run --library FILE [--threads N] --inputs FILE --outputs FILE [--reset-every N] [--json]\n"
    "       edge-run verify --library FILE [--threads N] --inputs FILE --expected FILE [--tolerance T] [--json]\n"
    "Files hold rows one after another, of each the ports in order, little-endian. What the model remembers goes from\n"
    "row to row; it is forgotten before the first row of each N.\n";

void edge_print_text(const char *text) {
    putchar('"');
    for (; *text; text++) {
        unsigned char letter = (unsigned char)*text;
        if (letter == '"' || letter == '\\')
            printf("\\%c", letter);
        else if (letter < ' ')
            printf("\\u%04x", letter);
        else
            putchar(letter);
    }
    putchar('"');
}

static double number(const char *name, const char *text, double least, double most) {
    char *end;
    double value = strtod(text, &end);
    if (end == text || *end || !(value >= least && value <= most))
        edge_give_up("%s %s: give a number from %g to %g", name, text, least, most);
    return value;
}

static void take(struct edge_asked *asked, const char *name, const char *value) {
    if (strcmp(name, "--library") == 0)
        asked->library = value;
    else if (strcmp(name, "--inputs") == 0)
        asked->inputs = value;
    else if (strcmp(name, "--outputs") == 0)
        asked->outputs = value;
    else if (strcmp(name, "--expected") == 0)
        asked->expected = value;
    else if (strcmp(name, "--threads") == 0)
        asked->threads = (int)number(name, value, 1, MOST_THREADS);
    else if (strcmp(name, "--seconds") == 0)
        asked->seconds = number(name, value, 0, 3600);
    else if (strcmp(name, "--runs") == 0)
        asked->runs = (int)number(name, value, 1, 100000);
    else if (strcmp(name, "--reset-every") == 0)
        asked->reset_every = (long)number(name, value, 1, 1e9);
    else if (strcmp(name, "--tolerance") == 0)
        asked->tolerance = number(name, value, 0, 1e9);
    else
        edge_give_up("there is no option %s", name);
}

static void parse(struct edge_asked *asked, int count, char **words) {
    for (int i = 2; i < count; i++) {
        if (strcmp(words[i], "--json") == 0)
            continue;
        if (i + 1 == count)
            edge_give_up("%s wants a value", words[i]);
        take(asked, words[i], words[i + 1]);
        i++;
    }
    if (!asked->library)
        edge_give_up("--library is missing");
}

static void give_threads_room(void) {
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, STACK_BYTES);
    pthread_setattr_default_np(&attributes);
}

int main(int count, char **words) {
    static const struct {
        const char *name;
        int (*command)(const struct edge_asked *asked);
    } commands[] = {{"bench", edge_bench}, {"run", edge_run_rows}, {"verify", edge_verify}};
    if (count > 1 && strcmp(words[1], "facts") == 0)
        return edge_facts();
    for (size_t i = 0; count > 1 && i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(words[1], commands[i].name) != 0)
            continue;
        struct edge_asked asked = {.threads = 1, .seconds = 1, .tolerance = 1e-4};
        parse(&asked, count, words);
        edge_pin(asked.threads, asked.cores, sizeof asked.cores);
        give_threads_room();
        return commands[i].command(&asked);
    }
    fputs(usage, stderr);
    return 2;
}
