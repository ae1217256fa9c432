/* WordPiece tokenizers: what they read and refuse, and small texts whose ids are known. */
#include "bert/wordpiece.h"
#include "tests/support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ids are the lines' numbers, from 0. */
static const char vocabulary[] =
    "[PAD]\n[UNK]\n[CLS]\n[SEP]\n[MASK]\nun\n##aff\n##able\nhello\nworld\n!\n,\n##s\ncafe\n"
    "\xe4\xb8\x96\n\xe7\x95\x8c\na\n##a\n";
enum { PAD, UNK, CLS, SEP, MASK, UN, AFF, ABLE, HELLO, WORLD, BANG, COMMA, S, CAFE, SHI, JIE, A, AA };

static fff_tokenizer *read_tokenizer(const char *content) {
    char error[256] = "";
    fff_tokenizer *tokenizer = fff_tokenizer_read("name", content, strlen(content), error, sizeof error);
    if (tokenizer == NULL) {
        fail_msg("%s", error);
    }
    return tokenizer;
}

static void check_bytes(const fff_tokenizer *tokenizer, const char *text, size_t length, const int32_t *expected,
                        size_t expected_count) {
    int32_t *ids;
    size_t count;
    assert_true(fff_tokenizer_encode(tokenizer, text, length, 512, &ids, &count));
    assert_int_equal(count, expected_count);
    assert_memory_equal(ids, expected, count * sizeof *ids);
    free(ids);
}
#define CHECK(tokenizer, text, ...)                                                                                    \
    check_bytes(tokenizer, text, sizeof(text) - 1, (const int32_t[]){__VA_ARGS__},                                     \
                sizeof((const int32_t[]){__VA_ARGS__}) / sizeof(int32_t))

static void test_vocabulary(void **unused) {
    (void)unused;
    fff_tokenizer *t = read_tokenizer(vocabulary);
    assert_int_equal(fff_tokenizer_vocabulary(t), 18);
    assert_int_equal(fff_tokenizer_mask(t), MASK);
    assert_int_equal(fff_tokenizer_pad(t), PAD);
    assert_int_equal(fff_tokenizer_id(t, "##able"), ABLE);
    assert_int_equal(fff_tokenizer_id(t, "able"), -1);
    assert_string_equal(fff_tokenizer_piece(t, HELLO), "hello");
    assert_null(fff_tokenizer_piece(t, 18));
    assert_null(fff_tokenizer_piece(t, -1));
    CHECK(t, "", CLS, SEP);
    CHECK(t, " \t\r\n ", CLS, SEP);
    CHECK(t, "Hello, WORLD!", CLS, HELLO, COMMA, WORLD, BANG, SEP);
    CHECK(t, "unaffable unaffables", CLS, UN, AFF, ABLE, UN, AFF, ABLE, S, SEP);
    CHECK(t, "unaffably hello", CLS, UNK, HELLO, SEP);
    CHECK(t, "caf\xc3\xa9 cafe\xcc\x81 CAF\xc3\x89", CLS, CAFE, CAFE, CAFE, SEP);
    CHECK(t, "\xe4\xb8\x96\xe7\x95\x8c", CLS, SHI, JIE, SEP);
    CHECK(t, "hello[MASK]world", CLS, HELLO, MASK, WORLD, SEP);
    CHECK(t, "hel\xe2\x80\x8blo", CLS, HELLO, SEP); /* a format character is dropped */
    CHECK(t, "hello\xff!", CLS, HELLO, BANG, SEP);  /* no UTF-8 counts as U+FFFD, which is dropped too */
    fff_tokenizer_close(t);
    fff_tokenizer_close(NULL);
}

/* Texts are cut, never their frame. */
static void test_most_ids(void **unused) {
    (void)unused;
    fff_tokenizer *t = read_tokenizer(vocabulary);
    for (size_t most = 0; most < 8; most++) {
        int32_t *ids;
        size_t count;
        assert_true(fff_tokenizer_encode(t, "hello, world!", 13, most, &ids, &count));
        assert_true(count <= most);
        if (most >= 2) {
            assert_int_equal(count, most < 6 ? most : 6);
            assert_int_equal(ids[0], CLS);
            assert_int_equal(ids[count - 1], SEP);
        }
        free(ids);
    }
    fff_tokenizer_close(t);
}

