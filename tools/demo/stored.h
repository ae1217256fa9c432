/* The demo's layer with narrow weights. */
#ifndef FFF_TOOLS_DEMO_STORED_H
#define FFF_TOOLS_DEMO_STORED_H

#include "tools/files/layer_data.h"

/* Times the layer as it stores float32, bfloat16 and int8, side by side, on this core, and tells how far the outputs of
 * all tokens are off float32's. An exit status. */
int demo_stored(const struct layer_data *data, fff_isa isa);

#endif
