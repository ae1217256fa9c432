/* Whole small files in memory. */
#ifndef FFF_BERT_FILE_H
#define FFF_BERT_FILE_H

#include "bert/report.h"

/* The content of the report's file, to free(), with a 0 byte after it; NULL with a message if it cannot be read, is no
 * regular file, or is larger than `largest` bytes. */
char *fff_read_file(const struct fff_report *report, size_t largest, size_t *length);

#endif
