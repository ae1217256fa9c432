/* Tokenizers against Hugging Face's programs: recorded ids (tests/reference/tokenizer.py makes them), and what stands
 * beside a vocab.txt or tokenizer.json. */
#include "bert/wordpiece.h"
#include "tests/support.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LONGEST_PATH = 256, LONGEST_LINE = 512, MOST_IDS = 1000 };

static char folder[] = "/tmp/fff_tokenizer_XXXXXX";
static const char *const names[] = {"tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json",
                                    "added_tokens.json"};

static const char *path_of(const char *name, char *path) {
    snprintf(path, LONGEST_PATH, "%s/%s", folder, name);
    return path;
}

static void write_file(const char *name, const char *content) {
    char path[LONGEST_PATH];
    FILE *file = fopen(path_of(name, path), "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(content, 1, strlen(content), file), strlen(content));
    assert_int_equal(fclose(file), 0);
}

static void clear_folder(void) {
    char path[LONGEST_PATH];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        unlink(path_of(names[i], path));
    }
}

static fff_tokenizer *open_folder(char *error, size_t error_size) {
    char path[LONGEST_PATH];
    bool json = access(path_of("tokenizer.json", path), F_OK) == 0;
    return fff_tokenizer_open(path_of(json ? "tokenizer.json" : "vocab.txt", path), error, error_size);
}

/* ---- What was recorded ----------------------------------------------------------------------- */

static void check_text(const fff_tokenizer *tokenizer, const char *name, const json_t *text) {
    const json_t *string = json_array_get(text, 0), *expected = json_array_get(text, 1);
    int32_t *ids;
    size_t count;
    assert_true(
        fff_tokenizer_encode(tokenizer, json_string_value(string), json_string_length(string), MOST_IDS, &ids, &count));
    for (size_t i = 0; i < count || i < json_array_size(expected); i++) {
        long long id = i < count ? ids[i] : -1;
        long long right = i < json_array_size(expected) ? json_integer_value(json_array_get(expected, i)) : -1;
        if (id != right) {
            fail_msg("%s, '%s': id %zu is %lld, not %lld", name, json_string_value(string), i, id, right);
        }
    }
    free(ids);
}

static void write_files(json_t *files, json_t *vocabulary) {
    const char *name;
    json_t *content;
    json_object_foreach(files, name, content) {
        json_t *model = json_object_get(content, "model");
        if (json_is_null(json_object_get(model, "vocab"))) {
            json_object_set(model, "vocab", vocabulary);
        }
        char *text = json_is_string(content) ? strdup(json_string_value(content)) : json_dumps(content, 0);
        assert_non_null(text);
        write_file(name, text);
        free(text);
    }
}

static void test_recorded(void **unused) {
    (void)unused;
    json_error_t json_error;
    json_t *root = json_load_file(FFF_TEST_DATA "/tokenizer.json", 0, &json_error);
    if (root == NULL) {
        fail_msg("%s", json_error.text);
    }
    const json_t *cases = json_object_get(root, "cases");
    size_t texts = 0;
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *entry = json_array_get(cases, i), *all = json_object_get(entry, "texts");
        const char *name = json_string_value(json_object_get(entry, "name"));
        char error[LONGEST_LINE] = "";
        clear_folder();
        write_files(json_object_get(entry, "files"), json_object_get(root, "vocab"));
        fff_tokenizer *tokenizer = open_folder(error, sizeof error);
        if (tokenizer == NULL) {
            fail_msg("%s: %s", name, error);
        }
        for (size_t j = 0; j < json_array_size(all); j++, texts++) {
            check_text(tokenizer, name, json_array_get(all, j));
        }
        fff_tokenizer_close(tokenizer);
    }
    print_message("%zu texts by %zu tokenizers\n", texts, json_array_size(cases));
    assert_true(texts > 1500);
    json_decref(root);
}

/* ---- What is refused ------------------------------------------------------------------------- */

static const char vocabulary[] = "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\n<s>\n";
#define MODEL                                                                                                          \
    "\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"continuing_subword_prefix\":\"##\","                  \
    "\"max_input_chars_per_word\":100,\"vocab\":{\"[UNK]\":0,\"the\":1}}"

