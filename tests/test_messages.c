/* Messages that quote files: what a terminal may see, and where they are cut. */
#include "bert/report.h"
#include "tests/support.h"

#include <stdio.h>
#include <string.h>
#include <utf8proc.h>

static void check_escaped(const char *bytes, size_t length, const char *expected) {
    char text[128];
    fff_escape(text, sizeof text, bytes, length);
    assert_string_equal(text, expected);
}
#define ESCAPED(bytes, expected) check_escaped(bytes, sizeof(bytes) - 1, expected)

static void test_escapes(void **unused) {
    (void)unused;
    ESCAPED("", "");
    ESCAPED("plain \xc3\xa9 \xe4\xb8\x96 \xf0\x9f\x98\x80", "plain \xc3\xa9 \xe4\xb8\x96 \xf0\x9f\x98\x80");
    ESCAPED("\x1b[31m\n\r\t\x7f", "\\x1b[31m\\x0a\\x0d\\x09\\x7f");
    ESCAPED("a\0b", "a\\x00b");
    ESCAPED("\xc2\x80\xc2\x85\xc2\x9b"
            "31m\xc2\x9f\xc2\xa0",
            "\\u0080\\u0085\\u009b31m\\u009f\xc2\xa0");
    ESCAPED("\x9b"
            "31m",
            "\\x9b31m"); /* a C1 control as a byte */
    ESCAPED("\xe2\x80\xae"
            "abc\xe2\x81\xa6",
            "\\u202eabc\\u2066");                        /* right to left */
    ESCAPED("\xe2\x80\xa8", "\\u2028");                  /* ends a line */
    ESCAPED("\xc0\x80\xc1\xbf", "\\xc0\\x80\\xc1\\xbf"); /* overlong */
    ESCAPED("\xe0\x80\x80", "\\xe0\\x80\\x80");
    ESCAPED("\xed\xa0\x80", "\\xed\\xa0\\x80");          /* a surrogate */
    ESCAPED("\xf4\x90\x80\x80", "\\xf4\\x90\\x80\\x80"); /* beyond U+10FFFF */
    ESCAPED("\xff\xfe", "\\xff\\xfe");
    ESCAPED("\xe4\xb8", "\\xe4\\xb8"); /* cut */
}

/* Well-formed, printable, and no longer than told. */
static void check_message(const char *text, size_t size) {
    size_t length = strlen(text);
    assert_true(length < size);
    for (size_t at = 0; at < length;) {
        utf8proc_int32_t point;
        utf8proc_ssize_t used =
            utf8proc_iterate((const utf8proc_uint8_t *)text + at, (utf8proc_ssize_t)(length - at), &point);
        assert_true(used > 0);
        assert_true(point >= ' ' && (point < 0x7f || point > 0x9f));
        at += (size_t)used;
    }
}

static void test_any_size(void **unused) {
    (void)unused;
    static const char name[] = "\xe4\xb8\x96\xc2\x9b\xf0\x9f\x98\x80\xff\x1b\xc3\xa9";
    char text[96];
    for (size_t size = 1; size <= sizeof text; size++) {
        const struct fff_report report = {"a\xe4\xb8\x96/\x9b", text, size};
        memset(text, 'x', sizeof text);
        assert_false(FFF_FAIL(&report, "tensor '%s' of '%s'", name, name));
        check_message(text, size);
        for (size_t i = size; i < sizeof text; i++) {
            assert_int_equal(text[i], 'x');
        }
    }
    const struct fff_report nowhere = {"path", NULL, 0};
    assert_false(FFF_FAIL(&nowhere, "nothing"));
}

/* Longer than any buffer: cut before a character, wherever it falls. */
static void test_longest(void **unused) {
    (void)unused;
    static char name[3 * 5000 + 1], text[20000];
    for (size_t i = 0; i < 5000; i++) {
        memcpy(name + 3 * i, "\xe4\xb8\x96", 3);
    }
    for (size_t shift = 0; shift < 3; shift++) {
        const struct fff_report report = {&"abc"[shift], text, sizeof text};
        fff_report(&report, "%s", name);
        check_message(text, sizeof text);
        assert_null(strchr(text, '\\'));
        assert_true(strlen(text) > 8000);
    }
    /* A message may quote one that is in the same place already. */
    const struct fff_report report = {"outer", text, sizeof text};
    fff_report(&report, "inner");
    fff_report(&report, "line 1: %s", text);
    assert_string_equal(text, "outer: line 1: outer: inner");
}

static void test_shown(void **unused) {
    (void)unused;
    assert_int_equal(fff_shown("abc", 3, 20), 3);
    assert_int_equal(fff_shown("abc", 3, 2), 2);
    assert_int_equal(fff_shown("a\xe4\xb8\x96", 4, 3), 1);
    assert_int_equal(fff_shown("a\xe4\xb8\x96", 4, 4), 4);
    assert_int_equal(fff_shown("\xff\xff", 2, 1), 1);
    assert_int_equal(fff_shown("", 0, 1), 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_escapes),
        cmocka_unit_test(test_any_size),
        cmocka_unit_test(test_longest),
        cmocka_unit_test(test_shown),
    };
    test_start("test_messages");
    return cmocka_run_group_tests_name("messages", tests, NULL, NULL);
}
