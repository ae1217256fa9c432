/* Large JSON objects member by member: jansson parses each key and each value on its own, so that memory is that of one
 * value and not of a tree of all, 40 bytes and more for each number.
 *
 *     fff_json_object(&walk);
 *     while (fff_json_key(&walk, &key) && key != NULL) { take fff_json_value(&walk, ...) or the object in it; }
 */
#ifndef FFF_BERT_JSON_WALK_H
#define FFF_BERT_JSON_WALK_H

#include "bert/report.h"

#include <jansson.h>

struct fff_json_walk {
    const struct fff_report *report;
    const char *what; /* stands in messages before the position: "header" */
    const char *text;
    size_t length;
    size_t position; /* of what comes next; set it to 0 */
};

/* The character that comes next, which begins a value: '{', '"' ...; 0 at the end of the text. */
char fff_json_peek(struct fff_json_walk *walk);

/* Goes into an object. False with a message if there is none. */
bool fff_json_object(struct fff_json_walk *walk);

/* The object's next key, to json_decref(); NULL: that was all, and the walk is behind the object. Its value, or the
 * object that is its value, must have been passed before the next key is asked for. False with a message. */
bool fff_json_key(struct fff_json_walk *walk, json_t **key);

/* A whole value of at most `largest` bytes, to json_decref(). NULL with a message that begins with `name`. */
json_t *fff_json_value(struct fff_json_walk *walk, const char *name, size_t largest);

/* Nothing may follow but blanks. False with a message. */
bool fff_json_end(struct fff_json_walk *walk);

#endif
