/* The numbers that a layer of narrow rows stores, found by the definitions of their types rather than by the library's
 * code: what the proofs of `fff verify` are about. */
#ifndef FFF_TOOLS_DENSE_STORED_NUMBERS_H
#define FFF_TOOLS_DENSE_STORED_NUMBERS_H

#include "tools/files/layer_data.h"

/* A float32 number rounded to BF16 or F16, to nearest, ties to even; infinite where it is too large. F32: itself. */
float round_to_type(fff_weight_type type, float value);

/* The same layer with the numbers that layer_data_desc() has it store, as float32, or as integers with scales; all else
 * is shared with `data`, which must stay. 0, or -1 when out of memory, with nothing to free. */
int stored_numbers_make(struct layer_data *stored, const struct layer_data *data);
void stored_numbers_free(struct layer_data *stored);

#endif
