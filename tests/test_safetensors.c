/* Files are untrusted: whatever is in them, opening one succeeds or says in one line what is wrong. */
#include "bert/safetensors.h"
#include "tests/support.h"
#include "tools/files/layer_data.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char path[] = "/tmp/fff_test_XXXXXX";

/* Over what the file was, and cut off behind it: a file that is emptied first goes to the disk when it is closed, which
 * takes long. */
static void write_bytes(const void *bytes, size_t size) {
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fflush(file), 0);
    assert_int_equal(ftruncate(fileno(file), (off_t)size), 0);
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

/* Names in the file and names asked for, each with whatever prefixes, are the same. */
static void test_prefixes(void **unused) {
    (void)unused;
    char error[512];
    write_file("{" F32("module.a", "[1]", "0", "4") "," F32("_orig_mod.module.b.c", "[1]", "4",
                                                            "8") "," F32("modules.d", "[1]", "8", "12") "}",
               12);
    fff_safetensors *file = fff_safetensors_open(path, error, sizeof error);
    assert_non_null(file);
    const fff_tensor *a = fff_safetensors_find(file, "a");
    assert_non_null(a);
    assert_ptr_equal(fff_safetensors_find(file, "module.a"), a);
    assert_ptr_equal(fff_safetensors_find(file, "module._orig_mod.a"), a);
    assert_non_null(fff_safetensors_find(file, "b.c"));
    assert_non_null(fff_safetensors_find(file, "modules.d"));
    assert_null(fff_safetensors_find(file, "d"));
    assert_null(fff_safetensors_find(file, "odule.a"));
    assert_int_equal(fff_safetensors_size(file),
                     8 +
                         strlen("{" F32("module.a", "[1]", "0", "4") "," F32(
                             "_orig_mod.module.b.c", "[1]", "4", "8") "," F32("modules.d", "[1]", "8", "12") "}") +
                         12);
    fff_safetensors_close(file);
    expect_refused("{" F32("a", "[1]", "0", "4") "," F32("module.a", "[1]", "4", "8") "}", 8, "'a'");
}

/* Opens a file whose one tensor `a` has this type and these bytes, at an offset of `padding` spaces in the header. */
static fff_safetensors *open_elements(const char *type, size_t count, const void *data, size_t bytes, size_t padding) {
    char header[256], error[512] = "";
    int length =
        snprintf(header, sizeof header, "{\"a\":{\"dtype\":\"%s\",\"shape\":[%zu],\"data_offsets\":[0,%zu]}}%*s", type,
                 count, bytes, (int)padding, "");
    assert_true(length > 0 && (size_t)length < sizeof header);
    unsigned char *file = test_allocate(8 + (size_t)length + bytes, 1);
    file[0] = (unsigned char)length;
    memcpy(file + 8, header, (size_t)length);
    memcpy(file + 8 + length, data, bytes);
    write_bytes(file, 8 + (size_t)length + bytes);
    free(file);
    fff_safetensors *opened = fff_safetensors_open(path, error, sizeof error);
    if (opened == NULL) {
        fail_msg("%s", error);
    }
    return opened;
}

/* binary16 by its definition, in arithmetic. */
static double value_of_f16(unsigned half) {
    int exponent = (int)(half >> 10 & 31), fraction = (int)(half & 1023);
    double magnitude = exponent == 0    ? ldexp(fraction, -24)
                       : exponent == 31 ? (fraction == 0 ? INFINITY : NAN)
                                        : ldexp(1024 + fraction, exponent - 25);
    return half >> 15 != 0 ? -magnitude : magnitude;
}

static void test_narrow_floats(void **unused) {
    (void)unused;
    enum { ALL = 1 << 16 };
    uint16_t *all = test_allocate(ALL, sizeof *all);
    for (unsigned i = 0; i < ALL; i++) {
        all[i] = (uint16_t)i;
    }
    fff_floats floats;
    fff_safetensors *file = open_elements("F16", ALL, all, ALL * sizeof *all, 0);
    assert_true(fff_tensor_floats(fff_safetensors_find(file, "a"), &floats));
    for (unsigned i = 0; i < ALL; i++) {
        double expected = value_of_f16(i), found = (double)floats.values[i];
        bool same = isnan(expected) ? isnan(found) : found == expected && !signbit(found) == !signbit(expected);
        if (!same) {
            fail_msg("F16 0x%04x: %g, not %g", i, found, expected);
        }
    }
    free(floats.owned);
    fff_safetensors_close(file);
    file = open_elements("BF16", ALL, all, ALL * sizeof *all, 1);
    assert_true(fff_tensor_floats(fff_safetensors_find(file, "a"), &floats));
    for (unsigned i = 0; i < ALL; i++) {
        uint32_t bits;
        memcpy(&bits, floats.values + i, sizeof bits);
        assert_int_equal(bits, (uint32_t)i << 16);
    }
    free(floats.owned);
    fff_safetensors_close(file);
    free(all);
}

