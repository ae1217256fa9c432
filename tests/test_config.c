/* Model configurations: what is read, and that every setting which the forward pass does not know is refused by name.
 */
#include "bert/config.h"
#include "tests/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A crammed configuration with `extra` settings in arch, embedding and attention. Later keys may not repeat earlier
 * ones, so those that a test changes are parameters. */
#define ARCH_WIDTH(width, feedforward, heads, extra, embedding, attention)                                             \
    "{\"num_transformer_layers\":3,\"hidden_size\":48,\"norm_eps\":1e-12," feedforward ",\"embedding\":{"              \
    "\"vocab_size\":100,\"max_seq_length\":64,\"embedding_dim\":" width embedding "},\"attention\":{"                  \
    "\"num_attention_heads\":" heads attention "}" extra "}"
#define ARCH(feedforward, heads, extra, embedding, attention)                                                          \
    ARCH_WIDTH("48", feedforward, heads, extra, embedding, attention)
#define TREES "\"intermed_type\":\"fff\",\"intermed_size\":2,\"intermed_depth\":5"
#define PLAIN ARCH(TREES, "4", "", "", "")

#define HUGGING_FACE_EPS(eps, extra)                                                                                   \
    "{\"model_type\":\"bert\",\"num_hidden_layers\":6,\"hidden_size\":384,\"num_attention_heads\":12,"                 \
    "\"intermediate_size\":1536,\"vocab_size\":30522,\"max_position_embeddings\":512,\"type_vocab_size\":2,"           \
    "\"layer_norm_eps\":" eps extra "}"
#define HUGGING_FACE(extra) HUGGING_FACE_EPS("1e-12", extra)

static fff_bert_config read_config(const char *json) {
    char error[256] = "";
    fff_bert_config config;
    if (!fff_bert_config_read("some/config.json", json, strlen(json), &config, error, sizeof error)) {
        fail_msg("%s: %s", json, error);
    }
    return config;
}

static void check_crammed(const fff_bert_config *config) {
    assert_int_equal(config->family, FFF_BERT_CRAMMED);
    assert_int_equal(config->layers, 3);
    assert_int_equal(config->hidden_size, 48);
    assert_int_equal(config->heads, 4);
    assert_int_equal(config->vocabulary, 100);
    assert_int_equal(config->max_length, 64);
    assert_true(config->fast_feedforward);
    assert_int_equal(config->trees, 2);
    assert_int_equal(config->depth, 5);
    assert_int_equal(config->neurons, 2 * 63);
    assert_true(config->tied_decoder);
    assert_int_equal(config->labels, 0);
    assert_true(config->norm_eps == 1e-12);
}

static void test_nested_and_flat(void **unused) {
    (void)unused;
    fff_bert_config flat = read_config(PLAIN),
                    nested = read_config("{\"model_type\":\"crammedBERT\",\"arch\":" PLAIN "}");
    fff_bert_config unnamed = read_config("{\"arch\":" PLAIN ",\"vocab_size\":7}");
    check_crammed(&flat);
    check_crammed(&nested);
    check_crammed(&unnamed);
}

static void test_activations(void **unused) {
    (void)unused;
    assert_int_equal(read_config(PLAIN).activation, FFF_ACTIVATION_GELU);
    assert_int_equal(read_config(ARCH(TREES, "4", ",\"nonlin\":\"GELU\"", "", "")).activation, FFF_ACTIVATION_GELU);
    assert_int_equal(read_config(ARCH(TREES, "4", ",\"nonlin\":\"ReLU\"", "", "")).activation, FFF_ACTIVATION_RELU);
    assert_int_equal(read_config(ARCH(TREES, "4", ",\"nonlin\":\"SiLU\"", "", "")).activation, FFF_ACTIVATION_SILU);
    assert_int_equal(read_config(ARCH(TREES, "4", ",\"nonlin\":\"Identity\"", "", "")).activation,
                     FFF_ACTIVATION_IDENTITY);
}

