/* The floating-point environment that kernels rely on: round to nearest, denormals kept, no traps.
 *
 * A caller may run with another (PyTorch's set_flush_denormal, code linked with -ffast-math, a
 * numerical program that rounds upwards), and rounding decides routes, so every task that runs
 * kernels enters this environment and leaves it again. When the caller's is already the right one,
 * as nearly always, that is one register read each way.
 *
 * Sticky exception flags add up: what was raised before stays, what the kernels raise is added, whatever the caller's
 * environment; but on CPUs other than x86-64 and AArch64 no flag that the caller traps. To hide what is raised would
 * take a register read and mostly a write at the end of each call. */
#ifndef FFF_FP_ENVIRONMENT_H
#define FFF_FP_ENVIRONMENT_H

#include "config.h"

#include <stdint.h>
#if FFF_ARCH_X86_64
#include <xmmintrin.h>
#elif !FFF_ARCH_ARM64
#include <fenv.h>
#endif

#if FFF_ARCH_X86_64

typedef uint32_t fff_fp_environment;

enum {
    FFF_MXCSR_FLAGS = 0x003f,  /* sticky exception flags */
    FFF_MXCSR_DEFAULT = 0x1f80 /* all exceptions masked, round to nearest, no FTZ, no DAZ */
};

static inline fff_fp_environment fff_fp_enter(void) {
    uint32_t callers = _mm_getcsr();
    if ((callers & ~(uint32_t)FFF_MXCSR_FLAGS) != FFF_MXCSR_DEFAULT) {
        _mm_setcsr(FFF_MXCSR_DEFAULT | (callers & FFF_MXCSR_FLAGS));
    }
    return callers;
}

static inline void fff_fp_leave(fff_fp_environment callers) {
    if ((callers & ~(uint32_t)FFF_MXCSR_FLAGS) != FFF_MXCSR_DEFAULT) {
        /* A flag that is written raises no exception, even if the caller has unmasked it. */
        _mm_setcsr(callers | (_mm_getcsr() & FFF_MXCSR_FLAGS));
    }
}

#elif FFF_ARCH_ARM64

typedef uint64_t fff_fp_environment; /* FPCR alone: the sticky flags are in FPSR, which nothing here touches */

static inline fff_fp_environment fff_fp_enter(void) {
    uint64_t callers;
    __asm__ volatile("mrs %0, fpcr" : "=r"(callers));
    if (callers != 0) {
        __asm__ volatile("msr fpcr, %0" : : "r"((uint64_t)0) : "memory");
    }
    return callers;
}

static inline void fff_fp_leave(fff_fp_environment callers) {
    if (callers != 0) {
        __asm__ volatile("msr fpcr, %0" : : "r"(callers) : "memory");
    }
}

#else

typedef fenv_t fff_fp_environment;

static inline fff_fp_environment fff_fp_enter(void) {
    fenv_t callers;
    fegetenv(&callers);
    fesetenv(FE_DFL_ENV);
    return callers;
}

static inline void fff_fp_leave(fff_fp_environment callers) {
    fexcept_t raised;
    int which = fetestexcept(FE_ALL_EXCEPT);
    fegetexceptflag(&raised, which);
    fesetenv(&callers);
#if defined(__GLIBC__)
    /* Set while it is unmasked, a flag of x87 traps at the next instruction, and a C library may refuse all flags then.
     * Elsewhere no function unmasks one. */
    which &= ~fegetexcept();
#endif
    fesetexceptflag(&raised, which); /* sets them without raising exceptions */
}

#endif
#endif
