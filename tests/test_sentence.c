/* What sentence-transformers keeps beside a model: what of it is read, and that every step and setting which is not
 * obeyed is refused by name. */
#include "bert/sentence.h"
#include "tests/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { HIDDEN_SIZE = 48 };

/* One line that begins with the file's name and says what is wrong. */
static void check_message(const char *json, const char *error, const char *name, const char *expected) {
    assert_null(strchr(error, '\n'));
    if (strncmp(error, name, strlen(name)) != 0 || strstr(error, expected) == NULL) {
        fail_msg("%s: '%s' should begin with '%s' and contain '%s'", json, error, name, expected);
    }
}

/* ---- modules.json ---------------------------------------------------------------------------------- */

#define MODULE(type, path) "{\"type\":\"sentence_transformers.models." type "\",\"path\":\"" path "\"}"
#define TRANSFORMER MODULE("Transformer", "")
#define POOLING MODULE("Pooling", "1_Pooling")
#define NORMALIZE MODULE("Normalize", "2_Normalize")

static bool read_modules(const char *json, bool *normalize, char folder[FFF_LONGEST_FOLDER], char error[256]) {
    return fff_sentence_read_modules("modules.json", json, strlen(json), normalize, folder, error, 256);
}

static void test_modules(void **unused) {
    (void)unused;
    char folder[FFF_LONGEST_FOLDER] = "", error[256] = "";
    bool normalize = true;
    assert_true(read_modules("[" TRANSFORMER "," POOLING "]", &normalize, folder, error));
    assert_false(normalize);
    assert_string_equal(folder, "1_Pooling");
    assert_true(read_modules("[" TRANSFORMER "," MODULE("Pooling", "pooling/mean") "," NORMALIZE "]", &normalize,
                             folder, error));
    assert_true(normalize);
    assert_string_equal(folder, "pooling/mean");
}

