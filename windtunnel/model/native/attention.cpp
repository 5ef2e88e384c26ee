// Causal attention, forward and backward, with RoPE and optional norms of queries and keys.
//
// Heads are float and padded to a multiple of 16 positions. The lanes of a vector are as many queries,
// so the softmax over keys needs no sum across lanes; keys beyond a block's last query are never
// touched. Every product is one kind of tile: rows of scalars times vectors, summed in registers.
//
// Axes: B sequences, T positions, P = T rounded up to 16, H query heads, G key-value heads, K head
// size, W = H x K.
#include "vector.h"

namespace {

constexpr int64_t PAD = 16;  // a multiple of every processor's LANES
constexpr int64_t ROWS = LANES < 8 ? LANES : 8;
constexpr int64_t LARGEST_HEAD = 512;  // decoder.py asks for no larger one

struct Shape {
    int64_t sequences, length, heads, kv_heads, head_dim;
    int64_t padded() const { return (length + PAD - 1) / PAD * PAD; }
    int64_t all_heads() const { return heads + 2 * kv_heads; }
    int64_t head_size() const { return padded() * head_dim; }
};

// sums[r] += a[r * row + l * step] * b[l * ldb ...], over l < n.
inline void tile(V (&sums)[ROWS], const float* a, int64_t row, int64_t step, const float* b,
                 int64_t ldb, int64_t n) {
    for (int64_t l = 0; l < n; l++) {
        V vector = load(b + l * ldb);
#pragma GCC unroll 8
        for (int64_t r = 0; r < ROWS; r++) sums[r] += a[r * row + l * step] * vector;
    }
}

// c[r * ldc ...] += the tile, for ROWS rows and `columns` columns.
inline void add_product(float* c, int64_t ldc, const float* a, int64_t row, int64_t step,
                        const float* b, int64_t ldb, int64_t n, int64_t columns) {
    for (int64_t k = 0; k < columns; k += LANES) {
        V sums[ROWS];
#pragma GCC unroll 8
        for (int64_t r = 0; r < ROWS; r++) sums[r] = load(c + r * ldc + k);
        tile(sums, a, row, step, b + k, ldb, n);
#pragma GCC unroll 8
        for (int64_t r = 0; r < ROWS; r++) store(c + r * ldc + k, sums[r]);
    }
}

// out[j][lane] = factor * keys[j] . query of the lane, for the first n keys; n is a multiple of ROWS.
inline void scores(float* out, const float* keys, const float* queries_KL, float factor, int64_t n,
                   int64_t head_dim) {
    for (int64_t j = 0; j < n; j += ROWS) {
        V sums[ROWS] = {};
        tile(sums, keys + j * head_dim, head_dim, 1, queries_KL, LANES, head_dim);
#pragma GCC unroll 8
        for (int64_t r = 0; r < ROWS; r++) store(out + (j + r) * LANES, sums[r] * factor);
    }
}

inline void transpose(float* out_KL, const float* block, int64_t head_dim) {
    for (int64_t i = 0; i < LANES; i++)
        for (int64_t k = 0; k < head_dim; k++) out_KL[k * LANES + i] = block[i * head_dim + k];
}

// Scores of future keys, which are -infinity; only the last LANES keys of a block hold any.
inline void mask(float* scores, int64_t first) {
    for (int64_t j = 1; j < LANES; j++)
        for (int64_t lane = 0; lane < j; lane++) scores[(first + j) * LANES + lane] = -1e30f;
}

// Pairs (k, k + K / 2) turn by the position's angle; `sign` -1 turns back. K / 2 is a multiple of 8.
inline void rotate(float* head, const float* cosine, const float* sine, float sign,
                   int64_t head_dim) {
    const int64_t half = head_dim / 2;
    for (int64_t k = 0; k < half; k += 8) {
        V8 a = load<V8>(head + k), b = load<V8>(head + half + k), c = load<V8>(cosine + k);
        V8 s = load<V8>(sine + half + k) * sign;
        store(head + k, a * c - b * s);
        store(head + half + k, b * c + a * s);
    }
}

float inverse_rms(const float* x, int64_t n, float eps) {
    V squares{};
    for (int64_t k = 0; k < n; k += LANES) squares += load(x + k) * load(x + k);
    return 1.0f / __builtin_sqrtf(sum(squares) / n + eps);
}

// Rows of `qkv` to float heads (B, H + 2G, P, K): queries and keys normed (if gains are given) and
// rotated, values as they are.
template <class T>
void split_heads(const T* qkv, const float* gain_q, const float* gain_k, float eps,
                 const float* cosine, const float* sine, float* heads, const Shape& s) {
    const int64_t K = s.head_dim;
    for (int64_t b = 0; b < s.sequences; b++)
        for (int64_t h = 0; h < s.all_heads(); h++, heads += s.head_size()) {
            const float* gain = h < s.heads ? gain_q : gain_k;
            for (int64_t t = 0; t < s.length; t++) {
                const T* from = qkv + ((b * s.length + t) * s.all_heads() + h) * K;
                float* to = heads + t * K;
                for (int64_t k = 0; k < K; k += LANES) store(to + k, load(from + k));
                if (h >= s.heads + s.kv_heads) continue;
                if (gain) {
                    const float r = inverse_rms(to, K, eps);
                    for (int64_t k = 0; k < K; k += LANES)
                        store(to + k, load(to + k) * r * load(gain + k));
                }
                rotate(to, cosine + t * K, sine + t * K, 1.0f, K);
            }
        }
}

// The reverse: gradients of heads to `dqkv`; gradients of the gains are added to.
template <class T>
void join_heads(float* dhead, const T* qkv, const float* gain, float eps, float* dgain,
                const float* cosine, const float* sine, bool rotated, T* dqkv, int64_t b, int64_t h,
                const Shape& s) {
    const int64_t K = s.head_dim;
    for (int64_t t = 0; t < s.length; t++) {
        const int64_t at = ((b * s.length + t) * s.all_heads() + h) * K;
        float* d = dhead + t * K;
        if (rotated) rotate(d, cosine + t * K, sine + t * K, -1.0f, K);
        if (rotated && gain) {
            float x[LARGEST_HEAD];
            for (int64_t k = 0; k < K; k += LANES) store(x + k, load(qkv + at + k));
            const float r = inverse_rms(x, K, eps);
            V along{};
            for (int64_t k = 0; k < K; k += LANES) {
                V xhat = load(x + k) * r;
                store(dgain + k, load(dgain + k) + load(d + k) * xhat);
                along += load(d + k) * load(gain + k) * xhat;
            }
            const float mean = sum(along) / K;
            for (int64_t k = 0; k < K; k += LANES)
                store(d + k, (load(d + k) * load(gain + k) - load(x + k) * (r * mean)) * r);
        }
        for (int64_t k = 0; k < K; k += LANES) store(dqkv + at + k, load(d + k));
    }
}

// HEAD is a head size that is worth its own code, since its loops unroll, or 0.
// `largest` and `inverse` (B, H, P): softmax = exp(score - largest) * inverse.
template <class T, int64_t HEAD>
void forward(const float* heads, float scale, float* largest, float* inverse, T* mixed,
             float* scratch, const Shape& s) {
    const int64_t K = HEAD ? HEAD : s.head_dim, P = s.padded();
    float* queries_KL = scratch;
    float* weights = queries_KL + K * LANES;
    float* block = weights + P * LANES;
    for (int64_t b = 0; b < s.sequences; b++)
        for (int64_t h = 0; h < s.heads; h++, largest += P, inverse += P) {
            const float* all = heads + b * s.all_heads() * s.head_size();
            const int64_t group = h / (s.heads / s.kv_heads);
            const float* q = all + h * s.head_size();
            const float* k = all + (s.heads + group) * s.head_size();
            const float* v = k + s.kv_heads * s.head_size();
            for (int64_t i = 0; i < P; i += LANES) {
                const int64_t n = i + LANES;
                transpose(queries_KL, q + i * K, K);
                scores(weights, k, queries_KL, scale, n, K);
                mask(weights, i);
                V top = load(weights), total{};
                for (int64_t j = 1; j < n; j++) top = max(top, load(weights + j * LANES));
                for (int64_t j = 0; j < n; j++) {
                    V p = exp(load(weights + j * LANES) - top);
                    store(weights + j * LANES, p);
                    total += p;
                }
                V over = 1.0f / total;
                store(largest + i, top);
                store(inverse + i, over);
                std::memset(block, 0, LANES * K * sizeof(float));
                for (int64_t r = 0; r < LANES; r += ROWS)
                    add_product(block + r * K, K, weights + r, 1, LANES, v, K, n, K);
                for (int64_t r = 0; r < LANES && i + r < s.length; r++)
                    for (int64_t c = 0; c < K; c += LANES)
                        store(mixed + ((b * s.length + i + r) * s.heads + h) * K + c,
                              load(block + r * K + c) * over[r]);
            }
        }
}

// dmixed is multiplied by `factor` on the way; dqkv is overwritten.
template <class T, int64_t HEAD>
void backward(const float* heads, const T* qkv, const T* dmixed, float factor, float scale,
              const float* gain_q, const float* gain_k, float eps, float* dgain_q, float* dgain_k,
              const float* cosine, const float* sine, const float* largest, const float* inverse,
              T* dqkv, float* scratch, const Shape& s) {
    const int64_t K = HEAD ? HEAD : s.head_dim, P = s.padded(), size = s.head_size();
    float* queries_KL = scratch;
    float* weights = queries_KL + K * LANES;
    float* dweights = weights + P * LANES;
    float* dout = dweights + P * LANES;
    float* dout_KL = dout + K * LANES;
    float* dq = dout_KL + K * LANES;
    float* dk = dq + size;
    float* dv = dk + size;
    const int64_t per_group = s.heads / s.kv_heads;
    for (int64_t b = 0; b < s.sequences; b++)
        for (int64_t g = 0; g < s.kv_heads; g++) {
            const float* all = heads + b * s.all_heads() * size;
            const float* k = all + (s.heads + g) * size;
            const float* v = k + s.kv_heads * size;
            std::memset(dk, 0, 2 * size * sizeof(float));
            for (int64_t h = g * per_group; h < (g + 1) * per_group; h++) {
                const float* q = all + h * size;
                const int64_t statistics = (b * s.heads + h) * P;
                std::memset(dq, 0, size * sizeof(float));
                for (int64_t i = 0; i < P; i += LANES) {
                    const int64_t n = i + LANES;
                    for (int64_t r = 0; r < LANES; r++)
                        for (int64_t c = 0; c < K; c += LANES)
                            store(dout + r * K + c,
                                  i + r < s.length
                                      ? load(dmixed + ((b * s.length + i + r) * s.heads + h) * K + c) *
                                            factor
                                      : V{});
                    transpose(queries_KL, q + i * K, K);
                    transpose(dout_KL, dout, K);
                    scores(weights, k, queries_KL, scale, n, K);
                    mask(weights, i);
                    scores(dweights, v, dout_KL, 1.0f, n, K);
                    V top = load(largest + statistics + i), over = load(inverse + statistics + i);
                    V along{};
                    for (int64_t j = 0; j < n; j++) {
                        V p = exp(load(weights + j * LANES) - top) * over;
                        store(weights + j * LANES, p);
                        along += p * load(dweights + j * LANES);
                    }
                    for (int64_t j = 0; j < n; j++)
                        store(dweights + j * LANES, load(weights + j * LANES) *
                                                        (load(dweights + j * LANES) - along) * scale);
                    for (int64_t j = 0; j < n; j += ROWS) {
                        add_product(dv + j * K, K, weights + j * LANES, LANES, 1, dout, K, LANES, K);
                        add_product(dk + j * K, K, dweights + j * LANES, LANES, 1, q + i * K, K,
                                    LANES, K);
                    }
                    for (int64_t r = 0; r < LANES; r += ROWS)
                        add_product(dq + (i + r) * K, K, dweights + r, 1, LANES, k, K, n, K);
                }
                join_heads(dq, qkv, gain_q, eps, dgain_q, cosine, sine, true, dqkv, b, h, s);
            }
            join_heads(dk, qkv, gain_k, eps, dgain_k, cosine, sine, true, dqkv, b, s.heads + g, s);
            join_heads(dv, qkv, gain_k, eps, dgain_k, cosine, sine, false, dqkv, b,
                       s.heads + s.kv_heads + g, s);
        }
}

}  // namespace

