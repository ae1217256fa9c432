/* All kernels for rows of one type. */
#ifndef FFF_KERNELS_GENERIC_ROWS_H
#define FFF_KERNELS_GENERIC_ROWS_H

#include "kernels/generic/accumulate.h"
#include "kernels/generic/add_roots.h"
#include "kernels/generic/descend.h"
#include "kernels/generic/node_dot.h"
#include "kernels/generic/roots.h"
#include "kernels/generic/two_levels.h"

#endif
