/* Whole models: the authors' results, the ways of computing them against each other, and damaged models. */
#include "bert/bert.h"
#include "bert/reference_f64.h"
#include "bert/safetensors.h"
#include "tests/support.h"
#include "tools/machine/isas.h"
#include "tools/verify/model.h"
#include "tools/verify/model_part.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Relative to the largest value. Seen, with several BLAS kernels and a BLAS that adds in order: up to 8.2e-7. */
#define TOLERANCE 4e-6
#define TREES FFF_TEST_DATA "/bert_fff_tiny"
#define CLASSIFIER FFF_TEST_DATA "/bert_fff_3x4_cls"
#define DENSE FFF_TEST_DATA "/bert_ff_tiny"

#define MASKED_LM FFF_TEST_DATA "/bert_mlm_tiny" /* Hugging Face's; gelu_new, a decoder of its own */

static const char *const models[] = {TREES, CLASSIFIER, DENSE, MASKED_LM};
enum { MODELS = sizeof models / sizeof *models };

static fff_bert *open_as(const char *directory, fff_bert_feedforward feedforward, fff_isa isa) {
    char error[512] = "";
    const fff_bert_options options = {.isa = isa, .feedforward = feedforward};
    fff_bert *model = fff_bert_open(directory, &options, error, sizeof error);
    if (model == NULL) {
        fail_msg("%s", error);
    }
    return model;
}

/* Input and results of the authors' own code. */
static struct model_input golden_input(const char *directory) {
    char error[512] = "";
    struct model_input input;
    const struct model_input_choice choice = {.directory = directory};
    fff_bert *model = open_as(directory, FFF_BERT_AS_STORED, FFF_ISA_AUTO);
    if (!model_input_load(&choice, fff_bert_configuration(model), &input, error, sizeof error)) {
        fail_msg("%s", error);
    }
    fff_bert_close(model);
    assert_non_null(input.hidden);
    assert_non_null(input.logits);
    assert_non_null(input.mask);
    return input;
}

static float *encode(const fff_bert *model, const fff_bert_batch *batch) {
    char error[256] = "";
    size_t width = fff_bert_configuration(model)->hidden_size;
    float *hidden = test_allocate(batch->sequences * batch->length * width, sizeof *hidden);
    if (!fff_bert_encode(model, batch, hidden, NULL, error, sizeof error)) {
        fail_msg("%s", error);
    }
    return hidden;
}

static void assert_near(const float *actual, const float *expected, size_t count, double tolerance, const char *what) {
    double error = 0, largest = 0;
    for (size_t i = 0; i < count; i++) {
        double difference = fabs((double)actual[i] - (double)expected[i]);
        assert_false(isnan(difference));
        error = fmax(error, difference);
        largest = fmax(largest, fabs((double)expected[i]));
    }
    assert_true(largest > 0);
    if (!(error <= tolerance * largest)) {
        fail_msg("%s: error %g where the largest value is %g", what, error, largest);
    }
}

static void test_golden_in_every_way(void **unused) {
    (void)unused;
    static const fff_bert_feedforward ways[] = {FFF_BERT_AS_STORED, FFF_BERT_TREES, FFF_BERT_MASKED};
    for (size_t m = 0; m < MODELS; m++) {
        struct model_input input = golden_input(models[m]);
        size_t tokens = input.batch.sequences * input.batch.length;
        for (size_t w = 0; w < sizeof ways / sizeof *ways; w++) {
            fff_bert *model = open_as(models[m], ways[w], FFF_ISA_AUTO);
            const fff_bert_config *config = fff_bert_configuration(model);
            float *hidden = encode(model, &input.batch);
            float *logits = test_allocate(input.logits->count, sizeof *logits);
            assert_near(hidden, input.hidden->data, tokens * config->hidden_size, TOLERANCE, models[m]);
            if (config->labels > 0) {
                assert_true(fff_bert_classify(model, input.batch.sequences, input.batch.length, hidden, logits));
                assert_false(fff_bert_decode(model, tokens, hidden, logits));
            } else {
                assert_true(fff_bert_decode(model, tokens, hidden, logits));
                assert_false(fff_bert_classify(model, 1, 1, hidden, logits));
            }
            assert_near(logits, input.logits->data, input.logits->count, TOLERANCE, models[m]);
            free(hidden);
            free(logits);
            fff_bert_close(model);
        }
        model_input_free(&input);
    }
}