/* A word of more than 100 characters is unknown. */
static void test_long_words(void **unused) {
    (void)unused;
    fff_tokenizer *t = read_tokenizer(vocabulary);
    char word[102];
    memset(word, 'a', sizeof word);
    int32_t *ids;
    size_t count;
    assert_true(fff_tokenizer_encode(t, word, 100, 512, &ids, &count));
    assert_int_equal(count, 102);
    assert_int_equal(ids[1], A);
    assert_int_equal(ids[2], AA);
    free(ids);
    check_bytes(t, word, 101, (const int32_t[]){CLS, UNK, SEP}, 3);
    fff_tokenizer_close(t);
}

#define JSON(model, rest)                                                                                              \
    "{\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"<unk>\"," model "},\"added_tokens\":[{\"id\":0,"               \
    "\"content\":\"<pad>\"},{\"id\":5,\"content\":\"<mask>\",\"lstrip\":true}]" rest "}"
#define MODEL "\"vocab\":{\"<pad>\":0,\"<unk>\":1,\"<sep>\":2,\"Hi\":3,\"hi\":4}"
#define TOKEN(id, content, flags) "{\"id\":" id ",\"content\":\"" content "\"" flags "}"
#define TOKENS(tokens)                                                                                                 \
    "{\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"<unk>\"," MODEL "},\"added_tokens\":[" tokens "]"
#define TEN "0123456789"
#define HUNDRED TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN
#define THOUSAND HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED HUNDRED
#define TEMPLATE                                                                                                       \
    ",\"pre_tokenizer\":{\"type\":\"WhitespaceSplit\"},\"post_processor\":{\"type\":\"TemplateProcessing\","           \
    "\"single\":"                                                                                                      \
    "[{\"Sequence\":{\"id\":\"A\",\"type_id\":0}},{\"SpecialToken\":{\"id\":\"<sep>\",\"type_id\":0}}],"               \
    "\"special_tokens\":{\"<sep>\":{\"id\":\"<sep>\",\"ids\":[2],\"tokens\":[\"<sep>\"]}}}"

static void test_json(void **unused) {
    (void)unused;
    fff_tokenizer *t = read_tokenizer(JSON(MODEL, TEMPLATE));
    assert_int_equal(fff_tokenizer_mask(t), 5);
    assert_int_equal(fff_tokenizer_pad(t), 0);
    assert_int_equal(fff_tokenizer_vocabulary(t), 6);
    CHECK(t, "Hi hi <mask> hI", 3, 4, 5, 1, 2);
    fff_tokenizer_close(t);
    t = read_tokenizer(JSON(MODEL, TEMPLATE ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":["
                                            "{\"type\":\"Replace\",\"pattern\":{\"String\":\"ho\"},\"content\":\"hi\"},"
                                            "{\"type\":\"Lowercase\"}]}"));
    CHECK(t, "Hi hi ho", 4, 4, 4, 2);
    fff_tokenizer_close(t);
}

/* Before added tokens are looked for, and character by character: a sigma at a word's end is like any other. */
/* Ids may have gaps, which cost nothing, and come in any order. */
static void test_sparse_ids(void **unused) {
    (void)unused;
    fff_tokenizer *t = read_tokenizer("{\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"<unk>\",\"vocab\":"
                                      "{\"hi\":16777215,\"<unk>\":7,\"##s\":70000}},\"pre_tokenizer\":{\"type\":"
                                      "\"WhitespaceSplit\"}}");
    assert_int_equal(fff_tokenizer_vocabulary(t), 16777216);
    assert_int_equal(fff_tokenizer_id(t, "hi"), 16777215);
    assert_string_equal(fff_tokenizer_piece(t, 70000), "##s");
    assert_string_equal(fff_tokenizer_piece(t, 16777215), "hi");
    assert_null(fff_tokenizer_piece(t, 0));
    assert_null(fff_tokenizer_piece(t, 70001));
    CHECK(t, "his ho hi", 16777215, 70000, 7, 16777215);
    fff_tokenizer_close(t);
}

