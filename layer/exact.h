/* Exact routes: narrow rows, with routes that are those of float32 rows for every input.
 *
 * A token goes down by its narrow rows. At its leaf each logit is compared with a bound of how far it can be from the
 * float32 row's (docs/numerics.md has the proof); where that does not decide, the float32 row's logit takes its place,
 * and if that one leads the other way, the token goes down again from there. So a token's results depend on nothing but
 * the token, and most float32 rows are never read; those that are, of several tokens, are fetched at once. */
#ifndef FFF_EXACT_H
#define FFF_EXACT_H

#include "layer/layer.h"

/* Of a token: its float32 input, and bounds of its norm and of that of its quantisation error. */
struct fff_exact_token {
    const float *input;
    float norm, error;
};

/* Fills in a part's bounds, of each row and for all tokens, when its rows are packed. */
void fff_measure_rows(struct fff_part *part);

/* The bounds of a token. `quantised` is what its input became for int8 rows; NULL for others. */
struct fff_exact_token fff_measure_token(const struct fff_part *part, const float *input,
                                         const unsigned char *quantised);

/* Asks for the float32 rows that a token needs which has gone down `trees` of a part's trees, from `first` on. Returns
 * whether it needs any: else its logits and nodes are settled as they are. */
bool fff_fetch_undecided(const struct fff_part *part, size_t first, size_t trees, const struct fff_exact_token *token,
                         const uint32_t *nodes, const float *logits);

/* Settles its logits and nodes. `input` is as its narrow rows meet it. */
void fff_settle(const struct fff_part *part, size_t first, size_t trees, const struct fff_exact_token *token,
                const void *input, uint32_t *nodes, float *logits);

#endif
