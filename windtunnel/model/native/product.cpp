// Matrix products for one core: C = [C +] alpha A B, A and B with any strides, C's rows contiguous.
//
// A block of C stays in registers while the depth runs; a panel of B, as wide as the block and at
// most DEPTH deep, stays in the nearest cache while all rows of A pass by. B is only packed
// where it is transposed or its columns do not fill whole vectors: the shapes here are small.
#include "vector.h"

namespace {

constexpr int64_t DEPTH = 256;  // measured; half of it where A is read across its rows
// Registers that hold C: 24 of AVX-512's 32, 12 of AVX2's 16, 24 of NEON's 32.
constexpr int ROWS = LANES == 16 ? 8 : 6, VECTORS = LANES == 16 ? 3 : LANES == 8 ? 2 : 4;

struct Matrix {
    const float* at;
    int64_t row, column;  // strides
};

// R rows and N vectors of C, of whose last vector `last` columns are stored.
template <int R, int N>
inline void block(float* c, int64_t ldc, const float* a, int64_t row, int64_t step, const float* b,
                  int64_t ldb, int64_t depth, float alpha, bool add, int64_t last) {
    V sums[R][N] = {};
    for (int64_t l = 0; l < depth; l++) {
        V vectors[N];
#pragma GCC unroll 4
        for (int n = 0; n < N; n++) vectors[n] = load(b + l * ldb + n * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < R; r++) {
            const V scalar = fill(a[r * row + l * step]);
#pragma GCC unroll 4
            for (int n = 0; n < N; n++) sums[r][n] += scalar * vectors[n];
        }
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; r++)
#pragma GCC unroll 4
        for (int n = 0; n < N; n++) {
            float* to = c + r * ldc + n * LANES;
            const int64_t columns = n == N - 1 ? last : LANES;
            const V sum = sums[r][n] * alpha;
            store(to, add ? sum + load(to, columns) : sum, columns);
        }
}

template <int N>
void panel(float* c, int64_t ldc, Matrix a, const float* b, int64_t ldb, int64_t rows, int64_t depth,
           float alpha, bool add, int64_t last) {
    int64_t i = 0;
    for (; i + ROWS <= rows; i += ROWS)
        block<ROWS, N>(c + i * ldc, ldc, a.at + i * a.row, a.row, a.column, b, ldb, depth, alpha, add,
                       last);
    for (; i < rows; i++)
        block<1, N>(c + i * ldc, ldc, a.at + i * a.row, a.row, a.column, b, ldb, depth, alpha, add,
                    last);
}

// The panel of as many vectors as `columns` need.
template <int N = VECTORS>
void panel_of(int64_t columns, float* c, int64_t ldc, Matrix a, const float* b, int64_t ldb,
              int64_t rows, int64_t depth, float alpha, bool add) {
    if constexpr (N > 1)
        if (columns <= (N - 1) * LANES)
            return panel_of<N - 1>(columns, c, ldc, a, b, ldb, rows, depth, alpha, add);
    panel<N>(c, ldc, a, b, ldb, rows, depth, alpha, add, columns - (N - 1) * LANES);
}

// A panel of B as contiguous rows of whole vectors, zero beyond its columns.
void pack(float* packed, int64_t width, Matrix b, int64_t depth, int64_t columns) {
    if (columns < width) std::memset(packed, 0, depth * width * sizeof(float));
    for (int64_t j = 0; j < columns; j++)
        for (int64_t l = 0; l < depth; l++) packed[l * width + j] = b.at[l * b.row + j * b.column];
}

}  // namespace

extern "C" void product(float* c, int64_t ldc, const float* a_at, int64_t a_row, int64_t a_column,
                        const float* b_at, int64_t b_row, int64_t b_column, int64_t rows,
                        int64_t columns, int64_t depth, float alpha, bool add) {
    constexpr int64_t WIDEST = VECTORS * LANES;
    float packed[DEPTH * WIDEST];
    const int64_t deepest = a_column == 1 ? DEPTH : DEPTH / 2;
    for (int64_t l = 0; l < depth; l += deepest) {
        const int64_t deep = depth - l < deepest ? depth - l : deepest;
        const Matrix a{a_at + l * a_column, a_row, a_column};
        for (int64_t j = 0; j < columns; j += WIDEST) {
            const int64_t wide = columns - j < WIDEST ? columns - j : WIDEST;
            Matrix b{b_at + l * b_row + j * b_column, b_row, b_column};
            if (b_column != 1 || wide % LANES != 0) {
                const int64_t width = (wide + LANES - 1) / LANES * LANES;
                pack(packed, width, b, deep, wide);
                b = Matrix{packed, width, 1};
            }
            panel_of(wide, c + j, ldc, a, b.at, b.row, rows, deep, alpha, add || l > 0);
        }
    }
}