static void test_wide_and_unaligned(void **unused) {
    (void)unused;
    const double wide[3] = {1.0 / 3, -1e300, 0};
    const float narrow[3] = {1.0f / 3, -INFINITY, 0};
    const int64_t integers[3] = {1, 2, 3};
    fff_floats floats;
    fff_safetensors *file = open_elements("F64", 3, wide, sizeof wide, 3);
    assert_true(fff_tensor_floats(fff_safetensors_find(file, "a"), &floats));
    assert_same_floats(floats.values, narrow, 3, "from F64");
    free(floats.owned);
    fff_safetensors_close(file);
    size_t views = 0;
    for (size_t padding = 0; padding < 8; padding++) {
        file = open_elements("F32", 3, narrow, sizeof narrow, padding);
        const fff_tensor *tensor = fff_safetensors_find(file, "a");
        assert_true(fff_tensor_floats(tensor, &floats));
        assert_same_floats(floats.values, narrow, 3, "F32");
        assert_true((floats.owned == NULL) == ((uintptr_t)tensor->data % sizeof(float) == 0));
        views += floats.owned == NULL;
        free(floats.owned);
        fff_safetensors_close(file);
    }
    assert_int_equal(views, 2);
    file = open_elements("I64", 3, integers, sizeof integers, 0);
    assert_false(fff_tensor_floats(fff_safetensors_find(file, "a"), &floats));
    assert_null(floats.values);
    fff_safetensors_close(file);
}

/* Pages that were given back hold the same when they are read again. */
static void test_release(void **unused) {
    (void)unused;
    enum { COUNT = 10000 };
    float *values = test_allocate(COUNT, sizeof *values);
    uint64_t state = test_random("release");
    fill_floats(FILL_NORMAL, values, COUNT, &state);
    fff_safetensors *file = open_elements("F32", COUNT, values, COUNT * sizeof *values, 2);
    const fff_tensor *tensor = fff_safetensors_find(file, "a");
    for (int again = 0; again < 3; again++) {
        assert_memory_equal(tensor->data, values, COUNT * sizeof *values);
        fff_tensor_release(tensor);
    }
    fff_safetensors_close(file);
    free(values);
}

/* A dtype of a later version of the format is no fault as long as nobody wants the tensor; its bytes are those that its
 * offsets say. */
static void test_unknown_dtype(void **unused) {
    (void)unused;
    char error[512] = "";
    fff_floats floats;
    write_file("{\"b\":{\"dtype\":\"F6_E2M3\",\"shape\":[5],\"data_offsets\":[4,8]}," F32("a", "[1]", "0", "4") "}", 8);
    fff_safetensors *file = fff_safetensors_open(path, error, sizeof error);
    if (file == NULL) {
        fail_msg("%s", error);
    }
    const fff_tensor *b = fff_safetensors_find(file, "b");
    assert_int_equal(b->type, FFF_TENSOR_OTHER);
    assert_string_equal(b->type_name, "F6_E2M3");
    assert_int_equal(b->bytes, 4);
    assert_false(fff_tensor_has_floats(b));
    assert_false(fff_tensor_floats(b, &floats));
    assert_true(fff_tensor_has_floats(fff_safetensors_find(file, "a")));
    assert_int_equal(fff_safetensors_count(file), 2);
    assert_ptr_equal(fff_safetensors_at(file, 1), b);
    fff_safetensors_close(file);
}

/* As in the reference reader the last of equal keys counts. */
static void test_metadata(void **unused) {
    (void)unused;
    char error[512] = "";
    write_file("{\"__metadata__\" : { \"k\" : \"1\" , \"\\u00e9\\n\":\"\" , \"k\":\"2\" } }", 0);
    fff_safetensors *file = fff_safetensors_open(path, error, sizeof error);
    if (file == NULL) {
        fail_msg("%s", error);
    }
    assert_string_equal(fff_safetensors_metadata(file, "k"), "2");
    assert_string_equal(fff_safetensors_metadata(file, "\xc3\xa9\n"), "");
    assert_null(fff_safetensors_metadata(file, "2"));
    fff_safetensors_close(file);
}

