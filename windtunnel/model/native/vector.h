// As many floats at once as the processor has in a register, in the vector extensions that GCC and
// Clang share. Activations that feed matrix products are `float` or `bf16`; sums are always float.
#pragma once
#include <cstdint>
#include <cstring>

#if defined(__AVX512F__)
constexpr int BYTES = 64;
#elif defined(__AVX__)
constexpr int BYTES = 32;
#else
constexpr int BYTES = 16;
#endif
constexpr int64_t LANES = BYTES / 4;
typedef float V __attribute__((vector_size(BYTES)));
typedef float V8 __attribute__((vector_size(32)));
typedef int32_t I __attribute__((vector_size(BYTES)));
typedef uint32_t U __attribute__((vector_size(BYTES)));
typedef uint16_t H __attribute__((vector_size(BYTES / 2)));

struct bf16 {
    uint16_t bits;
};

template <class To, class From>
inline To bits_of(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    std::memcpy(&to, &from, sizeof to);
    return to;
}

inline V widen(H half) { return bits_of<V>(__builtin_convertvector(half, U) << 16); }

// Round to nearest even, as torch does.
inline H narrow(V x) {
    U u = bits_of<U>(x);
    u += 0x7fffu + ((u >> 16) & 1u);
    return __builtin_convertvector(u >> 16, H);
}

template <class Vector = V>
inline Vector load(const float* p) {
    Vector x;
    std::memcpy(&x, p, sizeof x);
    return x;
}
template <class Vector = V>
inline Vector load(const bf16* p) {
    H x;
    std::memcpy(&x, p, sizeof x);
    return widen(x);
}
template <class Vector>
inline void store(float* p, Vector x) {
    std::memcpy(p, &x, sizeof x);
}
inline void store(bf16* p, V x) {
    H half = narrow(x);
    std::memcpy(p, &half, sizeof half);
}

inline V fill(float x) { return x - V{}; }  // x + 0 would be an addition: it turns -0 into 0

inline void store_one(float* p, float x) { *p = x; }
inline void store_one(bf16* p, float x) { p->bits = narrow(fill(x))[0]; }

// The last `n` of a row whose length is no multiple of the lanes; the others read as 0.
template <class T>
inline V load(const T* p, int64_t n) {
    if (n >= LANES) return load(p);
    T padded[LANES] = {};
    std::memcpy(padded, p, n * sizeof(T));
    return load(padded);
}
template <class T>
inline void store(T* p, V x, int64_t n) {
    if (n >= LANES) return store(p, x);
    T padded[LANES];
    store(padded, x);
    std::memcpy(p, padded, n * sizeof(T));
}

inline V max(V a, V b) { return a > b ? a : b; }

// Pairwise, so that no chain of sixteen additions has to be waited for.
template <class Op>
inline float reduce(V x, Op op) {
    float a[LANES];
    std::memcpy(a, &x, sizeof a);
    for (int64_t half = LANES / 2; half > 0; half /= 2)
        for (int64_t i = 0; i < half; i++) a[i] = op(a[i], a[i + half]);
    return a[0];
}
inline float sum(V x) {
    return reduce(x, [](float a, float b) { return a + b; });
}
inline float largest(V x) {
    return reduce(x, [](float a, float b) { return a > b ? a : b; });
}

// 2^round(x / ln 2) times a polynomial of the rest (Cephes' expf); relative error below 2e-7.
inline V exp(V x) {
    constexpr float ROUND = 12582912.0f;  // 1.5 x 2^23: adding it rounds to an integer
    x = x < -87.0f ? fill(-87.0f) : x;  // NaN compares as false, and stays NaN
    x = x > 88.0f ? fill(88.0f) : x;
    V n = (x * 1.44269504f + ROUND) - ROUND;
    V r = (x - n * 0.693359375f) - n * -2.12194440e-4f;
    V p = fill(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    return p * bits_of<V>((__builtin_convertvector(n, I) + 127) << 23);
}
