/* fmaf(), for Windows: the one of mingw-w64's C library rounds twice. It takes the place of that one in whatever is
 * linked with this; the DLL does not export it.
 *
 * In double the product is exact, and the sum's error, by Knuth's two sums, is, too. A sum that is not exact becomes
 * the odd one of the two doubles around the exact value; rounded once more, to a float, that has the bits of the exact
 * value rounded ("When double rounding is odd", Boldo and Melquiond 2005: 53 bits are more than 24 + 1). */
#include <math.h>
#include <stdint.h>
#include <string.h>

float fmaf(float a, float b, float c) {
    double product = (double)a * (double)b, sum = product + (double)c;
    double added = sum - product;
    double error = (product - (sum - added)) + ((double)c - added);
    if (error > 0.0 || error < 0.0) { /* neither of an exact sum, nor of infinities and NaN */
        uint64_t bits;
        memcpy(&bits, &sum, sizeof bits);
        if ((bits & 1) == 0) {
            bits += (error > 0.0) == (sum > 0.0) ? 1u : UINT64_MAX; /* away from zero or towards it */
            memcpy(&sum, &bits, sizeof sum);
        }
    }
    return (float)sum;
}
