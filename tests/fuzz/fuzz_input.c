/* Any bytes as what a model is run on: the first byte says whether the rest is a file of ids, of text, or of another
 * program's results. */
#include "tests/fuzz/files.h"
#include "tests/fuzz/fuzz.h"
#include "tools/models/input.h"

#include <stdlib.h>

static const char *const NAMES[] = {"vocab.txt", NULL};
static const char VOCABULARY[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\na\nb\n##a\n##b\n.\n";

/* What is read is what the models rely on. */
static void check_input(const struct model_input *input, const fff_bert_config *config, bool lines) {
    size_t count = input->batch.sequences * input->batch.length;
    for (size_t i = 0; i < count; i++) {
        if (input->ids[i] < 0 || (input->mask != NULL && input->mask[i] != input->mask[i] && lines)) {
            abort();
        }
    }
    if ((lines && (input->batch.length > config->max_length || input->batch.sequences == 0)) || input->source == NULL ||
        input->batch.ids != input->ids || input->batch.mask != input->mask) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct fuzz_folder folder;
    static struct fuzz_file file = {.descriptor = -1};
    const fff_bert_config config = {.vocabulary = 10, .max_length = 16, .text_length = 8};
    char error[128] = "";
    if (folder.names == NULL) {
        fuzz_make_folder(&folder, NAMES);
        fuzz_put(&folder, 0, true, VOCABULARY, sizeof VOCABULARY - 1);
    }
    if (size == 0) {
        return 0;
    }
    fuzz_write(&file, data + 1, size - 1);
    struct model_input_choice choice = {.directory = folder.path};
    *(data[0] == 'i' ? &choice.ids : data[0] == 't' ? &choice.text : &choice.expected) = file.path;
    struct model_input input;
    if (!model_input_load(&choice, &config, &input, error, sizeof error)) {
        fuzz_check_message(error, sizeof error);
        return 0;
    }
    check_input(&input, &config, choice.expected == NULL);
    model_input_free(&input);
    return 0;
}