static void test_refuses_what_is_wrong(void **unused) {
    (void)unused;
    expect_refused("", 0, "not a JSON object");
    expect_refused("[]", 0, "not a JSON object");
    expect_refused("{", 0, "byte 1: a name in quotes is expected");
    expect_refused("{} x", 0, "byte 3: the end is expected");
    expect_refused("{,}", 0, "byte 1: a name in quotes");
    expect_refused("{\"a\" 1}", 0, "byte 5: ':' is expected");
    expect_refused("{\"a\":{}", 0, "lacks");
    expect_refused("{" F32("a", "[1]", "0", "4"), 4, "',' or '}' is expected");
    expect_refused("{" F32("a", "[1]", "0", "4") ",}", 4, "a name in quotes is expected");
    expect_refused("{" F32("a", "[1]", "0", "4") F32("b", "[1]", "4", "8") "}", 8, "',' or '}' is expected");
    expect_refused("{\"a\":1}", 0, "lacks");
    expect_refused("{\"__metadata__\":[]}", 0, "an object is expected");
    expect_refused("{\"__metadata__\":{\"a\":1}}", 0, "metadata 'a' is no string");
    expect_refused("{\"__metadata__\":{},\"__metadata__\":{}}", 0, "duplicate __metadata__");
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}", 4,
                   "duplicate");
    expect_refused("{\"a\\u0000b\":{}}", 0, "byte");
    expect_refused("{\"a\":{\"dtype\":\"F32\",\"shape\":[1]}}", 4, "lacks");
    expect_refused("{" F32("a", "[1]", "0", "4") "," F32("a", "[1]", "4", "8") "}", 8, "duplicate");
    expect_refused("{\"a\":{\"dtype\":33,\"shape\":[1],\"data_offsets\":[0,4]}}", 4, "lacks");
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
    expect_refused("{" F32("line\\nbreak", "[1]", "0", "8") "}", 8, "'line\\x0abreak'");
    char error[512];
    assert_null(fff_safetensors_open("/nonexistent/file", error, sizeof error));
    assert_string_equal(error, "/nonexistent/file: No such file or directory");
    assert_null(fff_safetensors_open("/", error, sizeof error));
    assert_string_equal(error, "/: a folder, not a regular file");
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
    memcpy(deep, "{\"a\":{\"x\":", 10);
    expect_refused(deep, 0, "depth");
    enum { LONG = 70000 }; /* a description of more than 64 KB */
    char *lengthy = test_allocate(LONG, 1);
    memset(lengthy, 'x', LONG - 1);
    memcpy(lengthy, "{\"a\":{\"x\":\"", 11);
    memcpy(lengthy + LONG - 4, "\"}}", 3);
    expect_refused(lengthy, 0, "a is longer than 65536 bytes");
    free(lengthy);
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

/* Which way a tie goes: as the file says, else as modules of the kind have it. */
static void test_routing_of_layers(void **unused) {
    (void)unused;
    static const struct {
        const char *route;
        fff_routing expected;
    } cases[] = {
        {"", FFF_ROUTING_GREATER},
        {",\"route\":\"logit > 0 goes right\"", FFF_ROUTING_GREATER},
        {",\"route\":\"logit >= 0\"", FFF_ROUTING_GREATER_EQUAL},
    };
    char header[1024], error[512];
    struct layer_data data;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(header, sizeof header,
                 "{\"__metadata__\":{\"depth\":\"1\",\"trees\":\"1\",\"activation\":\"relu\"%s}," F32(
                     "linear_in.weight", "[3,2]", "0", "24") "," F32("linear_out.weight", "[1,3]", "24", "36") "}",
                 cases[i].route);
        write_file(header, 36);
        assert_int_equal(layer_data_load(path, &data, error, sizeof error), 0);
        assert_int_equal(data.routing, cases[i].expected);
        layer_data_free(&data);
        snprintf(header, sizeof header,
                 "{\"__metadata__\":{\"activation\":\"relu\"%s},\"depth\":{\"dtype\":\"I64\",\"shape\":[],"
                 "\"data_offsets\":[0,8]}," F32("w1s", "[1,2,1]", "8", "16") "," F32("w2s", "[1,1,1]", "16", "20") "}",
                 cases[i].route);
        write_file(header, 20);
        if (layer_data_load(path, &data, error, sizeof error) != 0) {
            fail_msg("%s", error);
        }
        assert_int_equal(data.routing, i == 0 ? FFF_ROUTING_GREATER_EQUAL : cases[i].expected);
        layer_data_free(&data);
    }
}