static void test_dense_and_classifier(void **unused) {
    (void)unused;
    fff_bert_config dense =
        read_config(ARCH("\"intermed_type\":\"ff\",\"intermed_size\":96,\"intermed_depth\":0", "4", "", "", ""));
    assert_false(dense.fast_feedforward);
    assert_int_equal(dense.neurons, 96);
    assert_int_equal(dense.trees, 96); /* dense neurons are trees of depth 0 */
    assert_int_equal(dense.depth, 0);
    fff_bert_config classifier =
        read_config(ARCH(TREES, "4",
                         ",\"num_labels\":5,\"tie_weights\":false,\"classification_head\":{\"pooler\":\"avg\","
                         "\"include_ff_layer\":true,\"nonlin\":\"Tanh\",\"head_dim\":32}",
                         "", ""));
    assert_int_equal(classifier.labels, 5);
    assert_int_equal(classifier.head_width, 32);
    assert_false(classifier.tied_decoder);
}

static void test_hugging_face(void **unused) {
    (void)unused;
    fff_bert_config config = read_config(HUGGING_FACE(",\"hidden_act\":\"gelu\""));
    assert_int_equal(config.family, FFF_BERT_POST_NORM);
    assert_int_equal(config.layers, 6);
    assert_int_equal(config.heads, 12);
    assert_int_equal(config.neurons, 1536);
    assert_int_equal(config.trees, 1536);
    assert_int_equal(config.token_types, 2);
    assert_int_equal(config.max_length, 512);
    assert_false(config.fast_feedforward);
}

/* The oldest files name neither the model's type nor the norms' eps; newer ones name other activations. */
static void test_variants_of_hugging_face(void **unused) {
    (void)unused;
    fff_bert_config config =
        read_config("{\"architectures\":[\"BertForMaskedLM\"],\"num_hidden_layers\":6,\"hidden_size\":384,"
                    "\"num_attention_heads\":12,\"intermediate_size\":1536,\"vocab_size\":30522,"
                    "\"max_position_embeddings\":512,\"type_vocab_size\":2}");
    assert_int_equal(config.family, FFF_BERT_POST_NORM);
    assert_true(config.norm_eps == 1e-12);
    assert_int_equal(config.activation, FFF_ACTIVATION_GELU);
    assert_int_equal(config.text_length, 512);
    assert_true(config.tied_decoder);
    assert_false(read_config(HUGGING_FACE(",\"tie_word_embeddings\":false")).tied_decoder);
    assert_int_equal(read_config(HUGGING_FACE(",\"hidden_act\":\"relu\"")).activation, FFF_ACTIVATION_RELU);
    assert_int_equal(read_config(HUGGING_FACE(",\"hidden_act\":\"relu2\"")).activation, FFF_ACTIVATION_RELU2);
    assert_int_equal(read_config(HUGGING_FACE(",\"hidden_act\":\"silu\"")).activation, FFF_ACTIVATION_SILU);
    assert_int_equal(read_config(HUGGING_FACE(",\"hidden_act\":\"swish\"")).activation, FFF_ACTIVATION_SILU);
    assert_int_equal(read_config(HUGGING_FACE(",\"hidden_act\":\"gelu_new\"")).activation, FFF_ACTIVATION_GELU_TANH);
    assert_int_equal(read_config(HUGGING_FACE(",\"hidden_act\":\"gelu_pytorch_tanh\"")).activation,
                     FFF_ACTIVATION_GELU_TANH);
    assert_int_equal(read_config(HUGGING_FACE(",\"hidden_act\":\"linear\"")).activation, FFF_ACTIVATION_IDENTITY);
    read_config(HUGGING_FACE(",\"is_encoder_decoder\":false,\"quantization_config\":null,\"auto_map\":null"));
    read_config(HUGGING_FACE(",\"auto_map\":{\"AutoConfig\":\"a.b\",\"AutoModel\":null}"));
}

