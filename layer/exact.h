/* Exact routes: bounds of how far a narrow row's logit can be from the float32 row's (docs/numerics.md has the proof).
 */
#ifndef FFF_EXACT_H
#define FFF_EXACT_H

#include "layer/layer.h"

/* Fills in a layer's bounds, of each row and for all tokens, when its rows are packed. */
void fff_measure_rows(fff_layer *layer);

/* The bounds of a token. `quantised` is what its input became for int8 rows; NULL for others. */
struct fff_exact_token fff_measure_token(const fff_layer *layer, const float *input, const unsigned char *quantised);

#endif
