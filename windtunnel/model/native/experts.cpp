// The experts of one layer, forward and backward: the router's choice, and products over the tokens
// of each expert. Everything is float.
//
// M tokens, E experts, K experts of a token. Choice (m, k) has row `place[m K + k]` in the arrays
// that are sorted by expert, and expert e has the rows `start[e]` to `start[e + 1] - 1`, in the
// order of their tokens.
#include <cmath>

#include "vector.h"

extern "C" {

void product(float* c, int64_t ldc, const float* a_at, int64_t a_row, int64_t a_column,
             const float* b_at, int64_t b_row, int64_t b_column, int64_t rows, int64_t columns,
             int64_t depth, float alpha, bool add);

// `probability` (M, E) holds the router's products on entry, and probabilities on return. Of equal
// scores the first expert wins. `log_sum` (M) is ln Z of the logits; `entropy` is summed over tokens.
void route(float* probability, float factor, const float* bias, int64_t* chosen, float* gates,
           float* log_sum, int64_t* counts, int64_t* start, int64_t* place, float* entropy,
           int64_t tokens, int64_t experts, int64_t k, bool normalise) {
    std::memset(counts, 0, experts * sizeof(int64_t));
    double all = 0.0;
    for (int64_t m = 0; m < tokens; m++) {
        float* p = probability + m * experts;
        float top = -1e30f, total = 0.0f;
        for (int64_t e = 0; e < experts; e++) {
            p[e] *= factor;
            top = p[e] > top ? p[e] : top;
        }
        for (int64_t e = 0; e < experts; e++) total += p[e] = std::exp(p[e] - top);
        log_sum[m] = std::log(total) + top;
        float of_token = 0.0f;
        for (int64_t e = 0; e < experts; e++) {
            p[e] /= total;
            if (p[e] > 0.0f) of_token -= p[e] * std::log(p[e]);
        }
        all += of_token;
        float of_chosen = 0.0f;
        for (int64_t i = 0; i < k; i++) {
            int64_t best = -1;
            float highest = 0.0f;
            for (int64_t e = 0; e < experts; e++) {
                bool taken = false;
                for (int64_t j = 0; j < i; j++) taken |= chosen[m * k + j] == e;
                const float score = bias ? p[e] + bias[e] : p[e];
                if (!taken && (best < 0 || score > highest)) best = e, highest = score;
            }
            chosen[m * k + i] = best;
            counts[best]++;
            of_chosen += gates[m * k + i] = p[best];
        }
        if (normalise)
            for (int64_t i = 0; i < k; i++) gates[m * k + i] /= of_chosen;
    }
    *entropy = static_cast<float>(all);
    start[0] = 0;
    for (int64_t e = 0; e < experts; e++) start[e + 1] = start[e] + counts[e];
    int64_t next[experts];
    std::memcpy(next, start, experts * sizeof(int64_t));
    for (int64_t i = 0; i < tokens * k; i++) place[i] = next[chosen[i]]++;
}

// `gradient` (M, E) of the logits: from that of the gates, and from the router's own losses. With
// `shares` an expert's share of the update's choices, the balance loss is balance x E x the sum of
// share x mean probability; the other is z x the mean square of ln Z. Means are over the update.
void route_backward(const float* probability, const int64_t* chosen, const float* gates,
                    const float* dgates, const float* log_sum, const int64_t* counts,
                    const int64_t* is_fixed, const float* shares, const float* part, float balance,
                    float z, float* gradient, int64_t tokens, int64_t experts, int64_t k,
                    bool normalise) {
    const float of_token = *part / tokens;
    float share[experts];
    for (int64_t e = 0; e < experts; e++)
        share[e] = *is_fixed ? shares[e] : static_cast<float>(counts[e]) / (tokens * k);
    for (int64_t m = 0; m < tokens; m++) {
        const float* p = probability + m * experts;
        float* d = gradient + m * experts;
        float sum = 0.0f, mean = 0.0f, expected = 0.0f;
        for (int64_t i = 0; i < k; i++) {
            sum += p[chosen[m * k + i]];
            mean += gates[m * k + i] * dgates[m * k + i];
        }
        for (int64_t e = 0; e < experts; e++) {
            d[e] = 0.0f;
            expected += p[e] * share[e];
        }
        float along = 0.0f;  // sum of p x dp
        for (int64_t i = 0; i < k; i++) {
            const int64_t e = chosen[m * k + i];
            const float dp = normalise ? (dgates[m * k + i] - mean) / sum : dgates[m * k + i];
            d[e] = p[e] * dp;
            along += d[e];
        }
        for (int64_t e = 0; e < experts; e++) {
            const float own = balance * experts * (share[e] - expected) + 2.0f * z * log_sum[m];
            d[e] += p[e] * (own * of_token - along);
        }
    }
}

// The rows of tokens, by expert.
void gather(const float* x, const int64_t* place, float* gathered, int64_t tokens, int64_t k,
            int64_t width) {
    for (int64_t i = 0; i < tokens * k; i++)
        std::memcpy(gathered + place[i] * width, x + i / k * width, width * sizeof(float));
}

// out [+]= the sum over a token's choices of gate x row; a null gate is 1.
void combine(const float* rows, const int64_t* place, const float* gates, float* out, int64_t tokens,
             int64_t k, int64_t width, bool add) {
    for (int64_t m = 0; m < tokens; m++)
        for (int64_t i = 0; i < k; i++) {
            const float* row = rows + place[m * k + i] * width;
            const float gate = gates ? gates[m * k + i] : 1.0f;
            float* to = out + m * width;
            for (int64_t w = 0; w < width; w += LANES) {
                const V v = load(row + w) * gate;
                store(to + w, add || i ? load(to + w) + v : v);
            }
        }
}

// `rows` become gate x dx, and dgates factor x (dx . row).
void combine_backward(const float* dx, const int64_t* place, const float* gates, float factor,
                      float* rows, float* dgates, int64_t tokens, int64_t k, int64_t width) {
    for (int64_t m = 0; m < tokens; m++)
        for (int64_t i = 0; i < k; i++) {
            float* row = rows + place[m * k + i] * width;
            const float* d = dx + m * width;
            const float gate = gates[m * k + i];
            V along{};
            for (int64_t w = 0; w < width; w += LANES) {
                const V v = load(d + w);
                along += v * load(row + w);
                store(row + w, v * gate);
            }
            dgates[m * k + i] = factor * sum(along);
        }
}

// For each expert: out = rows x matrix, of its rows; `matrix` has any strides.
void products_of_rows(float* out, const float* rows, const float* matrix, int64_t of_expert,
                      int64_t row, int64_t column, const int64_t* start, int64_t experts,
                      int64_t columns, int64_t depth) {
    for (int64_t e = 0; e < experts; e++)
        product(out + start[e] * columns, columns, rows + start[e] * depth, depth, 1,
                matrix + e * of_expert, row, column, start[e + 1] - start[e], columns, depth, 1.0f,
                false);
}

// For each expert: gradient += factor x dout^T rows, over its rows.
void products_over_rows(float* gradient, const float* dout, const float* rows, float factor,
                        const int64_t* start, int64_t experts, int64_t out, int64_t in) {
    for (int64_t e = 0; e < experts; e++)
        product(gradient + e * out * in, in, dout + start[e] * out, 1, out, rows + start[e] * in, in,
                1, out, in, start[e + 1] - start[e], factor, true);
}
}
