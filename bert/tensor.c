/* The elements of tensors: whatever floating point a file holds, as float32. */
#include "bert/safetensors.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static float float_of_bits(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* binary16 to binary32, exactly. */
static float float_of_f16(uint16_t half) {
    uint32_t sign = (uint32_t)(half & 0x8000u) << 16, exponent = half >> 10 & 0x1f, fraction = half & 0x3ff;
    if (exponent == 0) { /* a multiple of 2^-24 */
        float magnitude = (float)fraction * 0x1p-24f;
        return sign != 0 ? -magnitude : magnitude;
    }
    if (exponent == 0x1f) { /* infinity or NaN */
        return float_of_bits(sign | 0x7f800000u | fraction << 13);
    }
    return float_of_bits(sign | (exponent + 127 - 15) << 23 | fraction << 13);
}

float fff_tensor_element(const fff_tensor *tensor, size_t index) {
    const unsigned char *data = tensor->data;
    uint16_t half;
    float single;
    double number;
    switch (tensor->type) {
    case FFF_TENSOR_F32: memcpy(&single, data + index * sizeof single, sizeof single); return single;
    case FFF_TENSOR_F64: memcpy(&number, data + index * sizeof number, sizeof number); return (float)number;
    case FFF_TENSOR_F16: memcpy(&half, data + index * sizeof half, sizeof half); return float_of_f16(half);
    case FFF_TENSOR_BF16:
        memcpy(&half, data + index * sizeof half, sizeof half);
        return float_of_bits((uint32_t)half << 16);
    case FFF_TENSOR_I8: return (float)((const signed char *)data)[index];
    default: return 0;
    }
}

bool fff_tensor_has_floats(const fff_tensor *tensor) {
    return tensor->type == FFF_TENSOR_F32 || tensor->type == FFF_TENSOR_F64 || tensor->type == FFF_TENSOR_F16 ||
           tensor->type == FFF_TENSOR_BF16;
}

bool fff_tensor_floats(const fff_tensor *tensor, fff_floats *floats) {
    *floats = (fff_floats){0};
    if (!fff_tensor_has_floats(tensor)) {
        return false;
    }
    if (tensor->type == FFF_TENSOR_F32 && (uintptr_t)tensor->data % _Alignof(float) == 0) {
        floats->values = tensor->data;
        return true;
    }
    size_t bytes;
    if (__builtin_mul_overflow(tensor->count, sizeof(float), &bytes)) {
        return false;
    }
    floats->owned = malloc(bytes > 0 ? bytes : 1);
    for (size_t i = 0; i < tensor->count && floats->owned != NULL; i++) {
        floats->owned[i] = fff_tensor_element(tensor, i);
    }
    floats->values = floats->owned;
    return floats->owned != NULL;
}

void fff_tensor_release(const fff_tensor *tensor) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    size_t before = (page - (uintptr_t)tensor->data % page) % page; /* bytes that lie in a page shared with others */
    if (tensor->bytes > before) {
        const unsigned char *begin = (const unsigned char *)tensor->data + before;
        size_t whole = (tensor->bytes - before) / page * page;
        (void)madvise((void *)begin, whole, MADV_DONTNEED);
    }
}