/* The float64 pass is written apart from the float32 one. */
static void test_golden_in_float64(void **unused) {
    (void)unused;
    for (size_t m = 0; m < MODELS; m++) {
        char error[256] = "";
        struct model_input input = golden_input(models[m]);
        fff_bert *model = open_as(models[m], FFF_BERT_MASKED, FFF_ISA_AUTO);
        size_t count = input.hidden->count;
        double *exact = test_allocate(count, sizeof *exact);
        float *rounded = test_allocate(count, sizeof *rounded);
        assert_true(fff_bert_encode_f64(model, &input.batch, exact, NULL, NULL, error, sizeof error));
        for (size_t i = 0; i < count; i++) {
            rounded[i] = (float)exact[i];
        }
        assert_near(rounded, input.hidden->data, count, TOLERANCE, models[m]);
        free(exact);
        free(rounded);
        fff_bert_close(model);
        model_input_free(&input);
    }
}

static void test_same_bits_on_every_instruction_set(void **unused) {
    (void)unused;
    struct model_input input = golden_input(CLASSIFIER);
    fff_bert *generic = open_as(CLASSIFIER, FFF_BERT_TREES, FFF_ISA_GENERIC);
    float *expected = encode(generic, &input.batch);
    for (int isa = FFF_ISA_GENERIC + 1; isa < FFF_ISA_COUNT; isa++) {
        if (fff_isa_usable((fff_isa)isa) == FFF_OK) {
            fff_bert *model = open_as(CLASSIFIER, FFF_BERT_TREES, (fff_isa)isa);
            float *hidden = encode(model, &input.batch);
            assert_same_floats(hidden, expected, input.hidden->count, fff_isa_name((fff_isa)isa));
            free(hidden);
            fff_bert_close(model);
        }
    }
    free(expected);
    fff_bert_close(generic);
    model_input_free(&input);
}

static void test_threads(void **unused) {
    (void)unused;
    char error[256] = "";
    const fff_runner runner = {test_run_on_threads, NULL, 4};
    const fff_bert_options options = {.feedforward = FFF_BERT_TREES, .runner = &runner};
    struct model_input input = golden_input(TREES);
    fff_bert *alone = open_as(TREES, FFF_BERT_TREES, FFF_ISA_AUTO);
    fff_bert *shared = fff_bert_open(TREES, &options, error, sizeof error);
    assert_non_null(shared);
    float *expected = encode(alone, &input.batch), *hidden = encode(shared, &input.batch);
    assert_same_floats(hidden, expected, input.hidden->count, "4 threads");
    free(expected);
    free(hidden);
    fff_bert_close(alone);
    fff_bert_close(shared);
    model_input_free(&input);
}

/* What a sequence gives does not depend on its padding, on what the padding holds, or on its neighbours. */
/* How near to 0 the logit of any visited node comes; TREES has 6 a token. */
static void note_nearest(void *context, const fff_bert_seen *seen) {
    float *nearest = context;
    for (size_t i = 0; i < seen->tokens * 6; i++) {
        *nearest = fminf(*nearest, fabsf(seen->logits[i]));
    }
}

static float nearest_logit(const fff_bert *model, const fff_bert_batch *batch) {
    char error[256] = "";
    float nearest = INFINITY;
    fff_bert_watch watch = {.feedforward = note_nearest, .context = &nearest, .routes = true};
    float *hidden =
        test_allocate(batch->sequences * batch->length * fff_bert_configuration(model)->hidden_size, sizeof *hidden);
    if (!fff_bert_encode(model, batch, hidden, &watch, error, sizeof error)) {
        fail_msg("%s", error);
    }
    free(hidden);
    return nearest;
}

