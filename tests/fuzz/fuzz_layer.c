/* Any bytes as a layer file: a path sum, a leaf layer or several parts, with or without input, output and path. What
 * can be read is made a layer and verified, as `fff verify` does it, which reads all of it. */
#include "tests/fuzz/files.h"
#include "tests/fuzz/fuzz.h"
#include "tools/verify/layer.h"

#include <stdlib.h>
#include <string.h>

/* Elements of a file that are worth the time of verifying them. */
enum { MOST_WORK = 1 << 16 };

static size_t work_of(const struct layer_data *data) {
    size_t rows = 0;
    for (const struct layer_data *part = data; part != NULL; part = part->next) {
        rows += part->rows;
    }
    return data->batch * rows * (data->input_width + data->output_width);
}

static void verify(const struct layer_data *data) {
    const fff_isa isa = FFF_ISA_GENERIC;
    struct verdict verdict;
    memset(&verdict, 0, sizeof verdict);
    if (verify_layer(data, &isa, 1, VERIFY_FEW_SPLITS, &verdict, NULL) == FFF_OK && verdict.differing_values > 0) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct fuzz_file file = {.descriptor = -1};
    char error[128] = "";
    struct layer_data layer;
    fff_bad_weight bad_weight;
    fuzz_write(&file, data, size);
    if (layer_data_load(file.path, &layer, error, sizeof error) != 0) {
        fuzz_check_message(error, sizeof error);
        return 0;
    }
    layer_data_demand(&layer, (struct store){FFF_CHOOSE_DEFAULT, FFF_CHOOSE_DEFAULT, FFF_ROUTES_STORED}, FFF_SLEEF_ANY,
                      &bad_weight);
    if (work_of(&layer) <= MOST_WORK) {
        verify(&layer);
    }
    layer_data_free(&layer);
    return 0;
}
