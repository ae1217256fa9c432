/* CBLAS from a shared library that is loaded when it is first wanted: a command that computes nothing needs none, and
 * pays for none. OpenBLAS, or whatever library the environment's FFF_BLAS names. */
#ifndef FFF_BERT_BLAS_H
#define FFF_BERT_BLAS_H

#include <stddef.h>

/* The values that CBLAS fixes for its enumerations. */
enum { BLAS_ROW_MAJOR = 101, BLAS_NO_TRANS = 111, BLAS_TRANS = 112 };

/* What is used of it, with 32-bit integers: arguments as the reference CBLAS has them. */
struct fff_blas {
    void (*sgemm)(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a, int lda,
                  const float *b, int ldb, float beta, float *c, int ldc);
    void (*dgemm)(int order, int trans_a, int trans_b, int m, int n, int k, double alpha, const double *a, int lda,
                  const double *b, int ldb, double beta, double *c, int ldc);
    void (*sgemv)(int order, int trans, int m, int n, float alpha, const float *a, int lda, const float *x, int incx,
                  float beta, float *y, int incy);
    const char *file;    /* what was loaded */
    const char *version; /* "OpenBLAS 0.3.21 ..." as the library tells; NULL: it is not OpenBLAS */
    const char *kernels; /* whose kernels OpenBLAS has chosen, e.g. "Haswell"; NULL: it does not tell */
};

/* The library, loaded by the first call, and held to one thread, so that sums have one order; or NULL, with one line in
 * `error`. Every call gives the same answer. Thread-safe. It stays loaded. */
const struct fff_blas *fff_blas_load(char *error, size_t error_size);

/* The same after fff_blas_load() has succeeded, as it has for every open model. */
const struct fff_blas *fff_blas(void);

#endif
