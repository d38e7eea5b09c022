#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/sysinfo.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "commands.h"

/* Arm's cores by the number in /proc/cpuinfo. */
static const struct {
    unsigned part;
    const char *name;
} parts[] = {
    {0xc05, "cortex-a5"},   {0xc07, "cortex-a7"},   {0xc08, "cortex-a8"},  {0xc09, "cortex-a9"},
    {0xc0f, "cortex-a15"},  {0xd03, "cortex-a53"},  {0xd04, "cortex-a35"}, {0xd05, "cortex-a55"},
    {0xd07, "cortex-a57"},  {0xd08, "cortex-a72"},  {0xd09, "cortex-a73"}, {0xd0a, "cortex-a75"},
    {0xd0b, "cortex-a76"},  {0xd0c, "neoverse-n1"}, {0xd0d, "cortex-a77"}, {0xd40, "neoverse-v1"},
    {0xd41, "cortex-a78"},  {0xd42, "cortex-a78ae"}, {0xd44, "cortex-x1"}, {0xd46, "cortex-a510"},
    {0xd47, "cortex-a710"}, {0xd48, "cortex-x2"},   {0xd49, "neoverse-n2"}, {0xd4d, "cortex-a715"},
};

/* The first line of a file without its end; empty where there is none. */
static const char *line_of(const char *path, char *line, int room) {
    FILE *file = fopen(path, "r");
    line[0] = 0;
    if (file) {
        if (!fgets(line, room, file))
            line[0] = 0;
        fclose(file);
    }
    line[strcspn(line, "\r\n")] = 0;
    return line;
}

static const char *value_of(char *line) {
    char *value = strchr(line, ':');
    if (!value)
        return "";
    value += 1 + strspn(value + 1, " \t");
    value[strcspn(value, "\r\n")] = 0;
    return value;
}

static const char *core_name(const char *part) {
    unsigned number = (unsigned)strtoul(part, NULL, 0);
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++)
        if (parts[i].part == number)
            return parts[i].name;
    return part;
}

static int starts(const char *line, const char *word) { return strncmp(line, word, strlen(word)) == 0; }

static void print_cpu(void) {
    char line[4096], features[4096] = "";
    FILE *file = fopen("/proc/cpuinfo", "r");
    int count = 0;
    printf(", \"cores\": [");
    while (file && fgets(line, sizeof line, file)) {
        if (starts(line, "CPU part") || starts(line, "model name") || starts(line, "uarch")) {
            printf(count++ ? ", " : "");
            edge_print_text(core_name(value_of(line)));
        } else if (!features[0] && (starts(line, "Features") || starts(line, "flags") || starts(line, "isa"))) {
            snprintf(features, sizeof features, "%s", value_of(line));
        }
    }
    if (file)
        fclose(file);
    printf("], \"features\": ");
    edge_print_text(features);
}

static void print_number(const char *name, const char *path, double scale) {
    char line[64];
    printf(", \"%s\": ", name);
    if (*line_of(path, line, sizeof line))
        printf("%g", strtod(line, NULL) * scale);
    else
        printf("null");
}

int edge_facts(void) {
    char line[64];
    struct utsname system;
    struct sysinfo memory;
    struct statvfs disk;
    uname(&system);
    printf("{\"machine\": ");
    edge_print_text(system.machine);
    printf(", \"kernel\": ");
    edge_print_text(system.release);
    print_cpu();
    printf(", \"governor\": ");
    edge_print_text(line_of("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", line, sizeof line));
    print_number("frequency_mhz", "/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq", 1e-3);
    print_number("top_frequency_mhz", "/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq", 1e-3);
    print_number("temperature_c", "/sys/class/thermal/thermal_zone0/temp", 1e-3);
    if (sysinfo(&memory) == 0)
        printf(", \"memory_bytes\": %llu, \"memory_free_bytes\": %llu",
               (unsigned long long)memory.totalram * memory.mem_unit,
               (unsigned long long)(memory.freeram + memory.bufferram) * memory.mem_unit);
    if (statvfs(".", &disk) == 0)
        printf(", \"disk_free_bytes\": %llu", (unsigned long long)disk.f_bavail * disk.f_frsize);
    printf("}\n");
    return 0;
}