static void test_padding(void **unused) {
    (void)unused;
    enum { SHORT = 5, LONG = 23 };
    fff_bert *model = open_as(TREES, FFF_BERT_TREES, FFF_ISA_AUTO);
    size_t width = fff_bert_configuration(model)->hidden_size;
    int32_t ids[2 * LONG], other[2 * LONG];
    float mask[2 * LONG];
    uint64_t state = test_random("padding");
    const fff_bert_batch both = {2, LONG, ids, mask}, otherwise = {2, LONG, other, mask};
    const fff_bert_batch alone = {1, SHORT, ids + LONG, NULL};
    /* A BLAS rounds otherwise for other sizes, and a logit next to 0 may then lead the other way, which is right: so
     * tokens without such are drawn. One draw in some 200 has one. */
    float nearest = 0.0f;
    for (int draws = 0; draws < 20 && nearest < 1e-4f; draws++) {
        for (size_t i = 0; i < 2 * LONG; i++) {
            ids[i] = other[i] = (int32_t)random_below(&state, 300);
            mask[i] = i < LONG + SHORT ? 1.0f : 0.0f;
            if (mask[i] == 0) {
                other[i] = (int32_t)random_below(&state, 300);
            }
        }
        nearest = nearest_logit(model, &alone);
    }
    assert_true(nearest >= 1e-4f);
    float *padded = encode(model, &both), *differently = encode(model, &otherwise), *single = encode(model, &alone);
    assert_near(padded + LONG * width, single, SHORT * width, TOLERANCE, "padded");
    assert_near(differently + LONG * width, single, SHORT * width, TOLERANCE, "padded with other ids");
    float *means = test_allocate(2 * width, sizeof *means), *mean = test_allocate(width, sizeof *mean);
    fff_bert_pool(model, &both, padded, means);
    fff_bert_pool(model, &alone, single, mean);
    assert_near(means + width, mean, width, TOLERANCE, "pooled");
    free(padded);
    free(differently);
    free(single);
    free(means);
    free(mean);
    fff_bert_close(model);
}

/* The folder of a model whose modules.json and pooling are these; all else are links. Made anew on every call. */
static char *pooled_model(const char *modules, const char *pooling) {
    static char model[] = "/tmp/fff_pool_XXXXXX";
    static const char *const linked[] = {"config.json", "model.safetensors"};
    char from[512], to[64];
    memcpy(model, "/tmp/fff_pool_XXXXXX", sizeof model);
    assert_non_null(mkdtemp(model));
    for (size_t i = 0; i < 2; i++) {
        snprintf(from, sizeof from, "%s/%s", MASKED_LM, linked[i]);
        snprintf(to, sizeof to, "%s/%s", model, linked[i]);
        assert_int_equal(symlink(from, to), 0);
    }
    snprintf(to, sizeof to, "%s/1_Pooling", model);
    assert_int_equal(mkdir(to, 0700), 0);
    const char *const content[2] = {modules, pooling}, *const names[2] = {"modules.json", "1_Pooling/config.json"};
    for (size_t i = 0; i < 2; i++) {
        snprintf(to, sizeof to, "%s/%s", model, names[i]);
        FILE *file = fopen(to, "w");
        assert_non_null(file);
        assert_true(fputs(content[i], file) >= 0);
        assert_int_equal(fclose(file), 0);
    }
    return model;
}

static void remove_pooled_model(const char *model) {
    static const char *const names[] = {"config.json", "model.safetensors", "modules.json", "1_Pooling/config.json"};
    char path[64];
    for (size_t i = 0; i < 4; i++) {
        snprintf(path, sizeof path, "%s/%s", model, names[i]);
        assert_int_equal(unlink(path), 0);
    }
    snprintf(path, sizeof path, "%s/1_Pooling", model);
    assert_int_equal(rmdir(path), 0);
    assert_int_equal(rmdir(model), 0);
}

/* What a pooling makes of column `i` of tokens first ... first + count - 1, the first padding of which does not matter.
 */
static double pooled(const char *mode, const float *hidden, size_t width, size_t first, size_t count, size_t i) {
    double sum = 0, largest = -INFINITY;
    for (size_t token = first; token < first + count; token++) {
        sum += (double)hidden[token * width + i];
        largest = fmax(largest, (double)hidden[token * width + i]);
    }
    return strcmp(mode, "cls") == 0   ? (double)hidden[first * width + i]
           : strcmp(mode, "max") == 0 ? largest
                                      : sum / (double)count;
}

