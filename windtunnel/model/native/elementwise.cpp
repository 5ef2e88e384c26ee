// What stands between the matrix products: embedding, RMSNorm, gated SiLU, cross-entropy, and AdamW.
// One pass over memory each, forward and backward.
//
// Rows of activations are tokens. `x` and `dx`, the residual stream and its gradient, are float; `T` is the type of
// whatever feeds a matrix product. Weight gradients are added to.
#include <cmath>

#include "vector.h"

namespace {

// A token whose prediction does not count is stored as its complement (marks.py).
int64_t token_id(int64_t token) { return token < 0 ? ~token : token; }

void embed_rows(const int64_t* rows, const float* table, float factor, float* x, int64_t sequences,
           int64_t length, int64_t width) {
    for (int64_t b = 0; b < sequences; b++)
        for (int64_t t = 0; t < length; t++, x += width) {
            const float* row = table + token_id(rows[b * (length + 1) + t]) * width;
            for (int64_t w = 0; w < width; w += LANES) store(x + w, load(row + w) * factor);
        }
}

void embed_rows_backward(const int64_t* rows, const float* dx, float factor, float* dtable,
                    int64_t sequences, int64_t length, int64_t width) {
    for (int64_t b = 0; b < sequences; b++)
        for (int64_t t = 0; t < length; t++, dx += width) {
            float* row = dtable + token_id(rows[b * (length + 1) + t]) * width;
            for (int64_t w = 0; w < width; w += LANES)
                store(row + w, load(row + w) + load(dx + w) * factor);
        }
}

// x_out = x + alpha * delta (delta may be null); normed = x_out / rms(x_out) * gain * factor.
template <class T>
void add_norm(const float* x, const T* delta, float alpha, const float* gain, float factor,
              float eps, float* x_out, T* normed, float* inverse, int64_t tokens, int64_t width) {
    for (int64_t m = 0; m < tokens; m++) {
        V squares{};
        for (int64_t w = 0; w < width; w += LANES) {
            V v = load(x + m * width + w);
            if (delta) v += load(delta + m * width + w) * alpha;
            store(x_out + m * width + w, v);
            squares += v * v;
        }
        float r = 1.0f / __builtin_sqrtf(sum(squares) / width + eps);
        inverse[m] = r;
        for (int64_t w = 0; w < width; w += LANES)
            store(normed + m * width + w, load(x_out + m * width + w) * load(gain + w) * (r * factor));
    }
}

// dx += gradient through the norm; `dx_cast` (may be null) receives dx as the next product reads it.
template <class T>
void norm_backward(const T* dnormed, const float* x, const float* gain, float factor,
                   const float* inverse, float* dx, T* dx_cast, float* dgain, int64_t tokens,
                   int64_t width) {
    for (int64_t m = 0; m < tokens; m++) {
        const float r = inverse[m];
        const int64_t row = m * width;
        V along{};
        for (int64_t w = 0; w < width; w += LANES) {
            V xhat = load(x + row + w) * r;
            V dn = load(dnormed + row + w) * factor;
            store(dgain + w, load(dgain + w) + dn * xhat);
            along += dn * load(gain + w) * xhat;
        }
        const float mean = sum(along) / width;
        for (int64_t w = 0; w < width; w += LANES) {
            V dn = load(dnormed + row + w) * load(gain + w) * factor;
            V d = load(dx + row + w) + (dn - load(x + row + w) * (r * mean)) * r;
            store(dx + row + w, d);
            if (dx_cast) store(dx_cast + row + w, d);
        }
    }
}

// hidden = silu(gate) * up, where a row of `gate_up` is gate then up.
template <class T>
void swiglu(const T* gate_up, T* hidden, int64_t tokens, int64_t ffn) {
    for (int64_t m = 0; m < tokens; m++, gate_up += 2 * ffn, hidden += ffn)
        for (int64_t f = 0; f < ffn; f += LANES) {
            const int64_t n = ffn - f;
            V gate = load(gate_up + f, n), up = load(gate_up + ffn + f, n);
            store(hidden + f, gate / (1.0f + exp(-gate)) * up, n);
        }
}

// gate_up becomes its own gradient; dhidden is multiplied by `factor` on the way.
template <class T>
void swiglu_backward(const T* dhidden, float factor, T* gate_up, int64_t tokens, int64_t ffn) {
    for (int64_t m = 0; m < tokens; m++, gate_up += 2 * ffn, dhidden += ffn)
        for (int64_t f = 0; f < ffn; f += LANES) {
            const int64_t n = ffn - f;
            V gate = load(gate_up + f, n), up = load(gate_up + ffn + f, n);
            V d = load(dhidden + f, n) * factor;
            V sigmoid = 1.0f / (1.0f + exp(-gate)), silu = gate * sigmoid;
            store(gate_up + f, d * up * (sigmoid + silu * (1.0f - sigmoid)), n);
            store(gate_up + ffn + f, d * silu, n);
        }
}

// -ln p(target); with `gradient`, logits become their own gradient times `factor`. `scratch` holds
// one row of float, its length rounded up to whole vectors.
template <class T>
inline double cross_entropy_row(int64_t target, T* logits, bool gradient, float* scratch,
                                int64_t vocab, float factor) {
    V highest = fill(-1e30f), exponentials{};
    for (int64_t v = 0; v < vocab; v += LANES) {
        store(scratch + v, load(logits + v, vocab - v));
        for (int64_t i = vocab; i < v + LANES; i++) scratch[i] = -1e30f;
        highest = max(highest, load(scratch + v));
    }
    const float top = largest(highest), logit = scratch[target];
    for (int64_t v = 0; v < vocab; v += LANES) {
        V e = exp(load(scratch + v) - top);
        store(scratch + v, e);
        exponentials += e;
    }
    const float all = sum(exponentials);
    if (gradient) {
        for (int64_t v = 0; v < vocab; v += LANES)
            store(logits + v, load(scratch + v) * (factor / all), vocab - v);
        const float rest = all - scratch[target];
        store_one(logits + target, -factor * (rest / all));
    }
    return std::log(static_cast<double>(all)) + top - logit;
}

// The sum over all predictions that count; the gradient of others is zero.
template <class T>
double cross_entropy(const int64_t* rows, T* logits, bool gradient, float* scratch,
                     int64_t sequences, int64_t length, int64_t vocab, float factor) {
    double total = 0.0;
    for (int64_t b = 0; b < sequences; b++)
        for (int64_t t = 0; t < length; t++, logits += vocab) {
            const int64_t target = rows[b * (length + 1) + t + 1];
            if (target >= 0)
                total += cross_entropy_row(target, logits, gradient, scratch, vocab, factor);
            else if (gradient)
                std::memset(logits, 0, vocab * sizeof(T));
        }
    return total;
}

// AdamW (Loshchilov and Hutter 2019, algorithm 2) as torch computes it, on gradients times `factor`,
// which are left at zero for the next update. `correction1` = 1 - beta1^t, `correction2` likewise.
void adamw_flat(float* weights, float* gradients, float* first, float* second, float factor, float lr,
                float beta1, float beta2, float eps, float weight_decay, float correction1,
                float correction2, int64_t size) {
    const float step = lr / correction1, root = 1.0f / __builtin_sqrtf(correction2);
    for (int64_t i = 0; i < size; i++) {
        const float g = gradients[i] * factor;
        const float m = first[i] + (1.0f - beta1) * (g - first[i]);
        const float v = beta2 * second[i] + (1.0f - beta2) * g * g;
        gradients[i] = 0.0f;
        first[i] = m;
        second[i] = v;
        weights[i] = weights[i] * (1.0f - lr * weight_decay) -
                     step * m / (__builtin_sqrtf(v) * root + eps);
    }
}

}  // namespace

