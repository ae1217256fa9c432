#ifndef FFF_KERNELS_GENERIC_ROW_H
#define FFF_KERNELS_GENERIC_ROW_H

#include "kernels/half.h"
#include "kernels/row.h"

/* One weight of a row, as a float; of an I8 row without its scale. */
static inline float weight_of(const unsigned char *row, size_t column) {
    switch (ROW_TYPE) {
    case FFF_WEIGHT_BF16: return fff_widen_bf16(fff_load_u16(row + 2 * fff_bf16_place(column)));
    case FFF_WEIGHT_F16: return fff_widen_f16(fff_load_u16(row + 2 * column));
    case FFF_WEIGHT_I8: return (float)(int8_t)row[column];
    case FFF_WEIGHT_F32: break;
    }
    float weight;
    memcpy(&weight, row + 4 * column, sizeof weight);
    return weight;
}

#endif
