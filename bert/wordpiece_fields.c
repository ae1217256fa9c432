#include "bert/wordpiece_fields.h"

bool fff_json_flag(const json_t *object, const char *key, bool absent, const struct fff_report *report, bool *flag) {
    const json_t *value = json_object_get(object, key);
    *flag = value == NULL ? absent : json_is_true(value);
    return value == NULL || json_is_boolean(value) || FFF_FAIL(report, "'%s' is neither true nor false", key);
}

bool fff_json_token_rule(const json_t *object, bool normalized_if_absent, const struct fff_report *report,
                         struct fff_token_rule *rule) {
    return fff_json_flag(object, "single_word", false, report, &rule->single_word) &&
           fff_json_flag(object, "lstrip", false, report, &rule->takes_left_space) &&
           fff_json_flag(object, "rstrip", false, report, &rule->takes_right_space) &&
           fff_json_flag(object, "normalized", normalized_if_absent, report, &rule->normalized);
}