#define INSTANTIATE(T, NAME)                                                                       \
    void add_norm_##NAME(const float* x, const T* delta, float alpha, const float* gain,           \
                         float factor, float eps, float* x_out, T* normed, float* inverse,         \
                         int64_t tokens, int64_t width) {                                          \
        add_norm(x, delta, alpha, gain, factor, eps, x_out, normed, inverse, tokens, width);       \
    }                                                                                              \
    void norm_backward_##NAME(const T* dnormed, const float* x, const float* gain, float factor,   \
                              const float* inverse, float* dx, T* dx_cast, float* dgain,           \
                              int64_t tokens, int64_t width) {                                     \
        norm_backward(dnormed, x, gain, factor, inverse, dx, dx_cast, dgain, tokens, width);       \
    }                                                                                              \
    void swiglu_##NAME(const T* gate_up, T* hidden, int64_t tokens, int64_t ffn) {                 \
        swiglu(gate_up, hidden, tokens, ffn);                                                      \
    }                                                                                              \
    void swiglu_backward_##NAME(const T* dhidden, float factor, T* gate_up, int64_t tokens,        \
                                int64_t ffn) {                                                     \
        swiglu_backward(dhidden, factor, gate_up, tokens, ffn);                                    \
    }                                                                                              \
    double cross_entropy_##NAME(const int64_t* rows, T* logits, bool gradient, float* scratch,     \
                                int64_t sequences, int64_t length, int64_t vocab, float factor) {  \
        return cross_entropy(rows, logits, gradient, scratch, sequences, length, vocab, factor);   \
    }

extern "C" {
void clear(float* x, int64_t size) { std::memset(x, 0, size * sizeof(float)); }
void embed(const int64_t* rows, const float* table, float factor, float* x,
                  int64_t sequences, int64_t length, int64_t width) {
    embed_rows(rows, table, factor, x, sequences, length, width);
}
void embed_backward(const int64_t* rows, const float* dx, float factor, float* dtable,
                           int64_t sequences, int64_t length, int64_t width) {
    embed_rows_backward(rows, dx, factor, dtable, sequences, length, width);
}
void adamw(float* weights, float* gradients, float* first, float* second, float factor, float lr,
           float beta1, float beta2, float eps, float weight_decay, float correction1,
           float correction2, int64_t size) {
    adamw_flat(weights, gradients, first, second, factor, lr, beta1, beta2, eps, weight_decay,
               correction1, correction2, size);
}
INSTANTIATE(float, fp32)
INSTANTIATE(bf16, bf16)
}
