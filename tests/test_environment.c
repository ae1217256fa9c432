/* The floating-point environment of CPUs that have no registers of their own in dispatch/fp_environment.h, tried on any
 * whose C library can unmask exceptions. x86-64's x87 traps as that of 32-bit x86 does. */
#include "config.h"
#undef FFF_ARCH_X86_64
#undef FFF_ARCH_ARM64
#define FFF_ARCH_X86_64 0
#define FFF_ARCH_ARM64 0
#include "dispatch/fp_environment.h"
#include "tests/support.h"

#if defined(__GLIBC__)

/* As a kernel may: division by zero, and what is inexact. x87 looks for traps when it multiplies. */
static void compute(void) {
    volatile float one = 1.0f, three = 3.0f, zero = 0.0f, quotient = one / three;
    volatile long double more = 2.0L;
    quotient = one / zero;
    more = more * more;
    (void)quotient;
}

/* The flags that a computation leaves behind which begins with `before`, in a caller's environment with these traps. */
static int flags_after(int traps, int before) {
    fenv_t usual;
    fegetenv(&usual);
    feclearexcept(FE_ALL_EXCEPT);
    feraiseexcept(before);
    if (feenableexcept(traps) < 0 || fegetexcept() != traps) {
        fesetenv(&usual);
        skip(); /* some CPUs have no traps */
    }
    fff_fp_environment callers = fff_fp_enter();
    compute();
    fff_fp_leave(callers);
    volatile long double more = 2.0L;
    more = more * more;
    int flags = fetestexcept(FE_ALL_EXCEPT), left = fegetexcept();
    fesetenv(&usual);
    assert_int_equal(left, traps);
    return flags;
}

/* Those of exceptions that do not trap. */
static void test_flags(void **unused) {
    (void)unused;
    assert_int_equal(flags_after(0, 0), FE_DIVBYZERO | FE_INEXACT);
    assert_int_equal(flags_after(0, FE_INVALID | FE_INEXACT), FE_DIVBYZERO | FE_INEXACT | FE_INVALID);
    assert_int_equal(flags_after(FE_OVERFLOW, 0), FE_DIVBYZERO | FE_INEXACT);
    assert_int_equal(flags_after(FE_DIVBYZERO, 0) & ~FE_DIVBYZERO, FE_INEXACT);
}

/* Nothing traps, neither inside nor when the caller computes on. */
static void test_traps(void **unused) {
    (void)unused;
    (void)flags_after(FE_DIVBYZERO | FE_INEXACT, 0);
    (void)flags_after(FE_DIVBYZERO, FE_INEXACT);
}

#else

static void test_flags(void **unused) {
    (void)unused;
    skip();
}
static void test_traps(void **unused) {
    (void)unused;
    skip();
}

#endif

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_flags),
        cmocka_unit_test(test_traps),
    };
    test_start("test_environment");
    return cmocka_run_group_tests_name("environment", tests, NULL, NULL);
}
