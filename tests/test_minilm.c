/* A trained BERT on real text: all-MiniLM-L6-v2's tokenizer against the Python package `tokenizers`, and its sentence
 * embeddings against PyTorch's (tests/reference/minilm.py makes both). Skipped where scripts/fetch_minilm.sh has not
 * fetched the model into the environment's FFF_MINILM. */
#include "bert/bert.h"
#include "bert/file.h"
#include "bert/wordpiece.h"
#include "tests/support.h"
#include "tools/models/input.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LARGEST = 1 << 24, LINES = 3000, SENTENCES = 256, MOST_IDS = 1 << 16 };
#define DISTANCE 1e-5

static const char *folder;

static fff_tokenizer *open_tokenizer(const char *file) {
    char path[4096], error[512] = "";
    snprintf(path, sizeof path, "%s/%s", folder, file);
    fff_tokenizer *tokenizer = fff_tokenizer_open(path, error, sizeof error);
    if (tokenizer == NULL) {
        fail_msg("%s", error);
    }
    return tokenizer;
}

static char *read_data(const char *path) {
    char error[512] = "";
    const struct fff_report report = {path, error, sizeof error};
    size_t length;
    char *content = fff_read_file(&report, LARGEST, &length);
    if (content == NULL) {
        fail_msg("%s", error);
    }
    assert_int_equal(strlen(content), length);
    return content;
}

/* The line at *cursor, ended with a 0 byte; *cursor goes on to the next. */
static char *next_line(char **cursor) {
    char *line = *cursor, *end = strchr(line, '\n');
    assert_non_null(end);
    *end = '\0';
    *cursor = end + 1;
    return line;
}

/* Both of the model's files make the same tokenizer. */
static void check_lines(const char *file) {
    if (folder == NULL) {
        skip();
    }
    fff_tokenizer *tokenizer = open_tokenizer(file);
    char *lines = read_data(FFF_TEST_DATA "/minilm/lines.txt"), *ids = read_data(FFF_TEST_DATA "/minilm/ids.txt");
    char *line_cursor = lines, *ids_cursor = ids;
    assert_int_equal(fff_tokenizer_vocabulary(tokenizer), 30522);
    assert_int_equal(fff_tokenizer_mask(tokenizer), 103);
    assert_int_equal(fff_tokenizer_pad(tokenizer), 0);
    size_t compared = 0, tokens = 0;
    for (; *line_cursor != '\0'; compared++) {
        char *line = next_line(&line_cursor), *expected = next_line(&ids_cursor);
        int32_t *found;
        size_t count;
        assert_true(fff_tokenizer_encode(tokenizer, line, strlen(line), MOST_IDS, &found, &count));
        for (size_t i = 0; i < count; i++) {
            char *end;
            long id = strtol(expected, &end, 10);
            if (end == expected || id != found[i]) {
                fail_msg("%s, line %zu, token %zu: id %d, not %ld: %s", file, compared + 1, i, found[i], id, line);
            }
            expected = end;
        }
        if (*expected != '\0') {
            fail_msg("%s, line %zu: %zu ids, and more are expected: %s", file, compared + 1, count, line);
        }
        tokens += count;
        free(found);
    }
    assert_int_equal(compared, LINES);
    assert_true(tokens > 100000);
    free(lines);
    free(ids);
    fff_tokenizer_close(tokenizer);
}

static void test_tokenizer_json(void **unused) {
    (void)unused;
    check_lines("tokenizer.json");
}
static void test_vocab_txt(void **unused) {
    (void)unused;
    check_lines("vocab.txt");
}

/* All of them, but where that takes minutes: plain C, and emulators. */
static size_t sentences_to_run(fff_bert_feedforward feedforward) {
    fff_isa isa;
    assert_int_equal(fff_isa_choose(FFF_ISA_AUTO, &isa), FFF_OK);
    bool slow_kernels = feedforward == FFF_BERT_TREES && isa == FFF_ISA_GENERIC;
    if (getenv("FFF_TEST_SHORT") != NULL) {
        return 1;
    }
    return slow_kernels ? 8 : SENTENCES;
}

/* Embeddings of sentences: the dense feedforward by CBLAS, and as 1536 trees of depth 0 by the kernels. */
static void check_embeddings(fff_bert_feedforward feedforward) {
    char error[512] = "";
    if (folder == NULL) {
        skip();
    }
    const fff_bert_options options = {.feedforward = feedforward};
    const struct model_input_choice choice = {.directory = folder,
                                              .expected = FFF_TEST_DATA "/minilm/sentences.safetensors"};
    fff_bert *model = fff_bert_open(folder, &options, error, sizeof error);
    if (model == NULL) {
        fail_msg("%s", error);
    }
    const fff_bert_config *config = fff_bert_configuration(model);
    struct model_input input;
    if (!model_input_load(&choice, config, &input, error, sizeof error)) {
        fail_msg("%s", error);
    }
    size_t width = config->hidden_size;
    assert_int_equal(input.batch.sequences, SENTENCES);
    assert_int_equal(input.embedding->count, SENTENCES * width);
    size_t sequences = sentences_to_run(feedforward);
    input.batch.sequences = sequences;
    float *hidden = test_allocate(sequences * input.batch.length * width, sizeof *hidden);
    float *embeddings = test_allocate(sequences * width, sizeof *embeddings);
    assert_true(fff_bert_encode(model, &input.batch, hidden, NULL, error, sizeof error));
    fff_bert_pool(model, &input.batch, hidden, embeddings);
    const float *expected = input.embedding->data;
    double worst = 0;
    for (size_t i = 0; i < sequences; i++) {
        double product = 0, ours = 0, theirs = 0;
        for (size_t j = i * width; j < (i + 1) * width; j++) {
            product += (double)embeddings[j] * (double)expected[j];
            ours += (double)embeddings[j] * (double)embeddings[j];
            theirs += (double)expected[j] * (double)expected[j];
        }
        double distance = 1 - product / sqrt(ours * theirs);
        assert_false(isnan(distance));
        worst = fmax(worst, distance);
    }
    print_message("%zu sentences: largest cosine distance %.2g\n", sequences, worst);
    assert_true(worst <= DISTANCE);
    free(hidden);
    free(embeddings);
    model_input_free(&input);
    fff_bert_close(model);
}

static void test_embeddings_dense(void **unused) {
    (void)unused;
    check_embeddings(FFF_BERT_AS_STORED);
}
static void test_embeddings_trees(void **unused) {
    (void)unused;
    check_embeddings(FFF_BERT_TREES);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokenizer_json),
        cmocka_unit_test(test_vocab_txt),
        cmocka_unit_test(test_embeddings_dense),
        cmocka_unit_test(test_embeddings_trees),
    };
    folder = getenv("FFF_MINILM");
    if (folder != NULL && access(folder, F_OK) != 0) {
        print_message("%s is not there: scripts/fetch_minilm.sh fetches it\n", folder);
        folder = NULL;
    }
    int failed = cmocka_run_group_tests_name("minilm", tests, NULL, NULL);
    return failed == 0 && folder == NULL ? 77 : failed; /* all were skipped */
}
