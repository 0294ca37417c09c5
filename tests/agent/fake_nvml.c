/* A GPU driver's management library for tests: as many GPUs as the file $FAKE_NVML_STATE has lines, and on each line
   what asking for that GPU's utilisation gives: a percentage, or a name of an error. It is read at every call. */

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_GPUS 16
enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, GPU_IS_LOST = 15, UNKNOWN = 999 };

struct utilization { unsigned int gpu, memory; };

static int read_state(char lines[MAX_GPUS][32]) {
    const char *path = getenv("FAKE_NVML_STATE");
    FILE *file = path ? fopen(path, "r") : NULL;
    int count = 0;
    while (file && count < MAX_GPUS && fscanf(file, "%31s", lines[count]) == 1) count++;
    if (file) fclose(file);
    return count;
}

int nvmlInitWithFlags(unsigned int flags) { (void)flags; return SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }

int nvmlDeviceGetCount_v2(unsigned int *count) {
    char lines[MAX_GPUS][32];
    *count = read_state(lines);
    return SUCCESS;
}

int nvmlDeviceGetHandleByIndex_v2(unsigned int index, void **device) {
    char lines[MAX_GPUS][32];
    if (index >= (unsigned int)read_state(lines)) return INVALID_ARGUMENT;
    *device = (void *)(size_t)(index + 1);
    return SUCCESS;
}

int nvmlDeviceGetUtilizationRates(void *device, struct utilization *rates) {
    char lines[MAX_GPUS][32];
    size_t index = (size_t)device - 1;
    if (index >= (size_t)read_state(lines)) return UNKNOWN;
    if (strcmp(lines[index], "unsupported") == 0) return NOT_SUPPORTED; /* as under MIG */
    if (strcmp(lines[index], "lost") == 0) return GPU_IS_LOST;
    rates->gpu = atoi(lines[index]);
    rates->memory = 1;
    return SUCCESS;
}