/* Refused with a one-line message that names the file and contains `expected`; the result untouched. */
static void expect_refused_bytes(const char *json, size_t length, const char *expected) {
    char error[256] = "";
    fff_bert_config config, before;
    memset(&config, 0x5a, sizeof config);
    before = config;
    assert_false(fff_bert_config_read("some/config.json", json, length, &config, error, sizeof error));
    assert_memory_equal(&config, &before, sizeof config);
    assert_memory_equal(error, "some/config.json: ", 18);
    assert_null(strchr(error, '\n'));
    if (strstr(error, expected) == NULL) {
        fail_msg("%s: '%s' should contain '%s'", json, error, expected);
    }
}
static void expect_refused(const char *json, const char *expected) {
    expect_refused_bytes(json, strlen(json), expected);
}

static void test_unsupported_settings(void **unused) {
    (void)unused;
    static const struct {
        const char *json, *named;
    } cases[] = {
        {ARCH(TREES, "4", ",\"norm\":\"RMSNorm\"", "", ""), "'norm' is \"RMSNorm\""},
        {ARCH(TREES, "4", ",\"norm_scheme\":\"post\"", "", ""), "'norm_scheme'"},
        {ARCH(TREES, "4", ",\"nonlin\":\"GLU\"", "", ""), "'nonlin' is \"GLU\""},
        {ARCH(TREES, "4", ",\"nonlin\":5", "", ""), "'nonlin' is 5"},
        {ARCH(TREES, "4", ",\"use_bias\":true", "", ""), "'use_bias' is true"},
        {ARCH(TREES, "4", ",\"decoder_bias\":true", "", ""), "'decoder_bias'"},
        {ARCH(TREES, "4", ",\"final_norm\":false", "", ""), "'final_norm'"},
        {ARCH(TREES, "4", ",\"skip_head_transform\":false", "", ""), "'skip_head_transform'"},
        {ARCH(TREES, "4", ",\"ffn_layer_frequency\":2", "", ""), "'ffn_layer_frequency' is 2"},
        {ARCH(TREES, "4", "", ",\"pos_embedding\":\"learned\"", ""), "'embedding.pos_embedding' is \"learned\""},
        {ARCH(TREES, "4", "", ",\"normalization\":false", ""), "'embedding.normalization'"},
        {ARCH(TREES, "4", "", ",\"stable_low_precision\":true", ""), "'embedding.stable_low_precision'"},
        {ARCH(TREES, "4", "", "", ",\"causal_attention\":true"), "'attention.causal_attention'"},
        {ARCH(TREES, "4", "", "", ",\"rotary_embedding\":true"), "'attention.rotary_embedding'"},
        {ARCH(TREES, "4", "", "", ",\"qkv_bias\":true"), "'attention.qkv_bias'"},
        {ARCH(TREES, "4", "", "", ",\"sequence_op\":\"exp\""), "'attention.sequence_op'"},
        {ARCH(TREES, "4", "", "", ",\"type\":\"flash\""), "'attention.type'"},
        {ARCH(TREES, "4", "", "", ",\"skip_output_projection\":true"), "'attention.skip_output_projection'"},
        {ARCH("\"intermed_type\":\"moe\",\"intermed_size\":2", "4", "", "", ""), "'intermed_type' is \"moe\""},
        {ARCH("\"intermed_type\":7,\"intermed_size\":2", "4", "", "", ""), "'intermed_type' is 7"},
        {HUGGING_FACE(",\"hidden_act\":\"quick_gelu\""), "'hidden_act' is \"quick_gelu\""},
        {HUGGING_FACE(",\"hidden_act\":null"), "'hidden_act' is null"},
        {HUGGING_FACE(",\"hidden_act\":{\"name\":\"gelu\"}"), "'hidden_act' is {"},
        {HUGGING_FACE(",\"architectures\":[\"JinaBertForMaskedLM\"]"), "'architectures' is [\"JinaBertForMaskedLM\"]"},
        {HUGGING_FACE(",\"architectures\":\"BertModel\""), "'architectures' is \"BertModel\""},
        {HUGGING_FACE(",\"tie_word_embeddings\":1"), "'tie_word_embeddings' is 1"},
        {HUGGING_FACE(",\"add_cross_attention\":true"), "'add_cross_attention'"},
        {HUGGING_FACE(",\"pruned_heads\":{\"0\":[1]}"), "'pruned_heads'"},
        {HUGGING_FACE(",\"position_embedding_type\":\"relative_key\""), "'position_embedding_type'"},
        {HUGGING_FACE(",\"is_decoder\":true"), "'is_decoder'"},
        {HUGGING_FACE(",\"is_encoder_decoder\":true"), "'is_encoder_decoder' is true; only false is supported"},
        {HUGGING_FACE(",\"quantization_config\":{\"bits\":4}"), "'quantization_config' is {\"bits\":4}"},
        {HUGGING_FACE(",\"auto_map\":{\"AutoConfig\":\"a.b\",\"AutoModel\":\"a.c\"}"), "own for 'AutoModel'"},
        {HUGGING_FACE(",\"auto_map\":{\"AutoModelForMaskedLM\":\"a.c\"}"), "own for 'AutoModelForMaskedLM'"},
        {"{\"model_type\":\"gpt2\"}", "'model_type' is 'gpt2'; only crammedBERT and bert are supported"},
        {"{\"model_type\":\"roberta\",\"num_hidden_layers\":1}", "'model_type' is 'roberta'"},
        {"{\"model_type\":\"distilbert\"}", "'model_type' is 'distilbert'"},
        {"{\"model_type\":7}", "'model_type' is 7 where a string is expected"},
        {"{\"model_type\":null}", "'model_type' is null where a string is expected"},
        {"{\"model_type\":[\"bert\"]}", "'model_type' is [\"bert\"] where a string is expected"},
        {"{\"model_type\":true,\"arch\":{}}", "'model_type' is true where a string is expected"},
        {"{\"hidden_size\":3}", "'model_type' is missing"},
        {"{}", "'model_type' is missing"},
        {ARCH(TREES, "4", ",\"num_labels\":3,\"classification_head\":{\"pooler\":\"cls\",\"head_dim\":8}", "", ""),
         "'classification_head.pooler'"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        expect_refused(cases[i].json, cases[i].named);
    }
}

static void test_wrong_values(void **unused) {
    (void)unused;
    static const struct {
        const char *json, *named;
    } cases[] = {
        {ARCH(TREES, "5", "", "", ""), "no multiple of the 5 attention heads"},
        {ARCH(TREES, "0", "", "", ""), "num_attention_heads"},
        {ARCH(TREES, "-4", "", "", ""), "num_attention_heads"},
        {ARCH(TREES, "4.0", "", "", ""), "num_attention_heads"},
        {ARCH(TREES, "\"4\"", "", "", ""), "num_attention_heads"},
        {ARCH(TREES, "99999999999", "", "", ""), "num_attention_heads"},
        {ARCH("\"intermed_type\":\"fff\",\"intermed_size\":0,\"intermed_depth\":5", "4", "", "", ""), "intermed_size"},
        {ARCH("\"intermed_type\":\"fff\",\"intermed_size\":1,\"intermed_depth\":31", "4", "", "", ""),
         "intermed_depth"},
        {ARCH("\"intermed_type\":\"fff\",\"intermed_size\":1,\"intermed_depth\":-1", "4", "", "", ""),
         "intermed_depth"},
        {ARCH("\"intermed_type\":\"fff\",\"intermed_size\":1000000,\"intermed_depth\":20", "4", "", "", ""),
         "1000000 trees of depth 20"},
        {ARCH("\"intermed_type\":\"fff\",\"intermed_size\":1", "4", "", "", ""), "intermed_depth"},
        {ARCH(TREES, "4", ",\"num_labels\":3", "", ""), "classification_head"},
        {ARCH(TREES, "4", ",\"num_labels\":-3", "", ""), "num_labels"},
        {"{\"arch\":3}", "'arch' is no JSON object"},
        {"{\"arch\":{}}", "num_transformer_layers"},
        {"[]", "the file is no JSON object"},
        {HUGGING_FACE_EPS("1.0", ""), "'layer_norm_eps' is 1.0 where a number from 0 to 1 is expected"},
        {HUGGING_FACE_EPS("-1e-12", ""), "'layer_norm_eps' is -"},
        {HUGGING_FACE_EPS("\"1e-12\"", ""), "'layer_norm_eps' is \"1e-12\""},
        {ARCH_WIDTH("32", TREES, "4", "", "", ""),
         "'embedding.embedding_dim' is 32; only hidden_size, 48, is supported"},
        {"{\"hidden_size\":1,\"hidden_size\":2}", "duplicate"},
        {"{", "line 1"},
        {"", "no JSON, but empty"},
        {"<html>", "no JSON, but an HTML page"},
        {" \t\r\n<!DOCTYPE html>", "no JSON, but an HTML page"},
        {"version https://git-lfs.github.com/spec/v1\n", "no JSON, but a Git LFS pointer"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        expect_refused(cases[i].json, cases[i].named);
    }
    expect_refused_bytes("{\"a\0\":1}", 8, "line 1");
}

/* A parser that recurses must not be led into the ground. */
static void test_depth(void **unused) {
    (void)unused;
    enum { LEVELS = 200000 };
    char *json = test_allocate(LEVELS, 1);
    memset(json, '[', LEVELS);
    expect_refused_bytes(json, LEVELS, "line 1");
    free(json);
}

/* Cut anywhere, it is an error. */
static void test_truncated(void **unused) {
    (void)unused;
    for (size_t length = 1; length + 1 < sizeof PLAIN; length++) {
        expect_refused_bytes(PLAIN, length, "line 1");
    }
}

/* Files that the system does not let be read as it says; and one that is too large, of which nothing is written. */
static void test_strange_files(void **unused) {
    (void)unused;
    char error[256] = "", path[] = "/tmp/test_config_XXXXXX";
    fff_bert_config config;
    if (access("/proc/self/status", R_OK) == 0 && access("/proc/self/mem", R_OK) == 0) {
        assert_false(fff_bert_config_open("/proc/self/status", &config, error, sizeof error));
        assert_string_equal(error, "/proc/self/status: more than the 0 bytes that the system says it has");
        assert_false(
            fff_bert_config_open("/proc/self/mem", &config, error, sizeof error)); /* its first page is not there */
        assert_string_equal(error, "/proc/self/mem: Input/output error");
    }
    int descriptor = mkstemp(path);
    assert_true(descriptor >= 0);
    assert_int_equal(ftruncate(descriptor, (1 << 22) + 1), 0);
    close(descriptor);
    assert_false(fff_bert_config_open(path, &config, error, sizeof error));
    unlink(path);
    assert_non_null(strstr(error, ": 4194305 bytes are more than the 4194304 that such a file may have"));
}

static void test_files(void **unused) {
    (void)unused;
    char error[256] = "";
    fff_bert_config config;
    assert_true(fff_bert_config_open(FFF_TEST_DATA "/bert_fff_3x4_cls/config.json", &config, error, sizeof error));
    assert_int_equal(config.trees, 3);
    assert_int_equal(config.depth, 4);
    assert_int_equal(config.labels, 5);
    assert_int_equal(config.head_width, 96);
    assert_false(fff_bert_config_open(FFF_TEST_DATA "/no.json", &config, error, sizeof error));
    assert_non_null(strstr(error, "/no.json: "));
    assert_false(fff_bert_config_open(FFF_TEST_DATA, &config, error, sizeof error)); /* a directory */
    assert_false(fff_bert_config_open("/dev/zero", &config, error, sizeof error));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_nested_and_flat),
        cmocka_unit_test(test_activations),
        cmocka_unit_test(test_dense_and_classifier),
        cmocka_unit_test(test_hugging_face),
        cmocka_unit_test(test_variants_of_hugging_face),
        cmocka_unit_test(test_unsupported_settings),
        cmocka_unit_test(test_wrong_values),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_truncated),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_strange_files),
    };
    test_start("test_config");
    return cmocka_run_group_tests_name("config", tests, NULL, NULL);
}