static void test_wrong_modules(void **unused) {
    (void)unused;
    static const struct {
        const char *json, *expected;
    } cases[] = {
        {"[", "line 1"},
        {"{}", "no list that begins with a Transformer and a Pooling"},
        {"[" TRANSFORMER "]", "no list that begins with a Transformer and a Pooling"},
        {"[" POOLING "," TRANSFORMER "]", "module 0 has the type \"sentence_transformers.models.Pooling\""},
        {"[" TRANSFORMER "," NORMALIZE "]", "module 1 has the type"},
        {"[" TRANSFORMER "," POOLING "," MODULE("Dense", "2_Dense") "]", "module 2 has the type"},
        {"[" TRANSFORMER "," POOLING "," POOLING "]", "module 2 has the type"},
        {"[" TRANSFORMER "," POOLING "," NORMALIZE "," MODULE("Dense", "3_Dense") "]", "module 3 has the type"},
        {"[" TRANSFORMER ",{\"path\":\"1_Pooling\"}]", "module 1 has the type"},
        {"[" TRANSFORMER ",{\"type\":7,\"path\":\"1_Pooling\"}]", "module 1 has the type 7"},
        {"[" TRANSFORMER "," MODULE("Pooling", "../1_Pooling") "]", "module 1 has the path \"../1_Pooling\""},
        {"[" TRANSFORMER "," MODULE("Pooling", "/1_Pooling") "]", "which is no folder inside the model's"},
        {"[" TRANSFORMER ",{\"type\":\"sentence_transformers.models.Pooling\"}]", "module 1 has the path"},
        {"[" MODULE("Transformer", "0_Transformer") "," POOLING "]", "module 0 has the path '0_Transformer'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char folder[FFF_LONGEST_FOLDER] = "", error[256] = "";
        bool normalize;
        if (read_modules(cases[i].json, &normalize, folder, error)) {
            fail_msg("%s is read", cases[i].json);
        }
        check_message(cases[i].json, error, "modules.json: ", cases[i].expected);
    }
}

/* A folder's name may have one byte less than there is room for. */
static void test_long_folder(void **unused) {
    (void)unused;
    for (size_t length = FFF_LONGEST_FOLDER - 1; length <= FFF_LONGEST_FOLDER; length++) {
        char name[FFF_LONGEST_FOLDER + 1] = "", json[1024], folder[FFF_LONGEST_FOLDER] = "", error[256] = "";
        bool normalize;
        memset(name, 'p', length);
        snprintf(json, sizeof json,
                 "[" TRANSFORMER ",{\"type\":\"sentence_transformers.models.Pooling\",\"path\":\"%s\"}]", name);
        assert_int_equal(read_modules(json, &normalize, folder, error), length < FFF_LONGEST_FOLDER);
        assert_string_equal(folder, length < FFF_LONGEST_FOLDER ? name : "");
    }
}

/* ---- The Pooling's config.json --------------------------------------------------------------------- */

static bool read_pooling(const char *json, fff_pooling *pooling, char error[256]) {
    return fff_sentence_read_pooling("config.json", json, strlen(json), HIDDEN_SIZE, pooling, error, 256);
}

static void test_pooling(void **unused) {
    (void)unused;
    static const struct {
        const char *json;
        fff_pooling expected;
    } cases[] = {
        {"{}", FFF_POOLING_MEAN},
        {"{\"word_embedding_dimension\":48}", FFF_POOLING_MEAN},
        {"{\"embedding_dimension\":48,\"pooling_mode\":\"mean\"}", FFF_POOLING_MEAN},
        {"{\"pooling_mode\":\"cls\"}", FFF_POOLING_CLS},
        {"{\"pooling_mode\":\"max\"}", FFF_POOLING_MAX},
        {"{\"pooling_mode\":[\"cls\"]}", FFF_POOLING_CLS},
        {"{\"pooling_mode_mean_tokens\":true,\"pooling_mode_cls_token\":false}", FFF_POOLING_MEAN},
        {"{\"pooling_mode_mean_tokens\":false,\"pooling_mode_cls_token\":true}", FFF_POOLING_CLS},
        {"{\"pooling_mode_mean_tokens\":false,\"pooling_mode_max_tokens\":true,\"pooling_mode_lasttoken\":false}",
         FFF_POOLING_MAX},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char error[256] = "";
        fff_pooling pooling = (fff_pooling)7;
        if (!read_pooling(cases[i].json, &pooling, error)) {
            fail_msg("%s: %s", cases[i].json, error);
        }
        assert_int_equal(pooling, cases[i].expected);
    }
}

static void test_wrong_pooling(void **unused) {
    (void)unused;
    static const struct {
        const char *json, *expected;
    } cases[] = {
        {"", "no JSON, but empty"},
        {"[]", "the file is no JSON object"},
        {"{\"word_embedding_dimension\":47}", "'word_embedding_dimension' is 47 where the model's hidden_size is 48"},
        {"{\"word_embedding_dimension\":\"48\"}", "'word_embedding_dimension' is \"48\""},
        {"{\"embedding_dimension\":48.0}", "'embedding_dimension' is 48.0"},
        {"{\"pooling_mode\":\"lasttoken\"}", "'pooling_mode' is \"lasttoken\""},
        {"{\"pooling_mode\":\"mean_sqrt_len_tokens\"}", "'pooling_mode' is \"mean_sqrt_len_tokens\""},
        {"{\"pooling_mode\":[\"mean\",\"cls\"]}", "'pooling_mode' is [\"mean\""},
        {"{\"pooling_mode\":[]}", "'pooling_mode' is []"},
        {"{\"pooling_mode\":null}", "'pooling_mode' is null"},
        {"{\"pooling_mode_cls_token\":1}", "'pooling_mode_cls_token' is 1 where true or false is expected"},
        {"{\"pooling_mode_cls_token\":true}", "'pooling_mode_mean_tokens' (by default) and 'pooling_mode_cls_token'"},
        {"{\"pooling_mode_mean_tokens\":true,\"pooling_mode_max_tokens\":true}",
         "'pooling_mode_mean_tokens' and 'pooling_mode_max_tokens' are both true"},
        {"{\"pooling_mode_mean_tokens\":false}", "no pooling mode is true"},
        {"{\"pooling_mode_mean_tokens\":false,\"pooling_mode_weightedmean_tokens\":true}",
         "pooling_mode_weightedmean_tokens is true; only"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char error[256] = "";
        fff_pooling pooling = (fff_pooling)7;
        if (read_pooling(cases[i].json, &pooling, error)) {
            fail_msg("%s is read", cases[i].json);
        }
        check_message(cases[i].json, error, "config.json: ", cases[i].expected);
        assert_int_equal(pooling, 7);
    }
}

/* ---- A folder with all of it ----------------------------------------------------------------------- */

static char directory[] = "/tmp/test_sentence_XXXXXX";
static const char *const files[] = {"modules.json",
                                    "1_Pooling/config.json",
                                    "sentence_bert_config.json",
                                    "config_sentence_transformers.json",
                                    "sentence_roberta_config.json",
                                    "sentence_distilbert_config.json",
                                    "sentence_camembert_config.json",
                                    "sentence_albert_config.json",
                                    "sentence_xlm-roberta_config.json",
                                    "sentence_xlnet_config.json"};
enum { MODULES, POOLING_CONFIG, TEXT_CONFIG, PROMPT_CONFIG, FIRST_SIBLING, FILES = FIRST_SIBLING + 6 };

static void path_of(size_t file, char path[256]) {
    snprintf(path, 256, "%s/%s", directory, files[file]);
}

/* The files of a folder; NULL: there is none. */
static void write_files(const char *const contents[FILES]) {
    for (size_t i = 0; i < FILES; i++) {
        char path[256];
        path_of(i, path);
        unlink(path);
        if (contents[i] != NULL) {
            FILE *file = fopen(path, "w");
            assert_non_null(file);
            assert_true(fputs(contents[i], file) >= 0);
            assert_int_equal(fclose(file), 0);
        }
    }
}

static fff_sentence open_folder(const char *const contents[FILES]) {
    char error[512] = "";
    fff_sentence sentence;
    memset(&sentence, 0x5a, sizeof sentence);
    write_files(contents);
    if (!fff_sentence_open(directory, HIDDEN_SIZE, &sentence, error, sizeof error)) {
        fail_msg("%s", error);
    }
    return sentence;
}

static void test_folder(void **unused) {
    (void)unused;
    const char *contents[FILES] = {NULL};
    fff_sentence sentence = open_folder(contents);
    assert_int_equal(sentence.pooling, FFF_POOLING_MEAN);
    assert_false(sentence.normalize);
    assert_int_equal(sentence.text_length, 0);
    assert_false(sentence.lower_case);
    contents[POOLING_CONFIG] = "{\"pooling_mode\":\"cls\"}";
    assert_int_equal(open_folder(contents).pooling, FFF_POOLING_CLS);
    contents[MODULES] = "[" TRANSFORMER "," POOLING "," NORMALIZE "]";
    contents[TEXT_CONFIG] = "{\"max_seq_length\":128,\"do_lower_case\":true}";
    contents[PROMPT_CONFIG] = "{\"prompts\":{\"query\":\"query: \"},\"default_prompt_name\":null}";
    sentence = open_folder(contents);
    assert_int_equal(sentence.pooling, FFF_POOLING_CLS);
    assert_true(sentence.normalize);
    assert_int_equal(sentence.text_length, 128);
    assert_true(sentence.lower_case);
    contents[TEXT_CONFIG] = "{\"max_seq_length\":null,\"do_lower_case\":null}";
    contents[PROMPT_CONFIG] = "{\"prompts\":{\"query\":\"\"},\"default_prompt_name\":\"query\"}";
    sentence = open_folder(contents);
    assert_int_equal(sentence.text_length, 0);
    assert_false(sentence.lower_case);
    contents[TEXT_CONFIG] = "{\"max_seq_length\":1}";
    assert_int_equal(open_folder(contents).text_length, 1);
    contents[TEXT_CONFIG] = "{\"max_seq_length\":65536}";
    assert_int_equal(open_folder(contents).text_length, 65536);
}

/* Settings that make no other embeddings, as files of several versions have them. */
static void test_harmless_settings(void **unused) {
    (void)unused;
    static const char *const settings[] = {
        "{\"max_seq_length\":256,\"do_lower_case\":false}",
        "{\"max_seq_length\":256,\"model_args\":{},\"tokenizer_args\":{},\"config_args\":null}",
        "{\"max_seq_length\":256,\"model_kwargs\":{\"trust_remote_code\":true},\"processing_kwargs\":{}}",
        ("{\"max_seq_length\":256,\"transformer_task\":\"feature-extraction\",\"module_output_name\":"
         "\"token_embeddings\",\"modality_config\":{\"text\":{\"method\":\"forward\",\"method_output_name\":"
         "\"last_hidden_state\"}}}"),
        ("{\"max_seq_length\":256,\"query_length\":32,\"document_length\":64,\"query_expansion\":null,"
         "\"unpad_inputs\":false,\"cache_dir\":\"x\",\"tokenizer_name_or_path\":null}"),
    };
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++) {
        const char *contents[FILES] = {NULL};
        contents[TEXT_CONFIG] = settings[i];
        contents[PROMPT_CONFIG] = "{\"__version__\":{\"sentence_transformers\":\"6.2.0\"},\"prompts\":{},"
                                  "\"default_prompt_name\":null,\"similarity_fn_name\":\"cosine\"}";
        assert_int_equal(open_folder(contents).text_length, 256);
    }
}

/* Other names of the file with the settings, in their order; one that says nothing is passed over. */
static void test_siblings(void **unused) {
    (void)unused;
    const char *contents[FILES] = {NULL};
    for (size_t i = FILES - 1; i >= FIRST_SIBLING; i--) {
        char lengths[FILES][64];
        snprintf(lengths[i], sizeof lengths[i], "{\"max_seq_length\":%zu}", i);
        contents[i] = lengths[i];
        assert_int_equal(open_folder(contents).text_length, i);
        contents[i] = "{\"max_seq_length\":99}";
    }
    contents[FIRST_SIBLING] = "{\"max_seq_length\":5}";
    contents[TEXT_CONFIG] = "{}";
    assert_int_equal(open_folder(contents).text_length, 5);
    contents[TEXT_CONFIG] = "{\"do_lower_case\":true}";
    assert_int_equal(open_folder(contents).text_length, 0);
}

static void test_wrong_folder(void **unused) {
    (void)unused;
    static const struct {
        size_t file;
        const char *content, *expected;
    } cases[] = {
        {MODULES, "[]", "no list"},
        {MODULES, "[" TRANSFORMER "," MODULE("Pooling", "elsewhere") "]", "modules.json names it, and it is not there"},
        {POOLING_CONFIG, "{\"pooling_mode\":\"first\"}", "'pooling_mode' is \"first\""},
        {TEXT_CONFIG, "[]", "the file is no JSON object"},
        {TEXT_CONFIG, "{", "line 1"},
        {TEXT_CONFIG, "{\"max_seq_length\":0}", "'max_seq_length' is 0"},
        {TEXT_CONFIG, "{\"max_seq_length\":-1}", "'max_seq_length' is -1"},
        {TEXT_CONFIG, "{\"max_seq_length\":65537}", "'max_seq_length' is 65537"},
        {TEXT_CONFIG, "{\"max_seq_length\":\"128\"}", "'max_seq_length' is \"128\""},
        {TEXT_CONFIG, "{\"max_seq_length\":128.0}", "'max_seq_length' is 128.0"},
        {TEXT_CONFIG, "{\"do_lower_case\":1}", "'do_lower_case' is 1 where true or false is expected"},
        {TEXT_CONFIG, "{\"processing_kwargs\":{\"text\":{\"max_length\":4}}}",
         "setting 'processing_kwargs' is {\"text\":{\"max_length\":4}}, which is not supported"},
        {TEXT_CONFIG, "{\"processor_kwargs\":{\"model_max_length\":4}}", "'processor_kwargs' is {\"model_max"},
        {TEXT_CONFIG, "{\"tokenizer_args\":{\"do_lower_case\":false}}", "'tokenizer_args' is"},
        {TEXT_CONFIG, "{\"model_kwargs\":{\"trust_remote_code\":true,\"x\":1}}", "'model_kwargs' is"},
        {TEXT_CONFIG, "{\"model_args\":{\"torch_dtype\":\"float16\"}}", "'model_args' is"},
        {TEXT_CONFIG, "{\"config_kwargs\":{\"hidden_act\":\"relu\"}}", "'config_kwargs' is"},
        {TEXT_CONFIG, "{\"config_args\":[]}", "'config_args' is []"},
        {TEXT_CONFIG, "{\"transformer_task\":\"fill-mask\"}", "'transformer_task' is \"fill-mask\""},
        {TEXT_CONFIG, "{\"module_output_name\":\"sentence_embedding\"}", "'module_output_name' is"},
        {TEXT_CONFIG,
         "{\"modality_config\":{\"text\":{\"method\":\"forward\",\"method_output_name\":\"pooler_output\"}}}",
         "'modality_config' is"},
        {TEXT_CONFIG, "{\"modality_config\":{\"image\":{\"method\":\"forward\"}}}", "'modality_config' is"},
        {TEXT_CONFIG, "{\"tokenizer_name_or_path\":\"bert-base-cased\"}", "'tokenizer_name_or_path' is"},
        {TEXT_CONFIG, "{\"max_seq_len\":4}", "setting 'max_seq_len' is 4, which is not supported"},
        {PROMPT_CONFIG, "{\"prompts\":{\"query\":\"query: \"},\"default_prompt_name\":\"query\"}",
         "'default_prompt_name' is 'query', which puts 'query: ' before texts"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const char *contents[FILES] = {"[" TRANSFORMER "," POOLING "]", "{}", "{}", "{}"};
        char error[512] = "", name[256];
        fff_sentence sentence;
        contents[cases[i].file] = cases[i].content;
        write_files(contents);
        if (fff_sentence_open(directory, HIDDEN_SIZE, &sentence, error, sizeof error)) {
            fail_msg("%s is read", cases[i].content);
        }
        path_of(cases[i].file, name);
        check_message(cases[i].content, error, strstr(cases[i].expected, "not there") != NULL ? directory : name,
                      cases[i].expected);
    }
}

/* A file that is there and cannot be read, as it is a folder; a path longer than any. */
static void test_unreadable(void **unused) {
    (void)unused;
    const char *contents[FILES] = {NULL};
    char error[512] = "", path[256], *longest = test_allocate(5001, 1);
    fff_sentence sentence;
    write_files(contents);
    path_of(TEXT_CONFIG, path);
    assert_int_equal(mkdir(path, 0700), 0);
    assert_false(fff_sentence_open(directory, HIDDEN_SIZE, &sentence, error, sizeof error));
    assert_int_equal(rmdir(path), 0);
    check_message("a folder", error, path, "");
    memset(longest, 'd', 5000);
    assert_false(fff_sentence_open(longest, HIDDEN_SIZE, &sentence, error, sizeof error));
    assert_non_null(strstr(error, "the path of its folder is too long: 5000 bytes"));
    free(longest);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_modules),           cmocka_unit_test(test_wrong_modules),
        cmocka_unit_test(test_long_folder),       cmocka_unit_test(test_pooling),
        cmocka_unit_test(test_wrong_pooling),     cmocka_unit_test(test_folder),
        cmocka_unit_test(test_harmless_settings), cmocka_unit_test(test_siblings),
        cmocka_unit_test(test_wrong_folder),      cmocka_unit_test(test_unreadable),
    };
    char path[256];
    if (mkdtemp(directory) == NULL || snprintf(path, sizeof path, "%s/1_Pooling", directory) < 0 ||
        mkdir(path, 0700) != 0) {
        perror(directory);
        return 1;
    }
    int failed = cmocka_run_group_tests_name("sentence", tests, NULL, NULL);
    const char *contents[FILES] = {NULL};
    write_files(contents);
    rmdir(path);
    rmdir(directory);
    return failed;
}
