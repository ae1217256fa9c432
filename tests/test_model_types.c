/* Models whose feedforward weights are bfloat16, float16 or int8: the same bits as other models that hold, or store,
 * the same numbers. They are the recorded models (tests/data/bert_*), written anew. */
#include "bert/bert.h"
#include "bert/reference_f64.h"
#include "bert/safetensors.h"
#include "tests/support.h"
#include "tools/dense/f64.h"
#include "tools/dense/stored_numbers.h"
#include "tools/machine/isas.h"
#include "tools/verify/model.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TREES FFF_TEST_DATA "/bert_fff_tiny"
/* For emulators, some of the models and types. */
static size_t test_step(void) {
    return getenv("FFF_TEST_SHORT") != NULL ? 5 : 1;
}

static const char *const models[] = {TREES, FFF_TEST_DATA "/bert_fff_3x4_cls", FFF_TEST_DATA "/bert_ff_tiny",
                                     FFF_TEST_DATA "/bert_mlm_tiny"};
enum { MODELS = sizeof models / sizeof *models, SEQUENCES = 3, LENGTH = 11, TOKENS = SEQUENCES * LENGTH };

static char folder[] = "/tmp/fff_types_XXXXXX";

/* ---- Writing a model anew -------------------------------------------------------------------- */

/* What a layer's feedforward is to hold; `widened`: the same numbers as float32. */
struct types {
    fff_weight_type in, out;
    bool widened;
    bool odd;        /* everything lies at an odd place of the file */
    int only_layer;  /* of the layers this one only, or -1 */
    bool all_halves; /* all other matrices are bfloat16, too */
};

static const char *const dtypes[FFF_WEIGHT_TYPE_COUNT] = {"F32", "BF16", "F16", "I8"};

struct file {
    FILE *data;
    char header[1 << 16];
    size_t used, end;
};

static void add(struct file *file, const char *name, const char *dtype, size_t rank, const size_t *shape,
                const void *data, size_t bytes) {
    char dimensions[128] = "";
    for (size_t i = 0; i < rank; i++) {
        size_t at = strlen(dimensions);
        snprintf(dimensions + at, sizeof dimensions - at, "%s%zu", i > 0 ? "," : "", shape[i]);
    }
    int length = snprintf(file->header + file->used, sizeof file->header - file->used,
                          "%c\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%zu,%zu]}",
                          file->used > 0 ? ',' : '{', name, dtype, dimensions, file->end, file->end + bytes);
    assert_true(length > 0 && file->used + (size_t)length + 16 < sizeof file->header);
    file->used += (size_t)length;
    file->end += bytes;
    assert_int_equal(fwrite(data, 1, bytes, file->data), bytes);
}

/* The header, and the data after it. */
static void finish(struct file *file, const char *path) {
    unsigned char length[8], buffer[4096];
    file->header[file->used++] = '}';
    while (file->used % 8 != 0) {
        file->header[file->used++] = ' ';
    }
    for (size_t i = 0; i < 8; i++) {
        length[i] = (unsigned char)(file->used >> 8 * i);
    }
    FILE *whole = fopen(path, "wb");
    assert_non_null(whole);
    assert_int_equal(fwrite(length, 1, 8, whole), 8);
    assert_int_equal(fwrite(file->header, 1, file->used, whole), file->used);
    rewind(file->data);
    for (size_t got; (got = fread(buffer, 1, sizeof buffer, file->data)) > 0;) {
        assert_int_equal(fwrite(buffer, 1, got, whole), got);
    }
    assert_int_equal(fclose(file->data), 0);
    assert_int_equal(fclose(whole), 0);
}

/* Of a number that float16 has. */
static uint16_t f16_bits(float value) {
    uint16_t sign = signbit(value) ? 0x8000 : 0;
    float size = fabsf(value);
    if (size < 0x1p-14f) {
        return (uint16_t)(sign | (unsigned)(size * 0x1p24f));
    }
    int exponent = ilogbf(size);
    return (uint16_t)(sign | (unsigned)(exponent + 15) << 10 | (unsigned)(ldexpf(size, 10 - exponent) - 1024));
}