static void expect_refused(const char *expected) {
    char error[LONGEST_LINE] = "";
    fff_tokenizer *tokenizer = open_folder(error, sizeof error);
    if (tokenizer != NULL) {
        fff_tokenizer_close(tokenizer);
        fail_msg("read, and '%s' is to be refused", expected);
    }
    if (strstr(error, expected) == NULL || strncmp(error, folder, strlen(folder)) != 0 || strchr(error, '\n') != NULL) {
        fail_msg("'%s' should contain '%s'", error, expected);
    }
}

static void test_config_refused(void **unused) {
    (void)unused;
    static const struct {
        const char *config, *expected;
    } cases[] = {
        {"", "tokenizer_config.json: "},
        {"[]", "tokenizer_config.json: is no JSON object"},
        {"{\"do_lower_case\":\"no\"}", "'do_lower_case' is neither true nor false"},
        {"{\"strip_accents\":1}", "'strip_accents' is neither true nor false"},
        {"{\"tokenize_chinese_chars\":null}", "'tokenize_chinese_chars' is neither true nor false"},
        {"{\"do_basic_tokenize\":false}", "'do_basic_tokenize' is false; only true is supported"},
        {"{\"never_split\":[\"the\"]}", "'never_split' is [\"the\"]"},
        {"{\"padding_side\":\"left\"}", "'padding_side' is \"left\""},
        {"{\"truncation_side\":\"left\"}", "'truncation_side' is \"left\""},
        {"{\"split_special_tokens\":true}", "'split_special_tokens' is true"},
        {"{\"wordpieces_prefix\":\"@\"}", "'wordpieces_prefix' is \"@\""},
        {"{\"model_max_length\":0}", "'model_max_length'"},
        {"{\"max_len\":0}", "'max_len' is no number of at least 1"},
        {"{\"model_max_length\":\"4\",\"max_len\":4}", "'model_max_length'"},
        {"{\"tokenizer_class\":\"RobertaTokenizer\"}", "tokenizer_class 'RobertaTokenizer'"},
        {"{\"tokenizer_class\":\"BertTokenizerFaster\"}", "tokenizer_class 'BertTokenizerFaster'"},
        {"{\"tokenizer_class\":\"PreTrainedTokenizerFast\"}", "with a vocab.txt"},
        {"{\"tokenizer_class\":7}", "tokenizer_class"},
        {"{\"auto_map\":{\"AutoTokenizer\":[\"a.b\",null]}}", "'auto_map'"},
        {"{\"cls_token\":7}", "'cls_token' is no token"},
        {"{\"cls_token\":null}", "'cls_token' is null"},
        {"{\"cls_token\":\"<cls>\"}", "piece '<cls>' is missing"},
        {"{\"additional_special_tokens\":[7]}", "'additional_special_tokens'"},
        {"{\"added_tokens_decoder\":[]}", "'added_tokens_decoder' is no object"},
        {"{\"added_tokens_decoder\":{\"x\":{\"content\":\"a\"}}}", "'x' is no id"},
        {"{\"added_tokens_decoder\":{\"7\":{}}}", "'7' is no id"},
        {"{\"added_tokens_decoder\":{\"9\":{\"content\":\"a\"}}}", "'a' has id 9, and by the vocabulary 7"},
        {"{\"added_tokens_decoder\":{\"5\":{\"content\":\"the\",\"lstrip\":3}}}", "'lstrip'"},
    };
    clear_folder();
    write_file("vocab.txt", vocabulary);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_file("tokenizer_config.json", cases[i].config);
        expect_refused(cases[i].expected);
    }
    write_file("tokenizer_config.json", "{}");
    write_file("added_tokens.json", "{\"a\":\"b\"}");
    expect_refused("'a' is no id");
    write_file("added_tokens.json", "{}");
    write_file("special_tokens_map.json", "{\"sep_token\":[]}");
    expect_refused("'sep_token' is no token");
    clear_folder();
    write_file("tokenizer.json", "{" MODEL ",\"normalizer\":{\"type\":\"Lowercase\"}}");
    write_file("tokenizer_config.json", "{\"do_lower_case\":false,\"tokenizer_class\":\"BertTokenizer\"}");
    expect_refused("'do_lower_case' is about a BertNormalizer; here it is 'Lowercase'");
    write_file("tokenizer_config.json", "{\"unk_token\":\"<unk>\"}");
    expect_refused("unk_token is '[UNK]' here, and '<unk>'");
}