/* Sequences of three tokens: padding alone, values far below 1, and a NaN, which every pooling that meets it keeps. */
static void check_extremes(const fff_bert *model, const char *mode, bool normalize) {
    enum { SEQUENCES = 4, LENGTH = 3, WIDTH = 32, NOTHING = 0, SMALL, TINY, NO_NUMBER };
    static const float small[SEQUENCES] = {[SMALL] = 1e-8f, [TINY] = 1e-14f};
    float hidden[SEQUENCES][LENGTH][WIDTH] = {0}, mask[SEQUENCES][LENGTH], embeddings[SEQUENCES][WIDTH];
    assert_int_equal(fff_bert_configuration(model)->hidden_size, WIDTH);
    for (size_t token = 0; token < LENGTH; token++) {
        hidden[NOTHING][token][0] = token == 0 ? 0.0f : 1.0f;
        hidden[SMALL][token][0] = small[SMALL];
        hidden[TINY][token][0] = small[TINY];
        hidden[NO_NUMBER][token][0] = token == 1 ? NAN : (float)token;
        for (size_t sequence = 0; sequence < SEQUENCES; sequence++) {
            mask[sequence][token] = sequence == NOTHING ? 0.0f : 1.0f;
        }
    }
    const fff_bert_batch batch = {SEQUENCES, LENGTH, NULL, mask[0]};
    fff_bert_pool(model, &batch, hidden[0][0], embeddings[0]);
    for (size_t i = 0; i < WIDTH; i++) {
        assert_true(embeddings[NOTHING][i] == 0);
        for (size_t sequence = SMALL; sequence <= TINY; sequence++) {
            /* What is shorter than 1e-12 is divided by that. */
            float length = !normalize ? 1.0f : sequence == SMALL ? small[SMALL] : 1e-12f;
            float expected = i == 0 ? small[sequence] / length : 0.0f;
            assert_true(fabsf(embeddings[sequence][i] - expected) <= 1e-6f * expected);
        }
        bool keeps = strcmp(mode, "cls") != 0 && (i == 0 || normalize);
        assert_int_equal(isnan(embeddings[NO_NUMBER][i]) != 0, keeps);
    }
}

/* Each pooling, normalized or not, of padded sequences; by all the names that settings have. */
static void test_poolings(void **unused) {
    (void)unused;
    static const char *const modes[] = {"mean", "cls", "max"};
    static const char *const old[] = {
        "{\"word_embedding_dimension\":32,\"pooling_mode_mean_tokens\":true,\"pooling_mode_cls_token\":false}",
        "{\"pooling_mode_mean_tokens\":false,\"pooling_mode_cls_token\":true,\"pooling_mode_max_tokens\":false}",
        "{\"pooling_mode_mean_tokens\":false,\"pooling_mode_max_tokens\":true,\"include_prompt\":true}"};
    struct model_input input = golden_input(MASKED_LM);
    size_t length = input.batch.length;
    for (size_t test = 0; test < 12; test++) {
        const char *mode = modes[test % 3];
        bool normalize = test / 3 % 2 == 1;
        char modules[512], newer[64];
        snprintf(modules, sizeof modules,
                 "[{\"path\":\"\",\"type\":\"sentence_transformers.models.Transformer\"},"
                 "{\"path\":\"1_Pooling\",\"type\":\"sentence_transformers.models.Pooling\"}%s]",
                 normalize ? ",{\"path\":\"2_Normalize\",\"type\":\"sentence_transformers.models.Normalize\"}" : "");
        snprintf(newer, sizeof newer, "{\"pooling_mode\":\"%s\",\"embedding_dimension\":32}", mode);
        const char *directory = pooled_model(modules, test < 6 ? old[test % 3] : newer);
        fff_bert *model = open_as(directory, FFF_BERT_AS_STORED, FFF_ISA_AUTO);
        size_t width = fff_bert_configuration(model)->hidden_size;
        float *hidden = encode(model, &input.batch);
        float *embeddings = test_allocate(input.batch.sequences * width, sizeof *embeddings);
        fff_bert_pool(model, &input.batch, hidden, embeddings);
        for (size_t sequence = 0; sequence < input.batch.sequences; sequence++) {
            double squares = 0;
            size_t tokens = 0;
            while (tokens < length && input.mask[sequence * length + tokens] != 0) {
                tokens++;
            }
            for (size_t i = 0; i < width; i++) {
                double value = pooled(mode, hidden, width, sequence * length, tokens, i);
                squares += value * value;
            }
            for (size_t i = 0; i < width; i++) {
                double expected = pooled(mode, hidden, width, sequence * length, tokens, i);
                expected /= normalize ? sqrt(squares) : 1;
                double error = fabs((double)embeddings[sequence * width + i] - expected);
                if (!(error <= 1e-6)) {
                    fail_msg("%s: sequence %zu, element %zu: off by %g", mode, sequence, i, error);
                }
            }
        }
        check_extremes(model, mode, normalize);
        free(hidden);
        free(embeddings);
        fff_bert_close(model);
        remove_pooled_model(directory);
    }
    model_input_free(&input);
}