/* Nodes of a leaf layer may have biases where its neurons have none, and the other way round. */
static void test_biases_of_leaves(void **unused) {
    (void)unused;
    static const struct {
        const char *biases;
        size_t bytes;
        bool expected;
    } cases[] = {{"", 0, false},
                 {"," F32("node_biases", "[1]", "36", "40"), 4, true},
                 {"," F32("b1s", "[2,1]", "36", "44"), 8, true}};
    char header[1024], error[512];
    struct layer_data data;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        snprintf(header, sizeof header,
                 "{\"__metadata__\":{\"activation\":\"relu\"}," F32("node_weights", "[1,1]", "8", "12") "," F32(
                     "w1s", "[2,1,1]", "12",
                     "20") "," F32("w2s", "[2,1,2]", "20",
                                   "36") ",\"depth\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[0,8]}%s}",
                 cases[i].biases);
        size_t length = strlen(header);
        unsigned char *bytes = test_allocate(8 + length + 44, 1);
        bytes[0] = (unsigned char)length, bytes[1] = (unsigned char)(length >> 8);
        memcpy(bytes + 8, header, length);
        bytes[8 + length] = 1; /* the depth */
        write_bytes(bytes, 8 + length + 36 + cases[i].bytes);
        free(bytes);
        if (layer_data_load(path, &data, error, sizeof error) != 0) {
            fail_msg("%s", error);
        }
        assert_int_equal(data.depth, 1);
        assert_int_equal(data.biases != NULL, cases[i].expected);
        layer_data_free(&data);
    }
}

static void expect_other_shape(const char *header, size_t data_size, const char *expected) {
    char error[512] = "";
    struct layer_data data;
    write_file(header, data_size);
    assert_int_equal(layer_data_load(path, &data, error, sizeof error), -1);
    check_error(error);
    assert_string_equal(error + strlen(path), expected);
}

/* What names a layer's tensors must have the right number of dimensions, and elements. */
static void test_shapes_of_layers(void **unused) {
    (void)unused;
    expect_other_shape(
        "{" F32("linear_in.weight", "[6]", "0", "24") "," F32("linear_out.weight", "[1,3]", "24", "36") "}", 36,
        ": tensor 'linear_in.weight' has 1 dimensions and 6 elements where a matrix is expected");
    expect_other_shape(
        "{" F32("linear_in.weight", "[3,2]", "0", "24") "," F32("linear_out.weight", "[0,3]", "24", "24") "}", 24,
        ": tensor 'linear_out.weight' has 2 dimensions and 0 elements where a matrix is expected");
    expect_other_shape("{\"__metadata__\":{\"variant\":\"leaf\"}," F32("w1s", "[3,2]", "0", "24") "}", 24,
                       ": tensor 'w1s' has 2 dimensions and 6 elements where a matrix for each leaf is expected");
}

/* A real file damaged in every way a byte or a length can be: cut short anywhere in the header and at
 * many places behind it, and every byte of the header replaced. */
static void damage(const char *name) {
    unsigned char *bytes = malloc(1 << 20);
    assert_non_null(bytes);
    FILE *file = fopen(name, "rb");
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

static void test_damaged_files(void **unused) {
    (void)unused;
    damage(FFF_TEST_DATA "/path_2x4_h17_relu.safetensors");
    damage(FFF_TEST_DATA "/leaf_d3_w8.safetensors");
    damage(FFF_TEST_DATA "/forest_3_parts.safetensors");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_what_is_right),
        cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_narrow_floats),
        cmocka_unit_test(test_wide_and_unaligned),
        cmocka_unit_test(test_release),
        cmocka_unit_test(test_unknown_dtype),
        cmocka_unit_test(test_metadata),
        cmocka_unit_test(test_refuses_what_is_wrong),
        cmocka_unit_test(test_layer_files),
        cmocka_unit_test(test_routing_of_layers),
        cmocka_unit_test(test_biases_of_leaves),
        cmocka_unit_test(test_shapes_of_layers),
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