/* Names of special tokens, and how many ids a text may have. */
static void test_config_obeyed(void **unused) {
    (void)unused;
    char error[LONGEST_LINE] = "";
    clear_folder();
    write_file("vocab.txt", vocabulary);
    write_file("tokenizer_config.json",
               "{\"model_max_length\":4,\"mask_token\":\"<s>\",\"pad_token\":{\"content\":\"the\"}}");
    fff_tokenizer *tokenizer = open_folder(error, sizeof error);
    assert_non_null(tokenizer);
    assert_int_equal(fff_tokenizer_mask(tokenizer), 6);
    assert_int_equal(fff_tokenizer_pad(tokenizer), 5);
    int32_t *ids;
    size_t count;
    assert_true(fff_tokenizer_encode(tokenizer, "the the the the", 15, MOST_IDS, &ids, &count));
    assert_int_equal(count, 4);
    assert_int_equal(ids[0], 2);
    assert_int_equal(ids[3], 3);
    free(ids);
    fff_tokenizer_close(tokenizer);
    write_file("tokenizer_config.json", "{\"mask_token\":null,\"pad_token\":null}");
    tokenizer = open_folder(error, sizeof error);
    assert_non_null(tokenizer);
    assert_int_equal(fff_tokenizer_mask(tokenizer), -1);
    assert_int_equal(fff_tokenizer_pad(tokenizer), 0);
    fff_tokenizer_close(tokenizer);
}

/* How many ids a text may have: by the newer name, or else by the older one. */
static void test_most_ids(void **unused) {
    (void)unused;
    static const struct {
        const char *config;
        size_t count;
    } cases[] = {{"{}", 6},
                 {"{\"model_max_length\":1000000000000000019884624838656}", 6},
                 {"{\"model_max_length\":5}", 5},
                 {"{\"max_len\":4}", 4},
                 {"{\"max_len\":null}", 6},
                 {"{\"model_max_length\":5,\"max_len\":4}", 5},
                 {"{\"model_max_length\":null,\"max_len\":4}", 6}};
    clear_folder();
    write_file("vocab.txt", vocabulary);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char error[LONGEST_LINE] = "";
        write_file("tokenizer_config.json", cases[i].config);
        fff_tokenizer *tokenizer = open_folder(error, sizeof error);
        if (tokenizer == NULL) {
            fail_msg("%s: %s", cases[i].config, error);
        }
        for (size_t any = 0; any < 2; any++) {
            int32_t *ids;
            size_t count;
            assert_true(fff_tokenizer_encode(tokenizer, "the the the the", 15, MOST_IDS, &ids, &count));
            assert_int_equal(count, any ? 6 : cases[i].count);
            assert_int_equal(ids[count - 1], 3);
            free(ids);
            fff_tokenizer_any_length(tokenizer);
        }
        fff_tokenizer_close(tokenizer);
    }
}

/* Further special tokens, which are not parted and keep their letters. */
static void test_more_special_tokens(void **unused) {
    (void)unused;
    static const char *const configs[] = {"{\"additional_special_tokens\":[\"<S>\"]}",
                                          "{\"extra_special_tokens\":[\"the\",{\"content\":\"<S>\"}]}", "{}"};
    clear_folder();
    write_file("vocab.txt", "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nthe\n<S>\n");
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) {
        char error[LONGEST_LINE] = "";
        int32_t *ids;
        size_t count;
        write_file("tokenizer_config.json", configs[i]);
        fff_tokenizer *tokenizer = open_folder(error, sizeof error);
        if (tokenizer == NULL) {
            fail_msg("%s: %s", configs[i], error);
        }
        assert_true(fff_tokenizer_encode(tokenizer, "the<S>the", 9, MOST_IDS, &ids, &count));
        if (i < 2) {
            const int32_t expected[] = {2, 5, 6, 5, 3};
            assert_int_equal(count, 5);
            assert_memory_equal(ids, expected, sizeof expected);
        } else {
            assert_true(count > 5 && ids[2] == 1); /* "<" is unknown */
        }
        free(ids);
        fff_tokenizer_close(tokenizer);
    }
}

/* A tokenizer.json without added tokens: a class of BERT's has its special tokens nevertheless, as far as the
 * vocabulary has them and the config does not say otherwise. */