/* More tokens than are run at once: the same as one sequence at a time. */
static void test_many_sequences(void **unused) {
    (void)unused;
    enum { SEQUENCES = 70, LENGTH = 41 };
    fff_bert *model = open_as(CLASSIFIER, FFF_BERT_TREES, FFF_ISA_AUTO);
    size_t width = fff_bert_configuration(model)->hidden_size, values = LENGTH * width;
    int32_t *ids = test_allocate(SEQUENCES * LENGTH, sizeof *ids);
    uint64_t state = test_random("many");
    for (size_t i = 0; i < SEQUENCES * LENGTH; i++) {
        ids[i] = (int32_t)random_below(&state, 200);
    }
    const fff_bert_batch all = {SEQUENCES, LENGTH, ids, NULL};
    float *hidden = encode(model, &all);
    /* for emulators some of them, of every part of the batch */
    size_t step = getenv("FFF_TEST_SHORT") != NULL ? 6 : 1;
    for (size_t i = 0; i < SEQUENCES; i += step) {
        const fff_bert_batch one = {1, LENGTH, ids + i * LENGTH, NULL};
        float *alone = encode(model, &one);
        assert_near(hidden + i * values, alone, values, TOLERANCE, "one of many");
        free(alone);
    }
    free(ids);
    free(hidden);
    fff_bert_close(model);
}

/* The dense ways: all neurons is more than the path's, and a part of them is less. */
static void test_dense_neurons(void **unused) {
    (void)unused;
    char error[256] = "";
    struct model_input input = golden_input(DENSE);
    size_t count = input.hidden->count;
    fff_bert_options options = {.feedforward = FFF_BERT_DENSE};
    fff_bert *all = fff_bert_open(DENSE, &options, error, sizeof error);
    options.neurons = 96;
    fff_bert *named = fff_bert_open(DENSE, &options, error, sizeof error);
    options.neurons = 40;
    fff_bert *part = fff_bert_open(DENSE, &options, error, sizeof error);
    options.neurons = 97;
    assert_null(fff_bert_open(DENSE, &options, error, sizeof error));
    assert_non_null(strstr(error, "97 neurons"));
    float *of_all = encode(all, &input.batch), *of_named = encode(named, &input.batch),
          *of_part = encode(part, &input.batch);
    assert_near(of_all, input.hidden->data, count, TOLERANCE, "dense");
    assert_same_floats(of_named, of_all, count, "all by number");
    assert_memory_not_equal(of_part, of_all, count * sizeof *of_all);
    free(of_all);
    free(of_named);
    free(of_part);
    fff_bert_close(all);
    fff_bert_close(named);
    fff_bert_close(part);
    model_input_free(&input);
}

/* The routes that the kernels report are those of the dense definition. */
struct routes {
    uint32_t nodes[2][128 * 6];
    float logits[2][128 * 6];
    size_t layers;
};
static void note_routes(void *context, const fff_bert_seen *seen) {
    struct routes *routes = context;
    assert_int_equal(seen->layer, routes->layers++);
    assert_int_equal(seen->first_token, 0);
    memcpy(routes->nodes[seen->layer], seen->nodes, seen->tokens * 6 * sizeof *seen->nodes);
    memcpy(routes->logits[seen->layer], seen->logits, seen->tokens * 6 * sizeof *seen->logits);
}
static void test_routes(void **unused) {
    (void)unused;
    char error[256] = "";
    struct model_input input = golden_input(TREES);
    size_t tokens = input.batch.sequences * input.batch.length;
    assert_true(tokens <= 128);
    static const fff_bert_feedforward ways[2] = {FFF_BERT_TREES, FFF_BERT_MASKED};
    struct routes routes[2] = {{.layers = 0}, {.layers = 0}};
    float *hidden = test_allocate(input.hidden->count, sizeof *hidden);
    for (size_t i = 0; i < 2; i++) {
        fff_bert *model = open_as(TREES, ways[i], FFF_ISA_AUTO);
        fff_bert_watch watch = {.feedforward = note_routes, .context = &routes[i], .routes = true};
        assert_true(fff_bert_encode(model, &input.batch, hidden, &watch, error, sizeof error));
        assert_int_equal(routes[i].layers, 2);
        double all = 0;
        for (size_t part = 0; part < FFF_BERT_PARTS; part++) {
            assert_true(watch.seconds[part] > 0);
            all += watch.seconds[part];
        }
        assert_true(all < 60);
        fff_bert_close(model);
    }
    for (size_t layer = 0; layer < 2; layer++) {
        assert_memory_equal(routes[0].nodes[layer], routes[1].nodes[layer], tokens * 6 * sizeof(uint32_t));
        assert_near(routes[0].logits[layer], routes[1].logits[layer], tokens * 6, TOLERANCE, "logits");
    }
    free(hidden);
    model_input_free(&input);
}