static void test_lower_texts(void **unused) {
    (void)unused;
    fff_tokenizer *t =
        read_tokenizer("{\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"<unk>\",\"vocab\":{\"[MASK]\":0,\"<unk>\":1,"
                       "\"Hi\":3,\"hi\":4,\"\xc3\xa9\":5,\"\xcf\x83\xcf\x83\":6,\"i\xcc\x87\":7}},\"added_tokens\":["
                       "{\"id\":0,\"content\":\"[MASK]\"}],\"pre_tokenizer\":{\"type\":\"WhitespaceSplit\"}}");
    CHECK(t, "Hi hi [MASK] \xc3\x89 \xc3\xa9", 3, 4, 0, 1, 5);
    fff_tokenizer_lower_texts(t);
    CHECK(t, "Hi hi [MASK] \xc3\x89 \xc3\xa9", 4, 4, 1, 5, 5);
    CHECK(t, "\xce\xa3\xce\xa3 \xce\xa3\xcf\x82 \xc4\xb0", 6, 1, 7);
    fff_tokenizer_close(t);
}

/* What is JSON is known by its name, or by how it begins. */
static void test_which_file(void **unused) {
    (void)unused;
    char error[256] = "";
    fff_tokenizer *t = read_tokenizer(" \r\n\t" JSON(MODEL, ""));
    assert_int_equal(fff_tokenizer_mask(t), 5);
    fff_tokenizer_close(t);
    assert_null(fff_tokenizer_read("a/tokenizer.json", "version https", 13, error, sizeof error));
    assert_non_null(strstr(error, "a/tokenizer.json: line 1"));
    assert_null(fff_tokenizer_read("a/tokenizer.json", "", 0, error, sizeof error));
    assert_non_null(strstr(error, "a/tokenizer.json: line 1"));
    assert_null(fff_tokenizer_read("a/vocab.txt", "", 0, error, sizeof error));
    assert_string_equal(error, "a/vocab.txt: piece '[PAD]' is missing");
}

static void expect_refused(const char *content, size_t length, const char *expected) {
    char error[256] = "";
    assert_null(fff_tokenizer_read("name", content, length, error, sizeof error));
    assert_memory_equal(error, "name: ", 6);
    assert_null(strchr(error, '\n'));
    if (strstr(error, expected) == NULL) {
        fail_msg("'%s' should contain '%s'", error, expected);
    }
}