static void test_special_tokens_of_a_class(void **unused) {
    (void)unused;
    static const struct {
        const char *config;
        int32_t mask; /* in "the[MASK]": its id, or -1 where it is none */
    } cases[] = {{"{\"tokenizer_class\":\"BertTokenizer\"}", 2},
                 {"{\"tokenizer_class\":\"DistilBertTokenizerFast\"}", 2},
                 {"{\"tokenizer_class\":\"BertTokenizer\",\"mask_token\":null}", -1},
                 {"{\"tokenizer_class\":\"BertTokenizer\",\"mask_token\":\"the\"}", -1},
                 {"{\"tokenizer_class\":\"PreTrainedTokenizerFast\"}", -1},
                 {"{\"tokenizer_class\":\"PreTrainedTokenizerFast\",\"mask_token\":\"[MASK]\"}", 2},
                 {"{}", -1}};
    clear_folder();
    write_file("tokenizer.json",
               "{\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"[UNK]\",\"vocab\":{\"[UNK]\":0,\"the\":1,"
               "\"[MASK]\":2}},\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\"}}");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char error[LONGEST_LINE] = "";
        int32_t *ids;
        size_t count;
        write_file("tokenizer_config.json", cases[i].config);
        fff_tokenizer *tokenizer = open_folder(error, sizeof error);
        if (tokenizer == NULL) {
            fail_msg("%s: %s", cases[i].config, error);
        }
        assert_int_equal(fff_tokenizer_vocabulary(tokenizer), 3); /* nothing gets a new id */
        assert_true(fff_tokenizer_encode(tokenizer, "the[MASK]", 9, MOST_IDS, &ids, &count));
        assert_int_equal(count, cases[i].mask < 0 ? 4 : 2);
        assert_int_equal(ids[0], 1);
        assert_int_equal(ids[1], cases[i].mask < 0 ? 0 : cases[i].mask); /* [ is unknown */
        free(ids);
        fff_tokenizer_close(tokenizer);
    }
}

/* An added token is looked for in the text as it is if it is special, and else in the normalised text. */
static void test_added_special_tokens(void **unused) {
    (void)unused;
    for (size_t special = 0; special < 2; special++) {
        char error[LONGEST_LINE] = "";
        int32_t *ids;
        size_t count;
        clear_folder();
        write_file("vocab.txt", vocabulary);
        write_file("added_tokens.json", "{\"<X>\":7}");
        write_file("tokenizer_config.json", special ? "{\"additional_special_tokens\":[\"<s>\",\"<X>\"]}" : "{}");
        fff_tokenizer *tokenizer = open_folder(error, sizeof error);
        if (tokenizer == NULL) {
            fail_msg("%s", error);
        }
        assert_true(fff_tokenizer_encode(tokenizer, "<X> <x>", 7, MOST_IDS, &ids, &count));
        const int32_t expected[2][6] = {{2, 7, 7, 3}, {2, 7, 1, 1, 1, 3}}; /* <, x and > are unknown */
        assert_int_equal(count, special ? 6 : 4);
        assert_memory_equal(ids, expected[special], count * sizeof *ids);
        free(ids);
        fff_tokenizer_close(tokenizer);
    }
}

/* A tokenizer whose own path is short enough, and those of the files beside it are not. */
static void test_long_path(void **unused) {
    (void)unused;
    enum { LONGEST = 4096 };
    char *path = test_allocate(LONGEST, 1), error[LONGEST + LONGEST_LINE] = "";
    clear_folder();
    write_file("vocab.txt", vocabulary);
    size_t length = strlen(folder);
    memcpy(path, folder, length);
    while (length + 2 + sizeof "/vocab.txt" <= LONGEST) {
        memcpy(path + length, "/.", 2);
        length += 2;
    }
    memcpy(path + length, "/vocab.txt", sizeof "/vocab.txt");
    assert_null(fff_tokenizer_open(path, error, sizeof error));
    assert_non_null(strstr(error, "the path is longer than 4096 bytes"));
    free(path);
}

static int make_folder(void **unused) {
    (void)unused;
    return mkdtemp(folder) != NULL ? 0 : -1;
}

static int remove_folder(void **unused) {
    (void)unused;
    clear_folder();
    return rmdir(folder);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_recorded),
        cmocka_unit_test(test_config_refused),
        cmocka_unit_test(test_config_obeyed),
        cmocka_unit_test(test_most_ids),
        cmocka_unit_test(test_more_special_tokens),
        cmocka_unit_test(test_special_tokens_of_a_class),
        cmocka_unit_test(test_added_special_tokens),
        cmocka_unit_test(test_long_path),
    };
    test_start("test_tokenizer_recorded");
    return cmocka_run_group_tests_name("tokenizer_recorded", tests, make_folder, remove_folder);
}