static void expect_no_batch(const fff_bert *model, const fff_bert_batch *batch, const char *expected) {
    char error[256] = "";
    float hidden[64] = {7};
    assert_false(fff_bert_encode(model, batch, hidden, NULL, error, sizeof error));
    assert_true(hidden[0] == 7);
    if (strstr(error, expected) == NULL) {
        fail_msg("'%s' should contain '%s'", error, expected);
    }
}

static void test_wrong_input(void **unused) {
    (void)unused;
    fff_bert *model = open_as(TREES, FFF_BERT_TREES, FFF_ISA_AUTO);
    int32_t *ids = test_allocate(200, sizeof *ids);
    const fff_bert_batch none = {0, 5, ids, NULL}, empty = {2, 0, ids, NULL}, too_long = {1, 129, ids, NULL};
    const fff_bert_batch five = {1, 5, ids, NULL}, absurd = {SIZE_MAX / 64, 100, ids, NULL};
    expect_no_batch(model, &none, "no tokens");
    expect_no_batch(model, &empty, "no tokens");
    expect_no_batch(model, &too_long, "129 tokens is longer than the model's 128");
    expect_no_batch(model, &absurd, "too many");
    ids[3] = 300;
    expect_no_batch(model, &five, "token 3: id 300 is outside the vocabulary of 300");
    ids[3] = -1;
    expect_no_batch(model, &five, "id -1");
    free(ids);
    fff_bert_close(model);
}

/* ---- Damaged models -------------------------------------------------------------------------- */

static char directory[] = "/tmp/fff_test_XXXXXX";

struct bytes {
    unsigned char *data;
    size_t size;
};

static struct bytes read_file(const char *path) {
    struct stat about;
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    assert_int_equal(fstat(fileno(file), &about), 0);
    struct bytes bytes = {test_allocate((size_t)about.st_size + 1, 1), (size_t)about.st_size};
    assert_int_equal(fread(bytes.data, 1, bytes.size, file), bytes.size);
    fclose(file);
    return bytes;
}

