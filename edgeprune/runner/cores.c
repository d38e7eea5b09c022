#define _GNU_SOURCE
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "commands.h"

static long read_number(const char *format, int core) {
    char path[128];
    long value = -1;
    snprintf(path, sizeof path, format, core);
    FILE *file = fopen(path, "r");
    if (file) {
        if (fscanf(file, "%ld", &value) != 1)
            value = -1;
        fclose(file);
    }
    return value;
}

/* How fast a core is beside others: what the scheduler assumes, else its highest clock, else the same for all. */
static long speed(int core) {
    long capacity = read_number("/sys/devices/system/cpu/cpu%d/cpu_capacity", core);
    return capacity > 0 ? capacity : read_number("/sys/devices/system/cpu/cpu%d/cpufreq/cpuinfo_max_freq", core);
}

static void list(const cpu_set_t *chosen, char *text, size_t room) {
    size_t used = 0;
    text[0] = 0;
    for (int core = 0; core < CPU_SETSIZE && used + 8 < room; core++)
        if (CPU_ISSET(core, chosen))
            used += (size_t)snprintf(text + used, room - used, "%s%d", used ? "," : "", core);
}

void edge_pin(int threads, char *cores, size_t room) {
    cpu_set_t allowed, chosen;
    cores[0] = 0;
    if (sched_getaffinity(0, sizeof allowed, &allowed))
        return;
    CPU_ZERO(&chosen);
    while (CPU_COUNT(&chosen) < threads && CPU_COUNT(&chosen) < CPU_COUNT(&allowed)) {
        long best = -2;
        for (int core = 0; core < CPU_SETSIZE; core++)
            if (CPU_ISSET(core, &allowed) && !CPU_ISSET(core, &chosen) && speed(core) > best)
                best = speed(core);
        for (int core = 0; core < CPU_SETSIZE; core++)
            if (CPU_ISSET(core, &allowed) && !CPU_ISSET(core, &chosen) && speed(core) == best)
                CPU_SET(core, &chosen);
    }
    sched_setaffinity(0, sizeof chosen, &chosen);
    list(&chosen, cores, room);
}