/* A matrix in 16 bits, or the same numbers in 32. */
static void add_rounded(struct file *file, const fff_tensor *tensor, fff_weight_type type, bool widened) {
    float *wide = test_allocate(tensor->count, sizeof *wide);
    uint16_t *halves = test_allocate(tensor->count, sizeof *halves);
    for (size_t i = 0; i < tensor->count; i++) {
        uint32_t bits;
        wide[i] = round_to_type(type, fff_tensor_element(tensor, i));
        memcpy(&bits, &wide[i], sizeof bits);
        halves[i] = type == FFF_WEIGHT_BF16 ? (uint16_t)(bits >> 16) : f16_bits(wide[i]);
    }
    if (widened || type == FFF_WEIGHT_F32) {
        add(file, tensor->name, "F32", tensor->rank, tensor->shape, wide, tensor->count * 4);
    } else {
        add(file, tensor->name, dtypes[type], tensor->rank, tensor->shape, halves, tensor->count * 2);
    }
    free(wide);
    free(halves);
}

/* A matrix whose neurons are rows, or columns, with a scale each. */
static void add_integers(struct file *file, const fff_tensor *tensor, bool by_columns, bool widened) {
    size_t neurons = tensor->shape[by_columns], width = tensor->shape[!by_columns];
    float *row = test_allocate(width, sizeof *row), *integers = test_allocate(width, sizeof *integers);
    float *scales = test_allocate(neurons, sizeof *scales), *wide = test_allocate(tensor->count, sizeof *wide);
    signed char *bytes = test_allocate(tensor->count, 1);
    for (size_t neuron = 0; neuron < neurons; neuron++) {
        for (size_t i = 0; i < width; i++) {
            row[i] = fff_tensor_element(tensor, by_columns ? i * neurons + neuron : neuron * width + i);
        }
        scales[neuron] = quantise_row(row, width, integers);
        for (size_t i = 0; i < width; i++) {
            size_t at = by_columns ? i * neurons + neuron : neuron * width + i;
            bytes[at] = (signed char)integers[i];
            wide[at] = integers[i] * scales[neuron];
        }
    }
    if (widened) {
        add(file, tensor->name, "F32", 2, tensor->shape, wide, tensor->count * 4);
    } else {
        char name[256];
        snprintf(name, sizeof name, "%s_scales", tensor->name);
        add(file, tensor->name, "I8", 2, tensor->shape, bytes, tensor->count);
        add(file, name, "F32", 1, &neurons, scales, neurons * 4);
    }
    free(row);
    free(integers);
    free(scales);
    free(wide);
    free(bytes);
}

/* Whether a tensor is one of a feedforward's matrices, the first or the second. */
static bool is_feedforward(const char *name, bool *of_output) {
    *of_output = strstr(name, "ffn.linear_out.weight") != NULL || strstr(name, "ffn.dense_out.weight") != NULL ||
                 (strstr(name, ".output.dense.weight") != NULL && strstr(name, "attention") == NULL);
    return *of_output || strstr(name, "ffn.linear_in.weight") != NULL || strstr(name, "ffn.dense_in.weight") != NULL ||
           strstr(name, "intermediate.dense.weight") != NULL;
}

static void write_model(const char *from, struct types types) {
    char path[512], to[64], error[512], layer[32];
    struct file *file = test_allocate(1, sizeof *file);
    file->data = tmpfile();
    assert_non_null(file->data);
    snprintf(path, sizeof path, "%s/config.json", from);
    snprintf(to, sizeof to, "%s/config.json", folder);
    (void)unlink(to);
    assert_int_equal(symlink(path, to), 0);
    snprintf(path, sizeof path, "%s/model.safetensors", from);
    snprintf(to, sizeof to, "%s/model.safetensors", folder);
    snprintf(layer, sizeof layer, ".%d.", types.only_layer);
    fff_safetensors *original = fff_safetensors_open(path, error, sizeof error);
    assert_non_null(original);
    size_t found = 0;
    if (types.odd) {
        add(file, "odd", "U8", 1, (size_t[]){1}, "x", 1);
    }
    for (size_t i = 0; i < fff_safetensors_count(original); i++) {
        const fff_tensor *tensor = fff_safetensors_at(original, i);
        bool of_output, here = is_feedforward(tensor->name, &of_output);
        fff_weight_type type = of_output ? types.out : types.in;
        found += here;
        if (here && types.only_layer >= 0 && strstr(tensor->name, layer) == NULL) {
            type = FFF_WEIGHT_F32;
        }
        if (here && type == FFF_WEIGHT_I8) {
            add_integers(file, tensor, of_output, types.widened);
        } else if (here) {
            add_rounded(file, tensor, type, types.widened);
        } else if (types.all_halves && tensor->type == FFF_TENSOR_F32) {
            add_rounded(file, tensor, FFF_WEIGHT_BF16, types.widened);
        } else {
            add(file, tensor->name, tensor->type_name, tensor->rank, tensor->shape, tensor->data, tensor->bytes);
        }
    }
    assert_true(found > 0 && found % 2 == 0);
    fff_safetensors_close(original);
    finish(file, to);
    free(file);
}

