#pragma once
#define INFINITY __builtin_inff()
#define NAN __builtin_nanf("")
#define isfinite(x) __builtin_isfinite(x)
#define isinf(x) __builtin_isinf(x)
#define isnan(x) __builtin_isnan(x)
#define signbit(x) __builtin_signbit(x)
float copysignf(float magnitude, float sign);
float fabsf(float x);
float fmaf(float a, float b, float c);
float fmaxf(float a, float b);
float fminf(float a, float b);
float nextafterf(float from, float to);
float rintf(float x);
float sqrtf(float x);
double fabs(double x);
double fmax(double a, double b);
double fmin(double a, double b);
double fma(double a, double b, double c);
double sqrt(double x);
double pow(double base, double exponent);
