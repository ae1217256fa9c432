/* Any arguments to the functions that compute, for a small layer: a call is refused exactly if the header says so; a
 * refused one leaves the caller's memory as it was, any other one what it does not promise to write. */
#include "tests/fuzz/calls/calls.h"
#include "tests/fuzz/fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    enum { DOT_ROWS = FORWARD_FUNCTIONS, SUM_ROWS, VISITED, BACKWARD, ACTIVATE, DIFFERENTIATE, ADAM, ALL };
    enum { MOST_CALLS = 4 };
    struct choices choices = {data, size};
    static struct subject subject;
    arena_restore();
    make_subject(&choices, &subject);
    for (size_t i = 0; i < MOST_CALLS && (i == 0 || choices.left > 0); i++) {
        size_t function = choose(&choices, ALL);
        switch (function) {
        case DOT_ROWS: call_rows(&choices, &subject, false); break;
        case SUM_ROWS: call_rows(&choices, &subject, true); break;
        case VISITED: call_visited(&choices, &subject); break;
        case BACKWARD: call_backward(&choices, &subject); break;
        case ACTIVATE: call_activation(&choices, &subject, false); break;
        case DIFFERENTIATE: call_activation(&choices, &subject, true); break;
        case ADAM: call_adam(&choices, &subject); break;
        default: call_forward(&choices, &subject, (enum forward_function)function);
        }
    }
    fff_layer_destroy(subject.layer);
    return 0;
}