/* ---- Running one ----------------------------------------------------------------------------- */

struct results {
    float *hidden, *logits;
    size_t hidden_count, logit_count;
    size_t packed; /* bytes of the kernels' layers */
    fff_layer_desc desc;
};

static struct results run(const fff_bert_options *options) {
    char error[512] = "";
    int32_t ids[TOKENS];
    fff_bert *model = fff_bert_open(folder, options, error, sizeof error);
    if (model == NULL) {
        fail_msg("%s", error);
    }
    const fff_bert_config *config = fff_bert_configuration(model);
    for (size_t i = 0; i < TOKENS; i++) {
        ids[i] = (int32_t)(i * i * 7 % config->vocabulary);
    }
    const fff_bert_batch batch = {SEQUENCES, LENGTH, ids, NULL};
    bool classifies = config->labels > 0;
    struct results results = {.hidden_count = TOKENS * config->hidden_size,
                              .logit_count = classifies ? SEQUENCES * config->labels : TOKENS * config->vocabulary,
                              .packed = fff_bert_packed_size(model),
                              .desc = fff_bert_layer_desc(model, 0)};
    results.hidden = test_allocate(results.hidden_count, sizeof(float));
    results.logits = test_allocate(results.logit_count, sizeof(float));
    if (!fff_bert_encode(model, &batch, results.hidden, NULL, error, sizeof error)) {
        fail_msg("%s", error);
    }
    assert_true(classifies ? fff_bert_classify(model, SEQUENCES, LENGTH, results.hidden, results.logits)
                           : fff_bert_decode(model, TOKENS, results.hidden, results.logits));
    fff_bert_close(model);
    return results;
}

static void release(struct results *results) {
    free(results->hidden);
    free(results->logits);
}

/* The first model, and options, against the second ones'. */
static void expect_same(const char *model, struct types types, const fff_bert_options *options, struct types others,
                        const fff_bert_options *other_options) {
    char what[256];
    snprintf(what, sizeof what, "%s, %s+%s%s, way %d on %s", model, dtypes[types.in], dtypes[types.out],
             types.odd ? " at odd places" : "", (int)options->feedforward, fff_isa_name(options->isa));
    write_model(model, types);
    struct results ours = run(options);
    write_model(model, others);
    struct results theirs = run(other_options);
    assert_same_floats(ours.hidden, theirs.hidden, ours.hidden_count, what);
    assert_same_floats(ours.logits, theirs.logits, ours.logit_count, what);
    assert_int_equal(ours.desc.weight_type, types.in);
    assert_int_equal(ours.desc.output_weight_type, types.out + 1);
    release(&ours);
    release(&theirs);
}

static const struct types pairs[] = {
    {.in = FFF_WEIGHT_BF16, .out = FFF_WEIGHT_BF16, .only_layer = -1},
    {.in = FFF_WEIGHT_F16, .out = FFF_WEIGHT_F16, .only_layer = -1, .odd = true},
    {.in = FFF_WEIGHT_BF16, .out = FFF_WEIGHT_F32, .only_layer = -1, .odd = true},
    {.in = FFF_WEIGHT_F32, .out = FFF_WEIGHT_F16, .only_layer = -1},
    {.in = FFF_WEIGHT_BF16, .out = FFF_WEIGHT_F16, .only_layer = -1, .all_halves = true},
};
enum { PAIRS = sizeof pairs / sizeof *pairs };

