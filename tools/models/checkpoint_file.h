/* Writing the files of a seeded model: whole or not at all. */
#ifndef FFF_TOOLS_MODELS_CHECKPOINT_FILE_H
#define FFF_TOOLS_MODELS_CHECKPOINT_FILE_H

#include "tools/models/checkpoint_tensors.h"

#include <stdint.h>

/* One line on stderr; false. */
bool checkpoint_complain(const char *what, const char *path);

/* One file, which did not exist, written beside its name and moved there when whole: the text, or, where that is NULL,
 * the tensors' header and values, drawn from the seed. False after a line on stderr. */
bool write_checkpoint_file(const char *directory, const char *name, const char *text, const struct tensor_plans *plans,
                           uint64_t seed);

#endif