static void test_refuses(void **unused) {
    (void)unused;
    static const struct {
        const char *content, *expected;
    } cases[] = {
        {"", ""},
        {"{", "line 1"},
        {"{}", "model '' is not supported"},
        {"{\"model\":{\"type\":\"BPE\"}}", "model 'BPE' is not supported"},
        {JSON("\"vocab\":{}", ""), "lacks a vocab"},
        {JSON("\"vocab\":{\"a\":0}", ""), "unk_token '<unk>'"},
        {JSON("\"vocab\":{\"<unk>\":-1}", ""), ""},
        {JSON("\"vocab\":{\"<unk>\":1,\"a\":1}", ""), "pieces '<unk>' and 'a' both have id 1"},
        {JSON("\"vocab\":{\"<unk>\":99999999999}", ""), ""},
        {JSON("\"vocab\":{\"<unk>\":1.5}", ""), ""},
        {JSON(MODEL ",\"continuing_subword_prefix\":7", ""), "continuing_subword_prefix"},
        {JSON(MODEL ",\"max_input_chars_per_word\":-1", ""), "max_input_chars_per_word"},
        {JSON(MODEL, ",\"normalizer\":{\"type\":\"Precompiled\"}"), "normalizer 'Precompiled'"},
        {JSON(MODEL, ",\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"Regex\":\"a\"},\"content\":\"\"}"),
         "'Replace'"},
        {JSON(MODEL, ",\"pre_tokenizer\":{\"type\":\"ByteLevel\"}"), "pre_tokenizer 'ByteLevel'"},
        {JSON(MODEL, ",\"post_processor\":{\"type\":\"RobertaProcessing\"}"), "post_processor 'RobertaProcessing'"},
        {JSON(MODEL, ",\"post_processor\":{\"type\":\"BertProcessing\",\"cls\":[\"x\",9],\"sep\":[\"<sep>\",2]}"),
         "not in the vocabulary"},
        {JSON(MODEL, ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[]}"), "no text in it"},
        {JSON(MODEL, ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"A\","
                     "\"type_id\":1}}]}"),
         "part 0"},
        {JSON(MODEL, ",\"post_processor\":{\"type\":\"Sequence\",\"processors\":[]}"), "post_processor 'Sequence'"},
        {JSON(MODEL, ",\"version\":\"2.0\""), "version '2.0'"},
        {JSON(MODEL, ",\"extra\":1"), "'extra'"},
        {JSON(MODEL ",\"dropout\":0.1", ""), "'dropout'"},
        {JSON(MODEL, ",\"truncation\":{\"direction\":\"Left\"}"), "truncation with direction 'Left'"},
        {JSON(MODEL, ",\"padding\":{\"direction\":\"Left\"}"), "padding with direction 'Left'"},
        {JSON(MODEL, ",\"pre_tokenizer\":{\"type\":\"BertPreTokenizer\",\"x\":1}"), "'x'"},
        {JSON(MODEL, ",\"normalizer\":{\"type\":\"NFC\",\"x\":1}"), "'x'"},
        {JSON(MODEL, ",\"normalizer\":{\"type\":\"BertNormalizer\",\"x\":1}"), "'x'"},
        {JSON(MODEL, ",\"normalizer\":{\"type\":\"BertNormalizer\",\"lowercase\":1}"), "'lowercase'"},
        {JSON(MODEL, ",\"normalizer\":{\"type\":\"Nmt\"}"), "normalizer 'Nmt'"},
        {JSON(MODEL, ",\"normalizer\":{\"type\":\"Strip\",\"strip_left\":true}"), "'Strip' lacks"},
        {JSON(MODEL, ",\"normalizer\":{\"type\":\"Prepend\"}"), "'Prepend'"},
        {JSON(MODEL, ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[null]}"), "null"},
        {JSON(MODEL, ",\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"\",\"x\":1}"),
         "'x'"},
        {JSON(MODEL, ",\"normalizer\":{\"type\":\"Prepend\",\"prepend\":\"a\",\"x\":1}"), "'x'"},
        {JSON(MODEL, ",\"normalizer\":{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":true,\"x\":1}"), "'x'"},
        {JSON(MODEL, ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[],\"x\":1}"), "'x'"},
        {JSON(MODEL ",\"continuing_subword_prefix\":\"" TEN TEN TEN TEN TEN TEN "01234\"", ""),
         "continuing_subword_prefix is longer than 64 bytes"},
        {"{\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"<unk>\"," MODEL "},\"added_tokens\":{}}",
         "added_tokens is no array"},
        {TOKENS("7") "}", "added token 0 lacks a content or an id"},
        {TOKENS(TOKEN("7", "x", "")) "}", "'x' has id 7, and by the vocabulary 5"},
        {TOKENS(TOKEN("3", "<unk>", "")) "}", "'<unk>' has id 3, and by the vocabulary 1"},
        {TOKENS(TOKEN("5", "x", ",\"lstrip\":1")) "}", "'lstrip'"},
        {TOKENS(TOKEN("5", "x", ",\"other\":true")) "}", "'other'"},
        {TOKENS(TOKEN("5", "X", ",\"normalized\":true") "," TOKEN(
             "6", "x", ",\"normalized\":true")) ",\"normalizer\":{\"type\":\"Lowercase\"}}",
         "added tokens 'X' and 'x' are the same once normalised"},
        {TOKENS(TOKEN(
             "5", " ",
             ",\"normalized\":true")) ",\"normalizer\":{\"type\":\"Strip\",\"strip_left\":true,\"strip_right\":true}}",
         "added token ' ' is empty"},
        {TOKENS(TOKEN("5", "a",
                      ",\"normalized\":true")) ",\"normalizer\":{\"type\":\"Prepend\",\"prepend\":\"" THOUSAND THOUSAND
                                               "\"}}",
         "a text of 1 characters becomes longer than the 1088"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        expect_refused(cases[i].content, strlen(cases[i].content), cases[i].expected);
    }
    expect_refused("a\nb\na\n", 6, "piece 'a' has the ids 0 and 2");
    expect_refused("hello\nworld\n", 12, "'[PAD]' is missing");
    expect_refused("[UNK]\n\0\n", 8, "0 byte");
    expect_refused("[UNK]\nabc\xff\n", 11, "line 2 is no UTF-8");
}

/* Steps of a normalizer and tokens around a text are so many at most; one more is refused. */
static void test_most_of_each(void **unused) {
    (void)unused;
    enum { STEPS = 64, AROUND = 16 };
    char content[8192];
    for (size_t more = 0; more < 2; more++) {
        size_t length = (size_t)snprintf(content, sizeof content,
                                         "{\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"<unk>\"," MODEL
                                         "},\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[");
        for (size_t i = 0; i < STEPS + more; i++) {
            length +=
                (size_t)snprintf(content + length, sizeof content - length, "%s{\"type\":\"NFC\"}", i > 0 ? "," : "");
        }
        length += (size_t)snprintf(content + length, sizeof content - length, "]}}");
        if (more > 0) {
            expect_refused(content, length, "the normalizer has more than 64 steps");
        } else {
            fff_tokenizer_close(read_tokenizer(content));
        }
        length = (size_t)snprintf(
            content, sizeof content,
            "{\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"<unk>\"," MODEL
            "},\"post_processor\":{\"type\":\"TemplateProcessing\",\"special_tokens\":{\"<sep>\":{\"id\":"
            "\"<sep>\",\"ids\":[2],\"tokens\":[\"<sep>\"]}},\"single\":["
            "{\"Sequence\":{\"id\":\"A\",\"type_id\":0}}");
        for (size_t i = 0; i < AROUND + more; i++) {
            length += (size_t)snprintf(content + length, sizeof content - length,
                                       ",{\"SpecialToken\":{\"id\":\"<sep>\",\"type_id\":0}}");
        }
        length += (size_t)snprintf(content + length, sizeof content - length, "]}}");
        if (more > 0) {
            expect_refused(content, length, "more than 16 tokens are to stand on a side of each text");
        } else {
            fff_tokenizer_close(read_tokenizer(content));
        }
    }
}

/* ---- What costs too much --------------------------------------------------------------------- */

/* A text is no more than 64 times as long once it is normalised. */
static void test_normalized_length(void **unused) {
    (void)unused;
    static const char step[] = "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"aaaaaaaaaa\"}";
    char content[2048] = "", error[256] = "";
    for (size_t steps = 1; steps <= 8; steps++) {
        snprintf(content, sizeof content, "%s",
                 JSON(MODEL, ",\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":["));
        content[strlen(content) - 1] = '\0'; /* the brace */
        for (size_t i = 0; i < steps; i++) {
            snprintf(content + strlen(content), sizeof content - strlen(content), "%s%s", i > 0 ? "," : "", step);
        }
        snprintf(content + strlen(content), sizeof content - strlen(content), "]}}");
        fff_tokenizer *t = read_tokenizer(content);
        int32_t *ids;
        size_t count;
        bool ok = fff_tokenizer_try_encode(t, "a a", 3, 16, &ids, &count, error, sizeof error);
        assert_int_equal(ok, steps <= 2); /* 2 x 100 and 1, of 3 x 64 and 1024 */
        if (ok) {
            free(ids);
        } else {
            assert_string_equal(error,
                                "tokenizer: a text of 3 characters becomes longer than the 1216 that it may have");
            assert_false(fff_tokenizer_encode(t, "a a", 3, 16, &ids, &count));
        }
        fff_tokenizer_close(t);
    }
}

/* Long pieces, words and tokens take time in proportion; this would take hours otherwise. */
static void test_long_pieces(void **unused) {
    (void)unused;
    enum { LONG = 200000 };
    char *many = malloc(LONG + 1), *content = malloc(4 * LONG + 1000);
    memset(many, 'a', LONG);
    many[LONG] = '\0';
    snprintf(
        content, 4 * LONG + 1000,
        "{\"model\":{\"type\":\"WordPiece\",\"unk_token\":\"u\",\"max_input_chars_per_word\":1000000,\"vocab\":"
        "{\"u\":0,\"a\":1,\"##a\":2,\"%s\":3,\"##%s\":4}},\"added_tokens\":[" TOKEN(
            "5", "%sb", "") "],"
                            "\"normalizer\":{\"type\":\"Replace\",\"pattern\":{\"String\":\"%sc\"},\"content\":\"\"}}",
        many, many, many, many);
    fff_tokenizer *t = read_tokenizer(content);
    int32_t *ids;
    size_t count;
    assert_true(fff_tokenizer_encode(t, many, LONG, LONG, &ids, &count));
    assert_int_equal(count, 1);
    assert_int_equal(ids[0], 3);
    free(ids);
    assert_true(fff_tokenizer_encode(t, many, LONG - 1, LONG, &ids, &count));
    assert_int_equal(count, LONG - 1);
    assert_int_equal(ids[0], 1);
    assert_int_equal(ids[LONG - 2], 2);
    free(ids);
    many[LONG - 1] = 'd';
    assert_true(fff_tokenizer_encode(t, many, LONG, LONG, &ids, &count));
    assert_int_equal(count, 1);
    assert_int_equal(ids[0], 0);
    free(ids);
    fff_tokenizer_close(t);
    free(content);
    free(many);
}

/* ---- Damaged files --------------------------------------------------------------------------- */

/* Cut anywhere, and with any byte replaced, it is read or refused. */
static void test_damaged(void **unused) {
    (void)unused;
    const char *whole = JSON(MODEL, TEMPLATE);
    size_t length = strlen(whole), accepted = 0, refused = 0;
    char error[256];
    for (size_t cut = 0; cut < length; cut++) {
        expect_refused(whole, cut, "");
    }
    char *damaged = strdup(whole);
    uint64_t state = test_random("damaged");
    for (size_t i = 0; i < length; i++) {
        const char replacements[] = {'"', '{', '9', '\0', (char)0xff, (char)random_bits(&state)};
        for (size_t r = 0; r < sizeof replacements; r++) {
            damaged[i] = replacements[r];
            fff_tokenizer *t = fff_tokenizer_read("name", damaged, length, error, sizeof error);
            accepted += t != NULL;
            refused += t == NULL;
            fff_tokenizer_close(t);
        }
        damaged[i] = whole[i];
    }
    print_message("%zu damaged files refused, %zu read\n", refused, accepted);
    assert_true(refused > accepted);
    free(damaged);
}

/* Any bytes have ids within the vocabulary. */
static void test_any_bytes(void **unused) {
    (void)unused;
    fff_tokenizer *t = read_tokenizer(vocabulary);
    uint64_t state = test_random("bytes");
    for (size_t round = 0; round < 2000; round++) {
        char text[64];
        size_t length = random_below(&state, sizeof text + 1), count;
        for (size_t i = 0; i < length; i++) {
            text[i] = (char)random_bits(&state);
        }
        int32_t *ids;
        assert_true(fff_tokenizer_encode(t, text, length, 512, &ids, &count));
        for (size_t i = 0; i < count; i++) {
            assert_true(ids[i] >= 0 && ids[i] < 18);
        }
        free(ids);
    }
    fff_tokenizer_close(t);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vocabulary),        cmocka_unit_test(test_most_ids),
        cmocka_unit_test(test_long_words),        cmocka_unit_test(test_json),
        cmocka_unit_test(test_refuses),           cmocka_unit_test(test_which_file),
        cmocka_unit_test(test_damaged),           cmocka_unit_test(test_any_bytes),
        cmocka_unit_test(test_normalized_length), cmocka_unit_test(test_long_pieces),
        cmocka_unit_test(test_sparse_ids),        cmocka_unit_test(test_lower_texts),
        cmocka_unit_test(test_most_of_each),
    };
    test_start("test_tokenizer");
    return cmocka_run_group_tests_name("tokenizer", tests, NULL, NULL);
}
