/* Structures of callers that may have been compiled with another version's header. */
#ifndef FFF_KNOWN_H
#define FFF_KNOWN_H

#include <stdbool.h>
#include <stddef.h>

/* Bytes that no version's structure will exceed: a larger size is an uninitialised one. */
enum { FFF_LARGEST_STRUCT = 4096 };

/* Whether a structure of `size` bytes, as it says itself, has no more than is possible, and nothing but zeros behind
 * the first `known` bytes: fields that the caller knows and this version does not are not set. */
static inline bool fff_rest_is_zero(const void *given, size_t size, size_t known) {
    for (size_t i = known; size <= FFF_LARGEST_STRUCT && i < size; i++) {
        if (((const unsigned char *)given)[i] != 0) {
            return false;
        }
    }
    return size <= FFF_LARGEST_STRUCT;
}

#endif
