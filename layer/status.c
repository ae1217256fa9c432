#include "config.h"

#include <fff/fff.h>

const char *fff_status_text(fff_status status) {
    switch (status) {
    case FFF_OK: return "success";
    case FFF_ERROR_NULL_POINTER: return "a required pointer is NULL";
    case FFF_ERROR_STRUCT_SIZE: return "the description's struct_size does not fit this version of the library";
    case FFF_ERROR_SHAPE: return "a width or the number of trees is 0, or the depth is too large";
    case FFF_ERROR_OPTION: return "an option holds an unknown value";
    case FFF_ERROR_OVERFLOW: return "sizes are too large to address";
    case FFF_ERROR_STRIDE: return "a stride makes rows overlap";
    case FFF_ERROR_ALIGNMENT: return "a pointer is not aligned for its element type";
    case FFF_ERROR_OVERLAP: return "input, output or workspace share memory";
    case FFF_ERROR_WORKSPACE: return "the workspace is too small";
    case FFF_ERROR_NODE: return "a node index lies outside its tree, or a row's outside its matrix or out of order";
    case FFF_ERROR_ISA_UNKNOWN: return "no instruction set has that name";
    case FFF_ERROR_ISA_NOT_BUILT: return "the library was built without that instruction set";
    case FFF_ERROR_ISA_NOT_SUPPORTED: return "this machine does not support that instruction set";
    case FFF_ERROR_OUT_OF_MEMORY: return "out of memory";
    case FFF_ERROR_RUNNER: return "the runner did not run every task exactly once";
    case FFF_ERROR_SLEEF: return "the SLEEF library that is loaded returns other bits than the recorded ones";
    case FFF_ERROR_WEIGHT: return "a weight does not fit the type that the layer is to store";
    case FFF_ERROR_SCALE: return "scales are missing where weights are int8, or one is not positive and finite";
    case FFF_ERROR_NUMBER:
        return "a threshold or the factor of all activations is not finite, or a setting is out of range";
    case FFF_ERROR_PARTS: return "parts of the layer do not go together, or are too many";
    }
    return "unknown status";
}

const char *fff_version(void) {
    return FFF_VERSION_TEXT;
}

const char *fff_sleef_version(void) {
    return FFF_SLEEF_VERSION_TEXT;
}