#define INSTANTIATE(T, NAME)                                                                       \
    void split_heads_##NAME(const T* qkv, const float* gain_q, const float* gain_k, float eps,     \
                            const float* cosine, const float* sine, float* heads, int64_t B,       \
                            int64_t T_, int64_t H_, int64_t G, int64_t K) {                        \
        split_heads(qkv, gain_q, gain_k, eps, cosine, sine, heads, Shape{B, T_, H_, G, K});        \
    }                                                                                              \
    void attention_##NAME(const float* heads, float scale, float* largest, float* inverse,         \
                          T* mixed, float* scratch, int64_t B, int64_t T_, int64_t H_, int64_t G,  \
                          int64_t K) {                                                             \
        const auto f = K == 16 ? forward<T, 16> : K == 64 ? forward<T, 64> : forward<T, 0>;        \
        f(heads, scale, largest, inverse, mixed, scratch, Shape{B, T_, H_, G, K});                 \
    }                                                                                              \
    void attention_backward_##NAME(                                                                \
        const float* heads, const T* qkv, const T* dmixed, float factor, float scale,              \
        const float* gain_q, const float* gain_k, float eps, float* dgain_q, float* dgain_k,       \
        const float* cosine, const float* sine, const float* largest, const float* inverse,        \
        T* dqkv, float* scratch, int64_t B, int64_t T_, int64_t H_, int64_t G, int64_t K) {        \
        const auto f = K == 16 ? backward<T, 16> : K == 64 ? backward<T, 64> : backward<T, 0>;     \
        f(heads, qkv, dmixed, factor, scale, gain_q, gain_k, eps, dgain_q, dgain_k, cosine, sine,  \
          largest, inverse, dqkv, scratch, Shape{B, T_, H_, G, K});                                \
    }

extern "C" {
INSTANTIATE(float, fp32)
INSTANTIATE(bf16, bf16)
}