/* ---- Tests ----------------------------------------------------------------------------------- */

static void test_halves(void **unused) {
    (void)unused;
    static const fff_bert_feedforward ways[] = {FFF_BERT_TREES, FFF_BERT_AS_STORED, FFF_BERT_MASKED};
    for (size_t test = 0; test < MODELS * PAIRS; test += test_step()) {
        struct types given = pairs[test % PAIRS], wide = given;
        wide.widened = true;
        for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
            for (size_t way = 0; way < 3 && fff_isa_usable((fff_isa)isa) == FFF_OK; way++) {
                const fff_bert_options options = {.isa = (fff_isa)isa, .feedforward = ways[way]};
                expect_same(models[test / PAIRS], given, &options, wide, &options);
            }
        }
    }
}

/* The very integers and scales that a layer of float32 weights makes when it is to store int8. */
static void test_integers(void **unused) {
    (void)unused;
    static const struct types of[] = {{.in = FFF_WEIGHT_I8, .out = FFF_WEIGHT_I8, .only_layer = -1, .odd = true},
                                      {.in = FFF_WEIGHT_F32, .out = FFF_WEIGHT_I8, .only_layer = -1},
                                      {.in = FFF_WEIGHT_I8, .out = FFF_WEIGHT_F32, .only_layer = -1}};
    const struct types original = {.only_layer = -1};
    for (size_t test = 0; test < 3 * MODELS; test += test_step()) {
        struct types given = of[test % 3], wide = given;
        wide.widened = true;
        const fff_bert_options masked = {.feedforward = FFF_BERT_MASKED};
        expect_same(models[test / 3], given, &masked, wide, &masked);
        for (int isa = FFF_ISA_GENERIC; isa < FFF_ISA_COUNT; isa++) {
            const fff_bert_options options = {.isa = (fff_isa)isa, .feedforward = FFF_BERT_TREES};
            fff_bert_options storing = options;
            storing.store_input = (fff_weight_choice)(given.in + 1);
            storing.store_output = (fff_weight_choice)(given.out + 1);
            if (fff_isa_usable((fff_isa)isa) == FFF_OK) {
                expect_same(models[test / 3], given, &options, original, &storing);
            }
        }
    }
}

static size_t packed(struct types types, fff_weight_choice input, fff_weight_choice output) {
    const fff_bert_options options = {.feedforward = FFF_BERT_TREES, .store_input = input, .store_output = output};
    write_model(TREES, types);
    struct results results = run(&options);
    release(&results);
    return results.packed;
}

/* The layers store what the file has, unless the options say otherwise. */
static void test_stored_types(void **unused) {
    (void)unused;
    for (size_t pair = 0; pair < PAIRS; pair++) {
        struct types given = pairs[pair], wide = given;
        fff_weight_choice in = (fff_weight_choice)(given.in + 1), out = (fff_weight_choice)(given.out + 1);
        wide.widened = true;
        size_t size = packed(given, FFF_CHOOSE_DEFAULT, FFF_CHOOSE_DEFAULT);
        assert_int_equal(size, packed(wide, in, out));
        assert_true(size < packed(wide, FFF_CHOOSE_DEFAULT, FFF_CHOOSE_DEFAULT));
        assert_int_equal(packed(given, FFF_CHOOSE_F32, FFF_CHOOSE_F32),
                         packed(wide, FFF_CHOOSE_DEFAULT, FFF_CHOOSE_DEFAULT));
        const fff_bert_options integers = {
            .feedforward = FFF_BERT_TREES, .store_input = FFF_CHOOSE_I8, .store_output = FFF_CHOOSE_I8};
        expect_same(TREES, given, &integers, wide, &integers);
        const fff_bert_options exact = {.feedforward = FFF_BERT_TREES,
                                        .store_input = FFF_CHOOSE_I8,
                                        .store_output = FFF_CHOOSE_BF16,
                                        .routes = FFF_ROUTES_EXACT};
        expect_same(TREES, given, &exact, wide, &exact);
    }
}

