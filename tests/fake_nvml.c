/* A small libnvidia-ml.so.1. What it answers stands in the file named by FAKE_NVML, read at each
 * call: lines "key value". A value "!15" is an error code in place of an answer. Like the real one
 * it answers nothing between shutdown and init, or once the file says "asleep" until it is started
 * again. With -DOLD it is a driver that lacks the newer functions. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { OK = 0, UNINITIALIZED = 1, NOT_SUPPORTED = 3, TOO_SMALL = 7 };

typedef struct { unsigned index; } Device;
typedef struct { unsigned gpu, memory; } Utilization;
typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned pid; unsigned long long used; unsigned gi, ci; } Process;
typedef struct { unsigned pid; unsigned long long at; unsigned sm, mem, enc, dec; } Sample;

static Device devices[8] = {{0}, {1}, {2}, {3}, {4}, {5}, {6}, {7}};
static int open_count = 0;
static char slept[64] = "";

/* 1 and the value, or 0 where the file has no such line. */
static int lookup(const char *key, char *value, size_t size) {
    FILE *file = fopen(getenv("FAKE_NVML"), "r");
    char line[512];
    int found = 0;
    while (file && !found && fgets(line, sizeof line, file)) {
        size_t length = strlen(key);
        line[strcspn(line, "\n")] = 0;
        if (strncmp(line, key, length) == 0 && line[length] == ' ') {
            snprintf(value, size, "%s", line + length + 1);
            found = 1;
        }
    }
    if (file) fclose(file);
    return found;
}

/* "what" of one card: OK and its value, or an error code. */
static int answer(Device *device, const char *what, char *value, size_t size) {
    char key[64], sleep[64] = "";
    lookup("asleep", sleep, sizeof sleep);
    if (!open_count || strcmp(sleep, slept)) return UNINITIALIZED;
    if (device) snprintf(key, sizeof key, "%u.%s", device->index, what);
    else snprintf(key, sizeof key, "%s", what);
    if (!lookup(key, value, size)) return NOT_SUPPORTED;
    return value[0] == '!' ? atoi(value + 1) : OK;
}

static void count(const char *what) {
    char path[512];
    FILE *file;
    snprintf(path, sizeof path, "%s.calls", getenv("FAKE_NVML"));
    if ((file = fopen(path, "a"))) {
        fprintf(file, "%s\n", what);
        fclose(file);
    }
}

int nvmlInitWithFlags(unsigned flags) {
    char value[64];
    (void)flags;
    count("init");
    if (lookup("init", value, sizeof value)) return atoi(value + 1);
    slept[0] = 0;
    lookup("asleep", slept, sizeof slept);
    open_count++;
    return OK;
}

int nvmlShutdown(void) {
    count("shutdown");
    if (!open_count) return UNINITIALIZED;
    open_count--;
    return OK;
}

const char *nvmlErrorString(int code) { (void)code; return "an error"; }

int nvmlDeviceGetCount_v2(unsigned *number) {
    char value[64];
    int code = answer(NULL, "count", value, sizeof value);
    if (code == OK) *number = (unsigned)atoi(value);
    return code;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned index, Device **device) {
    char value[64];
    int code = answer(&devices[index], "handle", value, sizeof value);
    *device = &devices[index];
    return code == NOT_SUPPORTED ? OK : code;
}

static int text(Device *device, const char *what, char *out, unsigned size) {
    return answer(device, what, out, size);
}

int nvmlDeviceGetName(Device *device, char *out, unsigned size) { return text(device, "name", out, size); }
int nvmlDeviceGetUUID(Device *device, char *out, unsigned size) { return text(device, "uuid", out, size); }

int nvmlDeviceGetUtilizationRates(Device *device, Utilization *rates) {
    char value[64];
    int code = answer(device, "utilization", value, sizeof value);
    if (code == OK) *rates = (Utilization){(unsigned)atoi(value), 0};
    return code;
}

int nvmlDeviceGetMemoryInfo(Device *device, Memory *memory) {
    char value[64];
    int code = answer(device, "memory", value, sizeof value); /* total used */
    if (code == OK) {
        sscanf(value, "%llu %llu", &memory->total, &memory->used);
        memory->free = memory->total - memory->used;
    }
    return code;
}

int nvmlDeviceGetMigMode(Device *device, unsigned *current, unsigned *pending) {
    char value[64];
    int code = answer(device, "mig", value, sizeof value);
    if (code == OK) *current = *pending = (unsigned)atoi(value);
    return code;
}

/* "123 456": process ids. */
static int processes(Device *device, const char *what, unsigned *number, Process *out) {
    char value[256], *rest = value, *word;
    unsigned found = 0, room = *number;
    int code = answer(device, what, value, sizeof value);
    if (code != OK) return code;
    while ((word = strtok_r(rest, " ", &rest))) {
        if (out && found < room) out[found] = (Process){(unsigned)atoi(word), 1, 0, 0};
        found++;
    }
    *number = found;
    return found > room ? TOO_SMALL : OK;
}

#ifdef OLD
#define COMPUTE nvmlDeviceGetComputeRunningProcesses_v2
#define GRAPHICS nvmlDeviceGetGraphicsRunningProcesses_v2
#else
#define COMPUTE nvmlDeviceGetComputeRunningProcesses_v3
#define GRAPHICS nvmlDeviceGetGraphicsRunningProcesses_v3
#endif

int COMPUTE(Device *device, unsigned *number, Process *out) {
    return processes(device, "compute", number, out);
}
int GRAPHICS(Device *device, unsigned *number, Process *out) {
    return processes(device, "graphics", number, out);
}

#ifndef NO_SAMPLES
/* "123:40@7 456:3@8": process id, percent, time. Only what is newer than asked; none is NOT_FOUND. */
int nvmlDeviceGetProcessUtilization(Device *device, Sample *out, unsigned *number, unsigned long long since) {
    char value[256], *rest = value, *word;
    unsigned found = 0, room = *number;
    int code = answer(device, "samples", value, sizeof value);
    if (code != OK) return code;
    while ((word = strtok_r(rest, " ", &rest))) {
        Sample sample = {0};
        sscanf(word, "%u:%u@%llu", &sample.pid, &sample.sm, &sample.at);
        if (sample.at <= since) continue;
        if (out && found < room) out[found] = sample;
        found++;
    }
    *number = found;
    if (!found) return 6;
    return found > room ? TOO_SMALL : OK;
}
#endif
