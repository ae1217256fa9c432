/* Readers of files when memory runs out: each of their allocations fails once. What is read is then refused with a line
 * that says so, and nothing is lost (which the address sanitizer tells). The linker calls the functions named __wrap_
 * here in place of those of the C library. Allocations of Jansson succeed: 2.14 writes beyond its buffer when one fails
 * within a string. */
#include "bert/checkpoint.h"
#include "bert/config.h"
#include "bert/safetensors.h"
#include "bert/wordpiece.h"
#include "tests/support.h"
#include "tools/files/layer_data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- Allocations that fail ------------------------------------------------------------------------- */

enum { NEVER = -1 };
static long until_failure = NEVER; /* how many allocations succeed before one fails */
static bool failed;

static bool fails_now(void) {
    if (until_failure > 0) {
        until_failure--;
        return false;
    }
    bool now = until_failure == 0;
    until_failure = NEVER;
    failed = failed || now;
    return now;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
char *__real_strdup(const char *text);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
char *__wrap_strdup(const char *text);

void *__wrap_malloc(size_t size) {
    return fails_now() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size) {
    return fails_now() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size) {
    return fails_now() ? NULL : __real_realloc(memory, size);
}

char *__wrap_strdup(const char *text) {
    return fails_now() ? NULL : __real_strdup(text);
}

/* Reads one thing; whether it could be read, else with one line in `error`. */
typedef bool reader(const void *what, char *error, size_t error_size);

/* Fails the first allocation, the second and so on, until none is left to fail. */
static void check_reader(const char *name, reader *read, const void *what) {
    size_t allocations = 0;
    for (;; allocations++) {
        char error[256] = "";
        failed = false;
        until_failure = (long)allocations;
        bool ok = read(what, error, sizeof error);
        until_failure = NEVER;
        if (!failed) {
            if (!ok) {
                fail_msg("%s: %s", name, error);
            }
            break;
        }
        if (ok || strstr(error, "out of memory") == NULL || strchr(error, '\n') != NULL) {
            fail_msg("%s, without allocation %zu: %s, '%s'", name, allocations, ok ? "read" : "refused", error);
        }
    }
    print_message("%s: %zu allocations\n", name, allocations);
    assert_true(allocations > 0);
}

/* ---- Readers --------------------------------------------------------------------------------------- */

static bool read_config(const void *what, char *error, size_t error_size) {
    fff_bert_config config;
    return fff_bert_config_open(what, &config, error, error_size);
}

static bool read_tensors(const void *what, char *error, size_t error_size) {
    fff_safetensors *file = fff_safetensors_open(what, error, error_size);
    fff_safetensors_close(file);
    return file != NULL;
}

static bool read_layer(const void *what, char *error, size_t error_size) {
    struct layer_data data;
    bool ok = layer_data_load(what, &data, error, error_size) == 0;
    if (ok) {
        layer_data_free(&data);
    }
    return ok;
}

static bool read_checkpoint(const void *what, char *error, size_t error_size) {
    fff_checkpoint checkpoint;
    bool ok = fff_checkpoint_open(what, &checkpoint, error, error_size);
    if (ok) {
        fff_checkpoint_close(&checkpoint);
    }
    return ok;
}

/* A tokenizer, and the ids of a text by it. */
static bool read_tokenizer(const void *what, char *error, size_t error_size) {
    static const char text[] =
        "hi <mask> \xc3\x89hi xhi hi hi hi hi hi hi hi hi hi hi hi hi hi hi hi hi hi hi hi hi hi";
    int32_t *ids;
    size_t count;
    fff_tokenizer *tokenizer = fff_tokenizer_read("name", what, strlen(what), error, error_size);
    bool ok = tokenizer != NULL &&
              fff_tokenizer_try_encode(tokenizer, text, sizeof text - 1, 512, &ids, &count, error, error_size);
    if (ok) {
        free(ids);
    }
    fff_tokenizer_close(tokenizer);
    return ok;
}

static bool open_tokenizer(const void *what, char *error, size_t error_size) {
    fff_tokenizer *tokenizer = fff_tokenizer_open(what, error, error_size);
    fff_tokenizer_close(tokenizer);
    return tokenizer != NULL;
}

static void test_small_files(void **unused) {
    (void)unused;
    check_reader("config.json", read_config, FFF_TEST_DATA "/bert_fff_3x4_cls/config.json");
}

static void test_tensors(void **unused) {
    (void)unused;
    check_reader("a layer's tensors", read_tensors, FFF_TEST_DATA "/forest_3_parts.safetensors");
    check_reader("a checkpoint", read_checkpoint, FFF_TEST_DATA "/bert_mlm_tiny");
}

static void test_layers(void **unused) {
    (void)unused;
    check_reader("a path sum", read_layer, FFF_TEST_DATA "/path_2x4_h17_relu.safetensors");
    check_reader("leaves", read_layer, FFF_TEST_DATA "/leaf_d3_w8.safetensors");
    check_reader("a forest", read_layer, FFF_TEST_DATA "/forest_3_parts.safetensors");
    /* 16-bit weights at an odd place of the file, which are copied. */
    char path[] = "/tmp/test_no_memory_XXXXXX", header[512];
    int length = snprintf(header, sizeof header,
                          "{\"__metadata__\":{\"depth\":\"1\",\"trees\":\"1\",\"activation\":\"relu\"},"
                          "\"linear_in.weight\":{\"dtype\":\"BF16\",\"shape\":[3,2],\"data_offsets\":[0,12]},"
                          "\"linear_out.weight\":{\"dtype\":\"BF16\",\"shape\":[1,3],\"data_offsets\":[12,18]}}");
    assert_uint_in_range(length, 1, 510);
    header[length] = ' ';
    length |= 1;
    const unsigned char bytes[8] = {(unsigned char)length, (unsigned char)(length >> 8)}, data[18] = {0};
    FILE *file = fdopen(mkstemp(path), "wb");
    assert_non_null(file);
    assert_true(fwrite(bytes, 1, 8, file) == 8 && fwrite(header, 1, (size_t)length, file) == (size_t)length &&
                fwrite(data, 1, 18, file) == 18);
    assert_int_equal(fclose(file), 0);
    check_reader("an unaligned path sum", read_layer, path);
    unlink(path);
}

/* A tensor of 16-bit numbers becomes floats of its own. */
static void test_floats(void **unused) {
    (void)unused;
    static const uint16_t numbers[] = {0x3f80, 0x4000, 0x4040};
    const fff_tensor tensor = {
        .name = "t", .type = FFF_TENSOR_BF16, .rank = 1, .shape = {3}, .count = 3, .bytes = 6, .data = numbers};
    fff_floats floats;
    until_failure = 0;
    assert_false(fff_tensor_floats(&tensor, &floats));
    until_failure = NEVER;
    assert_true(fff_tensor_floats(&tensor, &floats));
    assert_true(floats.values[0] == 1 && floats.values[1] == 2 && floats.values[2] == 3);
    free(floats.owned);
}

static void test_tokenizers(void **unused) {
    (void)unused;
    check_reader("a vocabulary", read_tokenizer, "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nhi\n##hi\nx\n");
    check_reader(
        "tokenizer.json", read_tokenizer,
        "{\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"<unk>\",\"vocab\":{\"<unk>\":0,\"<sep>\":1,\"hi\":2,"
        "\"##hi\":3}},\"added_tokens\":[{\"id\":4,\"content\":\"<mask>\",\"lstrip\":true},"
        "{\"id\":5,\"content\":\"b b\",\"normalized\":true}],\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":["
        "{\"type\":\"NFD\"},{\"type\":\"Lowercase\"},{\"type\":\"StripAccents\"},{\"type\":\"NFKC\"},"
        "{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":true},{\"type\":\"Prepend\",\"prepend\":\"hi\"},"
        "{\"type\":\"Replace\",\"pattern\":{\"String\":\"ho\"},\"content\":\"hi\"}]},"
        "\"pre_tokenizer\":{\"type\":\"WhitespaceSplit\"},\"post_processor\":{\"type\":\"TemplateProcessing\","
        "\"single\":[{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},{\"SpecialToken\":{\"id\":\"<sep>\",\"type_id\":0}}],"
        "\"special_tokens\":{\"<sep>\":{\"id\":\"<sep>\",\"ids\":[1],\"tokens\":[\"<sep>\"]}}}}");
    check_reader("a folder with a tokenizer", open_tokenizer, FFF_TEST_DATA "/bert_mlm_tiny/vocab.txt");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_small_files), cmocka_unit_test(test_tensors),    cmocka_unit_test(test_layers),
        cmocka_unit_test(test_floats),      cmocka_unit_test(test_tokenizers),
    };
    return cmocka_run_group_tests_name("no_memory", tests, NULL, NULL);
}
