/* Files are untrusted: whatever is in them, opening one succeeds or says in one line what is wrong. */
#include "bert/safetensors.h"
#include "tests/support.h"
#include "tools/layer_data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[] = "/tmp/fff_test_XXXXXX";

static void write_bytes(const void *bytes, size_t size) {
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

/* A file with this header and `data_size` bytes of data. */
static void write_file(const char *header, size_t data_size) {
    size_t length = strlen(header);
    unsigned char *bytes = calloc(8 + length + data_size, 1);
    assert_non_null(bytes);
    for (int i = 0; i < 8; i++) {
        bytes[i] = (unsigned char)((uint64_t)length >> 8 * i);
    }
    memcpy(bytes + 8, header, length);
    write_bytes(bytes, 8 + length + data_size);
    free(bytes);
}

/* Errors are one printable line that begins with the path. */
static void check_error(const char *error) {
    assert_memory_equal(error, path, strlen(path));
    for (const char *c = error; *c != '\0'; c++) {
        assert_true((unsigned char)*c >= ' ' && *c != 0x7f);
    }
}

/* Opening what write_file() wrote fails with a message that contains `expected`. */
static void expect_refused(const char *header, size_t data_size, const char *expected) {
    char error[512] = "";
    write_file(header, data_size);
    assert_null(fff_safetensors_open(path, error, sizeof error));
    check_error(error);
    if (strstr(error, expected) == NULL) {
        fail_msg("%s: '%s', should contain '%s'", header, error, expected);
    }
}

#define F32(name, shape, begin, end)                                                                                   \
    "\"" name "\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[" begin "," end "]}"

static void test_reads_what_is_right(void **unused) {
    (void)unused;
    char error[512];
    write_file("{\"__metadata__\":{\"depth\":\"3\"}," F32("b", "[0,9]", "24", "24") "," F32(
                   "c", "[]", "24", "28") "," F32("a", "[2,3]", "0", "24") "}   ",
               28);
    fff_safetensors *file = fff_safetensors_open(path, error, sizeof error);
    assert_non_null(file);
    const fff_tensor *a = fff_safetensors_find(file, "a"), *b = fff_safetensors_find(file, "b"),
                     *c = fff_safetensors_find(file, "c");
    assert_int_equal(a->type, FFF_TENSOR_F32);
    assert_int_equal(a->rank, 2);
    assert_int_equal(a->shape[1], 3);
    assert_int_equal(a->bytes, 24);
    assert_int_equal(b->count, 0);
    assert_int_equal(c->rank, 0);
    assert_int_equal(c->count, 1);
    assert_ptr_equal((const char *)a->data + 24, c->data);
    assert_null(fff_safetensors_find(file, "d"));
    assert_string_equal(fff_safetensors_metadata(file, "depth"), "3");
    assert_null(fff_safetensors_metadata(file, "trees"));
    fff_safetensors_close(file);
    fff_safetensors_close(NULL);
}

static void test_refuses_what_is_wrong(void **unused) {
    (void)unused;
    expect_refused("", 0, "not a JSON object");
    expect_refused("[]", 0, "not a JSON object");
    expect_refused("{", 0, "line 1");
    expect_refused("{} x", 0, "line 1");
    expect_refused("{\"a\":1}", 0, "lacks");
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "lacks");
    expect_refused("{" F32("a", "[1]", "0", "4") "," F32("a", "[1]", "4", "8") "}", 8, "duplicate");
    expect_refused("{\"a\":{\"dtype\":\"F33\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "unknown dtype 'F33'");
    expect_refused("{" F32("a", "[1,1,1,1,1,1,1,1,1]", "0", "4") "}", 4, "9 dimensions");
    expect_refused("{" F32("a", "[-1]", "0", "4") "}", 4, "dimension 0");
    expect_refused("{" F32("a", "[1.0]", "0", "4") "}", 4, "dimension 0");
    expect_refused("{" F32("a", "[4294967296,4294967296]", "0", "4") "}", 4, "dimension 1");
    expect_refused("{" F32("a", "[99999999999999999999]", "0", "4") "}", 4, "too big");
    expect_refused("{" F32("a", "[4611686018427387904]", "0", "0") "}", 0, "need");
    expect_refused("{" F32("a", "[2]", "0", "4") "}", 4, "2 x 4 bytes");
    expect_refused("{" F32("a", "[1]", "4", "0") "}", 4, "data_offsets");
    expect_refused("{" F32("a", "[1]", "0", "8") "}", 4, "within the 4 bytes");
    expect_refused("{" F32("a", "[2]", "0", "8") "," F32("b", "[2]", "4", "12") "}", 12, "begins at byte 4");
    expect_refused("{" F32("a", "[1]", "0", "4") "," F32("b", "[1]", "8", "12") "}", 12, "begins at byte 8");
    expect_refused("{" F32("a", "[1]", "0", "4") "}", 5, "end at byte 4 of 5");
    expect_refused("{" F32("line\\nbreak", "[1]", "0", "8") "}", 8, "'line?break'");
    char error[512];
    assert_null(fff_safetensors_open("/nonexistent/file", error, sizeof error));
    assert_string_equal(error, "/nonexistent/file: No such file or directory");
    assert_null(fff_safetensors_open("/", error, sizeof error));
    assert_string_equal(error, "/: not a regular file");
    const unsigned char too_long[16] = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
    for (size_t size = 0; size <= sizeof too_long; size++) {
        write_bytes(too_long, size);
        assert_null(fff_safetensors_open(path, error, sizeof error));
        check_error(error);
    }
    unsigned char past_the_end[4096]; /* a header that goes on where the file, and its page, end */
    memset(past_the_end, 'a', sizeof past_the_end);
    memcpy(past_the_end, "\0\0\1\0\0\0\0\0{\"", 10);
    write_bytes(past_the_end, sizeof past_the_end);
    assert_null(fff_safetensors_open(path, error, sizeof error));
    assert_non_null(strstr(error, "header length 65536 exceeds the file's 4096 bytes"));
    char deep[10001]; /* nested beyond all reason */
    memset(deep, '[', sizeof deep - 1);
    deep[sizeof deep - 1] = '\0';
    memcpy(deep, "{\"a\":", 5);
    expect_refused(deep, 0, "depth");
}

/* Metadata that fit no layer, in a file that is otherwise right. */
static void expect_no_layer(const char *metadata, const char *expected) {
    char header[1024], error[512] = "";
    struct layer_data data;
    snprintf(header, sizeof header,
             "{\"__metadata__\":{%s}," F32("linear_in.weight", "[3,2]", "0", "24") "," F32("linear_out.weight", "[1,3]",
                                                                                           "24", "36") "}",
             metadata);
    write_file(header, 36);
    assert_int_equal(layer_data_load(path, &data, error, sizeof error), -1);
    check_error(error);
    if (strstr(error, expected) == NULL) {
        fail_msg("%s: '%s', should contain '%s'", metadata, error, expected);
    }
}

static void test_layer_files(void **unused) {
    (void)unused;
    char error[512];
    struct layer_data data;
    write_file("{\"__metadata__\":{\"depth\":\"1\",\"trees\":\"1\",\"activation\":\"relu\"}," F32(
                   "linear_in.weight", "[3,2]", "0", "24") "," F32("linear_out.weight", "[1,3]", "24", "36") "}",
               36);
    assert_int_equal(layer_data_load(path, &data, error, sizeof error), 0);
    assert_int_equal(data.depth, 1);
    assert_int_equal(data.batch, 64); /* no input in the file: a seeded one */
    assert_null(data.biases);
    layer_data_free(&data);
    expect_no_layer("\"depth\":\"1\",\"trees\":\"1\"", "'activation'");
    expect_no_layer("\"depth\":\"1\",\"activation\":\"GELU\"", "lack 'trees'");
    expect_no_layer("\"depth\":\"1\",\"trees\":\"0\",\"activation\":\"GELU\"", "3 rows where 0 trees");
    expect_no_layer("\"depth\":\"2\",\"trees\":\"1\",\"activation\":\"GELU\"", "3 rows where 1 trees of depth 2");
    expect_no_layer("\"depth\":\"31\",\"trees\":\"1\",\"activation\":\"GELU\"", "from 0 to 30");
    expect_no_layer("\"depth\":\"-1\",\"trees\":\"1\",\"activation\":\"GELU\"", "'depth' is not a number");
    expect_no_layer("\"depth\":\"1\",\"trees\":\"1x\",\"activation\":\"GELU\"", "'trees' is not a number");
    expect_no_layer("\"depth\":\"30\",\"trees\":\"4294967295\",\"activation\":\"GELU\"", "3 rows");
    expect_no_layer("\"depth\":\"1\",\"trees\":\"1\",\"activation\":\"softplus\"", "none of GELU");
    expect_no_layer("\"depth\":\"1\",\"trees\":\"1\",\"activation\":\"GELU\",\"route\":\"left\"", "neither");
    expect_no_layer("\"depth\":\"1\",\"trees\":\"1\",\"activation\":\"GELU\",\"variant\":\"leaf\"", "variant");
}

/* A real file damaged in every way a byte or a length can be: cut short anywhere in the header and at
 * many places behind it, and every byte of the header replaced. */
static void test_damaged_files(void **unused) {
    (void)unused;
    unsigned char *bytes = malloc(1 << 20);
    assert_non_null(bytes);
    FILE *file = fopen(FFF_TEST_DATA "/path_2x4_h17_relu.safetensors", "rb");
    assert_non_null(file);
    size_t size = fread(bytes, 1, 1 << 20, file);
    fclose(file);
    assert_true(size > 1000 && size < 1 << 20);
    size_t header_end = 8 + bytes[0] + 256u * bytes[1];
    char error[512];
    struct layer_data data;
    for (size_t cut = 0; cut < size; cut += cut < header_end ? 1 : 97) {
        write_bytes(bytes, cut);
        assert_int_equal(layer_data_load(path, &data, error, sizeof error), -1);
        check_error(error);
    }
    uint64_t state = test_random("damage");
    size_t accepted = 0, refused = 0;
    for (size_t position = 0; position < header_end; position++) {
        unsigned char original = bytes[position];
        const unsigned char replacements[] = {0, '"', '9', '-', '}', 0xff, (unsigned char)random_bits(&state)};
        for (size_t r = 0; r < sizeof replacements; r++) {
            bytes[position] = replacements[r];
            write_bytes(bytes, size);
            if (layer_data_load(path, &data, error, sizeof error) == 0) {
                accepted++;
                layer_data_free(&data);
            } else {
                refused++;
                check_error(error);
            }
        }
        bytes[position] = original;
    }
    print_message("%zu damaged headers refused, %zu harmless\n", refused, accepted);
    assert_true(refused > accepted);
    free(bytes);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_what_is_right),
        cmocka_unit_test(test_refuses_what_is_wrong),
        cmocka_unit_test(test_layer_files),
        cmocka_unit_test(test_damaged_files),
    };
    test_start("test_safetensors");
    int descriptor = mkstemp(path);
    if (descriptor < 0) {
        perror(path);
        return 1;
    }
    close(descriptor);
    int failed = cmocka_run_group_tests_name("safetensors", tests, NULL, NULL);
    unlink(path);
    return failed;
}
