/* A CBLAS for the tests of its loading, which tells of itself what the environment asks for: FAKE_BLAS_CONFIG and
 * FAKE_BLAS_CORE. Built without FAKE_BLAS_WHOLE it lacks a function. It computes as the definition says, slowly; but
 * where FAKE_BLAS_WRONG says so, the first value of each float32 result is far off ("far"), or its last bit another one
 * from call to call ("noise"). */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EXPORTED __attribute__((visibility("default")))
enum { NO_TRANS = 111 };

EXPORTED const char *openblas_get_config(void);
EXPORTED const char *openblas_get_corename(void);
EXPORTED void openblas_set_num_threads(int threads);
EXPORTED void cblas_sgemm(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a,
                          int lda, const float *b, int ldb, float beta, float *c, int ldc);
EXPORTED void cblas_dgemm(int order, int trans_a, int trans_b, int m, int n, int k, double alpha, const double *a,
                          int lda, const double *b, int ldb, double beta, double *c, int ldc);
#ifdef FAKE_BLAS_WHOLE
EXPORTED void cblas_sgemv(int order, int trans, int m, int n, float alpha, const float *a, int lda, const float *x,
                          int incx, float beta, float *y, int incy);
#endif

const char *openblas_get_config(void) {
    const char *config = getenv("FAKE_BLAS_CONFIG");
    return config != NULL ? config : "OpenBLAS 0.0.0 FAKE";
}

const char *openblas_get_corename(void) {
    const char *core = getenv("FAKE_BLAS_CORE");
    return core != NULL ? core : "unknown";
}

void openblas_set_num_threads(int threads) {
    (void)threads;
}

static void spoil(float *result) {
    static uint32_t calls;
    const char *wrong = getenv("FAKE_BLAS_WRONG");
    if (wrong != NULL && strcmp(wrong, "far") == 0) {
        *result += 1.0f;
    } else if (wrong != NULL) {
        uint32_t bits;
        memcpy(&bits, result, sizeof bits);
        bits ^= ++calls * 0x9e3779b1u >> 31;
        memcpy(result, &bits, sizeof bits);
    }
}

static ptrdiff_t at(int trans, int row, int column, int stride) {
    return trans == NO_TRANS ? (ptrdiff_t)row * stride + column : (ptrdiff_t)column * stride + row;
}

void cblas_sgemm(int order, int trans_a, int trans_b, int m, int n, int k, float alpha, const float *a, int lda,
                 const float *b, int ldb, float beta, float *c, int ldc) {
    (void)order;
    for (int i = 0; i < m; i++) {
        for (int j = 0; j < n; j++) {
            float sum = 0;
            for (int e = 0; e < k; e++) {
                sum += a[at(trans_a, i, e, lda)] * b[at(trans_b, e, j, ldb)];
            }
            float *to = c + (ptrdiff_t)i * ldc + j;
            *to = alpha * sum + (beta != 0 ? beta * *to : 0);
        }
    }
    spoil(c);
}

void cblas_dgemm(int order, int trans_a, int trans_b, int m, int n, int k, double alpha, const double *a, int lda,
                 const double *b, int ldb, double beta, double *c, int ldc) {
    (void)order;
    for (int i = 0; i < m; i++) {
        for (int j = 0; j < n; j++) {
            double sum = 0;
            for (int e = 0; e < k; e++) {
                sum += a[at(trans_a, i, e, lda)] * b[at(trans_b, e, j, ldb)];
            }
            double *to = c + (ptrdiff_t)i * ldc + j;
            *to = alpha * sum + (beta != 0 ? beta * *to : 0);
        }
    }
}

#ifdef FAKE_BLAS_WHOLE
void cblas_sgemv(int order, int trans, int m, int n, float alpha, const float *a, int lda, const float *x, int incx,
                 float beta, float *y, int incy) {
    (void)order;
    int results = trans == NO_TRANS ? m : n, terms = trans == NO_TRANS ? n : m;
    for (int i = 0; i < results; i++) {
        float sum = 0;
        for (int e = 0; e < terms; e++) {
            sum += a[at(trans, i, e, lda)] * x[(ptrdiff_t)e * incx];
        }
        float *to = y + (ptrdiff_t)i * incy;
        *to = alpha * sum + (beta != 0 ? beta * *to : 0);
    }
    spoil(y);
}
#endif