/* int8 input rows need more workspace than float32 ones, whichever layer has them. */
static void test_layers_of_several_types(void **unused) {
    (void)unused;
    for (int layer = 0; layer < 2; layer++) {
        const fff_bert_options options = {.feedforward = FFF_BERT_TREES};
        write_model(TREES, (struct types){.in = FFF_WEIGHT_I8, .out = FFF_WEIGHT_BF16, .only_layer = layer});
        struct results results = run(&options);
        assert_int_equal(results.desc.weight_type, layer == 0 ? FFF_WEIGHT_I8 : FFF_WEIGHT_F32);
        release(&results);
    }
}

/* Its float32 weights are not made where the kernels do the work. */
static void test_float64_needs_dense_weights(void **unused) {
    (void)unused;
    char error[512] = "";
    const int32_t ids[2] = {3, 4};
    const fff_bert_batch batch = {1, 2, ids, NULL};
    for (int layer = -1; layer < 2; layer++) {
        write_model(TREES, (struct types){.in = FFF_WEIGHT_BF16, .out = FFF_WEIGHT_BF16, .only_layer = layer});
        for (int way = FFF_BERT_TREES; way <= FFF_BERT_DENSE; way++) {
            const fff_bert_options options = {.feedforward = (fff_bert_feedforward)way};
            fff_bert *model = fff_bert_open(folder, &options, error, sizeof error);
            assert_non_null(model);
            double *hidden = test_allocate(2 * fff_bert_configuration(model)->hidden_size, sizeof *hidden);
            assert_int_equal(fff_bert_encode_f64(model, &batch, hidden, NULL, NULL, error, sizeof error),
                             way != FFF_BERT_TREES);
            free(hidden);
            fff_bert_close(model);
        }
        assert_non_null(strstr(error, "only if it was opened to be computed densely"));
    }
}

/* By the proof's own definitions of the types; 16 bits are float32's equals, end to end too. */
static void test_verify(void **unused) {
    (void)unused;
    static const struct types of[] = {{.in = FFF_WEIGHT_BF16, .out = FFF_WEIGHT_F32, .only_layer = -1},
                                      {.in = FFF_WEIGHT_F16, .out = FFF_WEIGHT_BF16, .only_layer = 1},
                                      {.in = FFF_WEIGHT_I8, .out = FFF_WEIGHT_I8, .only_layer = -1},
                                      {.in = FFF_WEIGHT_F32, .out = FFF_WEIGHT_I8, .only_layer = 0}};
    fff_isa isas[FFF_ISA_COUNT];
    size_t count = usable_isas(isas);
    for (size_t test = 0; test < MODELS * 4; test += test_step()) {
        const struct types types = of[test % 4];
        char error[512] = "";
        struct model_verdict verdict;
        const struct model_input_choice choice = {.directory = folder};
        const struct model_check check = {.isas = isas, .isa_count = count, .layer_tokens = 40};
        write_model(models[test / 4], types);
        if (!verify_model(&choice, &check, &verdict, error, sizeof error)) {
            fail_msg("%s", error);
        }
        assert_true(model_verdict_holds(&verdict));
        assert_int_equal(verdict.narrow, types.out == FFF_WEIGHT_I8);
        size_t layer = types.only_layer > 0 ? (size_t)types.only_layer : 0;
        assert_int_equal(verdict.layers[layer].store.input, types.in);
        assert_int_equal(verdict.layers[layer].store.output, types.out);
        assert_int_equal(verdict.layers[layer].isas[0].expected.tokens, verdict.narrow ? 0 : 40);
        model_verdict_free(&verdict);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_halves),
        cmocka_unit_test(test_integers),
        cmocka_unit_test(test_stored_types),
        cmocka_unit_test(test_layers_of_several_types),
        cmocka_unit_test(test_float64_needs_dense_weights),
        cmocka_unit_test(test_verify),
    };
    if (mkdtemp(folder) == NULL) {
        perror(folder);
        return 1;
    }
    int failed = cmocka_run_group_tests_name("model types", tests, NULL, NULL);
    static const char *const left[] = {"config.json", "model.safetensors"};
    for (size_t i = 0; i < 2; i++) {
        char path[64];
        snprintf(path, sizeof path, "%s/%s", folder, left[i]);
        unlink(path);
    }
    rmdir(folder);
    return failed;
}