static void write_in_directory(const char *name, const void *data, size_t size) {
    char path[256];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void expect_no_model(const char *expected) {
    char error[512] = "";
    assert_null(fff_bert_open(directory, NULL, error, sizeof error));
    assert_null(strchr(error, '\n'));
    if (strstr(error, expected) == NULL) {
        fail_msg("'%s' should contain '%s'", error, expected);
    }
}

static void test_damaged_models(void **unused) {
    (void)unused;
    struct bytes config = read_file(CLASSIFIER "/config.json"), model = read_file(CLASSIFIER "/model.safetensors");
    expect_no_model("neither config.json nor model_config.json");
    write_in_directory("model_config.json", config.data, config.size);
    expect_no_model("model.safetensors: No such file");
    size_t step = getenv("FFF_TEST_SHORT") != NULL ? 11 : 1; /* for emulators, which read files alike */
    for (size_t size = 0; size < model.size; size += size < 400 ? step : 1 + model.size / 50) {
        write_in_directory("model.safetensors", model.data, size);
        expect_no_model("model.safetensors: ");
    }
    size_t header = model.data[0] + 256u * model.data[1], found = 0;
    /* Each tensor in turn, called something else. The name ends where `":{` begins. */
    for (size_t i = 8; i + 8 < 8 + header; i++) {
        if (memcmp(model.data + i, "\":{\"dtype", 9) == 0 || memcmp(model.data + i, "\": {\"dtype", 10) == 0) {
            size_t begin = i;
            while (model.data[begin - 1] != '"') {
                begin--;
            }
            char name[128] = "";
            memcpy(name, model.data + begin, i - begin);
            unsigned char last = model.data[i - 1];
            model.data[i - 1] = 'X';
            write_in_directory("model.safetensors", model.data, model.size);
            char expected[192];
            snprintf(expected, sizeof expected, "tensor '%s' is missing", name);
            expect_no_model(expected);
            model.data[i - 1] = last;
            found++;
        }
    }
    assert_int_equal(found, 30);
    /* Shapes that are whole but not this configuration's. */
    for (size_t i = 0; i + 20 < config.size; i++) {
        if (memcmp(config.data + i, "\"vocab_size\": 200", 17) == 0) {
            config.data[i + 16] = '1';
        }
    }
    write_in_directory("model.safetensors", model.data, model.size);
    write_in_directory("model_config.json", config.data, config.size);
    expect_no_model("word_embedding.weight': dimension 0 is 200 where 201 is expected");
    free(config.data);
    free(model.data);
}

/* ---- Verifying ------------------------------------------------------------------------------- */

static void test_verify(void **unused) {
    (void)unused;
    fff_isa isas[FFF_ISA_COUNT];
    size_t count = usable_isas(isas);
    for (size_t m = 0; m < MODELS; m++) {
        char error[512] = "";
        struct model_verdict verdict;
        const struct model_input_choice choice = {.directory = models[m]};
        const struct model_check check = {.isas = isas, .isa_count = count, .layer_tokens = 1000};
        if (!verify_model(&choice, &check, &verdict, error, sizeof error)) {
            fail_msg("%s", error);
        }
        assert_true(model_verdict_holds(&verdict));
        assert_int_equal(verdict.sequences, 3);
        assert_int_equal(verdict.isa_count, count);
        assert_int_equal(verdict.layer_tokens, verdict.sequences * verdict.length);
        assert_true(verdict.has_file_hidden && verdict.has_file_logits && verdict.has_logits);
        assert_false(verdict.has_file_embedding);
        for (size_t layer = 0; layer < verdict.config.layers; layer++) {
            for (size_t i = 0; i < count; i++) {
                const struct verdict *v = &verdict.layers[layer].isas[i];
                assert_int_equal(v->dense.tokens, verdict.layer_tokens);
                assert_int_equal(v->expected.tokens, verdict.layer_tokens);
                assert_true(v->dense.bound_used > 0 && v->dense.bound_used < 1);
            }
            /* Both are near the exact value, so near each other, whatever the size of a model's outputs. */
            const struct verdict *v = &verdict.layers[layer].isas[0];
            double both = v->dense.max_abs_error + v->expected.max_abs_error;
            assert_true(verdict.layers[layer].masked_difference <= both * (1 + 1e-9));
            assert_true(v->expected.bound_used > 0 && v->expected.bound_used < 0.1);
        }
        for (size_t i = 0; i <= count; i++) {
            const struct end_to_end *run = &verdict.runs[i];
            assert_true(relative(run->hidden) > 0 && relative(run->hidden) < TOLERANCE);
            assert_true(relative(run->logits) > 0 && relative(run->logits) < TOLERANCE);
            assert_true(relative(run->file_hidden) > 0 && relative(run->file_hidden) < TOLERANCE);
            assert_true(relative(run->file_logits) > 0 && relative(run->file_logits) < TOLERANCE);
            assert_true(run->predictions > 0 && run->top1 == run->predictions);
            assert_int_equal(run->sequences_apart, 0);
        }
        model_verdict_free(&verdict);
    }
}

/* A tie that float32 and float64 decide apart shows as one, and only end to end. */
static void test_verify_rejects(void **unused) {
    (void)unused;
    struct model_verdict verdict = {.isa_count = 1, .config.layers = 1};
    struct layer_verdicts layer = {.isas[0].dense.tokens = 1};
    verdict.layers = &layer;
    assert_true(model_verdict_holds(&verdict));
    struct end_to_end *run = &verdict.runs[0];
    run->hidden = run->logits = (struct difference){1, 1}; /* a route apart may do that */
    assert_true(model_verdict_holds(&verdict));
    struct difference *steady[] = {&run->steady_hidden, &run->steady_logits};
    for (size_t i = 0; i < 2; i++) {
        *steady[i] = (struct difference){1e-5, 1};
        assert_true(model_verdict_holds(&verdict));
        *steady[i] = (struct difference){3e-5, 1};
        assert_false(model_verdict_holds(&verdict));
        *steady[i] = (struct difference){INFINITY, 1};
        assert_false(model_verdict_holds(&verdict));
        *steady[i] = (struct difference){INFINITY, INFINITY};
        assert_false(model_verdict_holds(&verdict));
        *steady[i] = (struct difference){0, 0};
    }
    verdict.runs[0].differing_values = 1;
    assert_false(model_verdict_holds(&verdict));
    verdict.runs[0].differing_values = 0;
    verdict.runs[1].file_logits = (struct difference){1, 2};
    assert_false(model_verdict_holds(&verdict));
    verdict.runs[1].file_logits = (struct difference){0, 0};
    verdict.runs[1].file_embedding = 2e-5;
    assert_false(model_verdict_holds(&verdict));
    verdict.runs[1].file_embedding = 0;
    layer.isas[0].dense.output_errors = 1;
    assert_false(model_verdict_holds(&verdict));
    layer.isas[0].dense.output_errors = 0;
    layer.isas[0].expected_mismatches = 1; /* of the masked dense one */
    assert_false(model_verdict_holds(&verdict));
    layer.isas[0].expected_mismatches = 0;
    layer.isas[0].differing_values = 1;
    assert_false(model_verdict_holds(&verdict));
    layer.isas[0].differing_values = 0;
    layer.store.differing_outputs = 1;
    assert_false(model_verdict_holds(&verdict));
    layer.store.differing_outputs = 0;
    verdict.narrow = true;
    assert_true(model_verdict_holds(&verdict));
    verdict.runs[0].differing_values = 1;
    assert_false(model_verdict_holds(&verdict));
}

/* One bit of a run that is not generic's, of each thing that is compared, is one difference. */
static void test_verify_compares_bits(void **unused) {
    (void)unused;
    enum { TOKENS = 2, WIDTH = 3, PATH = 4, LAYERS = 2, VALUES = LAYERS * TOKENS * WIDTH };
    enum { ENTRIES = LAYERS * TOKENS * PATH };
    static float generic[2][VALUES], generic_logits[ENTRIES], values[2][VALUES], logits[ENTRIES];
    static uint32_t generic_nodes[ENTRIES], nodes[ENTRIES];
    const struct record right = {generic[0], NULL, generic[1], generic_nodes, generic_logits, NULL};
    const struct record other = {values[0], NULL, values[1], nodes, logits, NULL};
    struct model_verdict verdict = {.isa_count = 2};
    struct part part = {.verdict = &verdict, .tokens = TOKENS, .width = WIDTH, .path = PATH, .layers = LAYERS};
    void *const changed[] = {&values[0][TOKENS * WIDTH - 1], &values[1][VALUES - 1], &nodes[ENTRIES - 1],
                             &logits[ENTRIES - 1]};
    for (size_t i = 0; i < 2; i++) { /* the other way is the second one, or the only one */
        part.generic = i == 0 ? (struct record){.hidden = NULL} : right;
        part.runs[0] = i == 0 ? right : other;
        part.runs[1] = other;
        for (size_t c = 0; c < sizeof changed / sizeof *changed; c++) {
            const uint32_t zero = 0, one = 1;
            memcpy(changed[c], &one, sizeof one);
            verdict.runs[1 - i].differing_values = 0;
            part_compare_bits(&part, 1 - i);
            assert_int_equal(verdict.runs[1 - i].differing_values, 1);
            memcpy(changed[c], &zero, sizeof zero);
        }
        verdict.runs[1 - i].differing_values = 0;
        part_compare_bits(&part, 1 - i);
        assert_int_equal(verdict.runs[1 - i].differing_values, 0);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden_in_every_way),
        cmocka_unit_test(test_golden_in_float64),
        cmocka_unit_test(test_same_bits_on_every_instruction_set),
        cmocka_unit_test(test_threads),
        cmocka_unit_test(test_padding),
        cmocka_unit_test(test_poolings),
        cmocka_unit_test(test_many_sequences),
        cmocka_unit_test(test_dense_neurons),
        cmocka_unit_test(test_routes),
        cmocka_unit_test(test_wrong_input),
        cmocka_unit_test(test_damaged_models),
        cmocka_unit_test(test_verify),
        cmocka_unit_test(test_verify_rejects),
        cmocka_unit_test(test_verify_compares_bits),
    };
    test_start("test_bert");
    if (mkdtemp(directory) == NULL) {
        perror(directory);
        return 1;
    }
    int failed = cmocka_run_group_tests_name("bert", tests, NULL, NULL);
    static const char *const left[] = {"model_config.json", "model.safetensors"};
    for (size_t i = 0; i < 2; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/%s", directory, left[i]);
        unlink(path);
    }
    rmdir(directory);
    return failed;
}
