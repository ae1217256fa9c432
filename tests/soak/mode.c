#include "tests/soak/mode.h"

#include "tools/random.h"

#include <fenv.h>
#if defined __x86_64__
#include <xmmintrin.h>
#endif

struct mode mode_draw(uint64_t *state) {
    static const int ROUNDINGS[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    if (random_below(state, 2) == 0) {
        return (struct mode){FE_TONEAREST, false, false};
    }
    return (struct mode){ROUNDINGS[random_below(state, 4)], random_below(state, 2) == 0, random_below(state, 2) == 0};
}

#if defined __x86_64__
enum { FLUSH_BITS = 0x8040, STICKY_BITS = 0x3f, MASK_BITS = 0x1f80 };
static uint64_t control_word(void) {
    return _mm_getcsr() & ~(unsigned)STICKY_BITS;
}
static void flush_to_zero(void) {
    _mm_setcsr(_mm_getcsr() | FLUSH_BITS);
}
static void trap_all(void) {
    _mm_setcsr(_mm_getcsr() & ~(unsigned)(MASK_BITS | STICKY_BITS));
}
#elif defined __aarch64__
static uint64_t control_word(void) {
    uint64_t control;
    __asm__ volatile("mrs %0, fpcr" : "=r"(control));
    return control;
}
static void flush_to_zero(void) {
    uint64_t control = control_word() | (uint64_t)1 << 24;
    __asm__ volatile("msr fpcr, %0" : : "r"(control) : "memory");
}
static void trap_all(void) { /* which most of these CPUs cannot */
}
#else
static uint64_t control_word(void) {
    return (uint64_t)fegetround();
}
static void flush_to_zero(void) {
}
static void trap_all(void) {
}
#endif

uint64_t mode_enter(struct mode mode) {
    fesetround(mode.rounding);
    if (mode.flush) {
        flush_to_zero();
    }
    if (mode.trap) {
        trap_all();
    }
    return control_word();
}

bool mode_leave(uint64_t entered) {
    bool same = control_word() == entered;
    fesetenv(FE_DFL_ENV);
    return same;
}
