/* Files that others made: opened without waiting, looked at before they are read, small ones read whole. */
#ifndef FFF_BERT_FILE_H
#define FFF_BERT_FILE_H

#include "bert/report.h"

enum { FFF_LONGEST_PATH = 4096 };

/* path = "directory/name". False with a message about the directory if that is too long. */
bool fff_join_path(const char *directory, const char *name, char path[FFF_LONGEST_PATH], char *error,
                   size_t error_size);

/* Whether something of that name is there, be it a link to nothing. */
bool fff_exists(const char *path);

/* Whether a name in a file (of a shard, of a module) stays in the folder that it is meant for: relative, and without
 * "..". */
bool fff_stays_inside(const char *name);

/* Opens the report's file for reading; *size = its bytes. A descriptor to close(), or -1 with a message if it cannot be
 * opened or is no regular file. Never waits: a FIFO without a writer is refused like any other. */
int fff_open_file(const struct fff_report *report, size_t *size);

/* The content of the report's file, to free(), with a 0 byte after it; NULL with a message if it cannot be read, is no
 * regular file, is larger than `largest` bytes, or has another length than the system says. */
char *fff_read_file(const struct fff_report *report, size_t largest, size_t *length);

/* What a file of these bytes is, if it is of a kind that people take for something else: "a GGUF model". NULL if it is
 * of none that is known here. A few hundred bytes from its beginning will do. */
const char *fff_file_kind(const void *bytes, size_t size);

#endif
