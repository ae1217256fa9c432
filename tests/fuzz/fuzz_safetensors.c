/* Any bytes as a safetensors file; every element of what it holds under some names is read. */
#include "bert/safetensors.h"
#include "tests/fuzz/fuzz.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static void read_tensor(const fff_safetensors *file, const char *name) {
    const fff_tensor *tensor = fff_safetensors_find(file, name);
    fff_floats floats;
    if (tensor == NULL) {
        return;
    }
    unsigned char sum = 0;
    for (size_t i = 0; i < tensor->bytes; i++) {
        sum ^= ((const unsigned char *)tensor->data)[i];
    }
    size_t numbers = 0;
    if (fff_tensor_floats(tensor, &floats)) {
        for (size_t i = 0; i < tensor->count; i++) {
            numbers += floats.values[i] == floats.values[i];
        }
        free(floats.owned);
    }
    if (sum == 1 && numbers == SIZE_MAX) {
        abort(); /* never; the sums must be computed */
    }
    fff_tensor_release(tensor);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static int descriptor = -1;
    static char path[64];
    char error[128] = "";
    if (descriptor < 0) {
        descriptor = memfd_create("fuzz", 0);
        snprintf(path, sizeof path, "/proc/self/fd/%d", descriptor);
    }
    if (ftruncate(descriptor, 0) != 0 || pwrite(descriptor, data, size, 0) != (ssize_t)size) {
        abort();
    }
    fff_safetensors *file = fff_safetensors_open(path, error, sizeof error);
    if (file == NULL) {
        if (strlen(error) == 0) {
            abort();
        }
        return 0;
    }
    static const char *const names[] = {"a", "b", "c", "module.a", "", "linear_in.weight"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        read_tensor(file, names[i]);
    }
    (void)fff_safetensors_metadata(file, "format");
    fff_safetensors_close(file);
    return 0;
}
