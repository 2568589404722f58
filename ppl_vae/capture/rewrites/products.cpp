// A matrix product in float32, of matrices whose rows or columns lie one after another in memory.
//
// As Goto and van de Geijn, Anatomy of high-performance matrix multiplication, TOMS 2008: one matrix is
// packed into panels of a few vectors' width, and eight rows of the other meet a panel in registers. Of the
// two matrices the one is packed that is brought there with less work, the result is then turned as it is
// stored. What an entry is summed of stands in one order, whatever the number of threads.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <omp.h>

#if defined(__AVX512F__)
#include <immintrin.h>
enum { WIDTH = 16, ROWS = 8, VECTORS = 3 };  // 24 of 32 registers are sums
#elif defined(__AVX2__)
#include <immintrin.h>
enum { WIDTH = 8, ROWS = 6, VECTORS = 2 };  // 12 of 16
#else
enum { WIDTH = 4, ROWS = 8, VECTORS = 3 };
#endif
enum { PANEL = WIDTH * VECTORS, DEPTH = 1024, AHEAD = 24 };
enum { BLOCK = 65536 };  // numbers of a matrix that stay in the second cache
typedef float Vector __attribute__((vector_size(4 * WIDTH), aligned(4), may_alias));

struct Matrix {  // (i, j) is at data[i * row + j * column]
  float* data;
  int64_t row, column;
  Matrix at(int64_t i, int64_t j) const { return {data + i * row + j * column, row, column}; }
};

// Eight rows of eight numbers become columns.
static inline void turn(const float* from, int64_t row, float* to, int64_t column) {
#if defined(__AVX2__)
  __m256 a[8], b[8];
  for (int i = 0; i < 8; ++i) a[i] = _mm256_loadu_ps(from + i * row);
  for (int i = 0; i < 8; i += 2) {
    b[i] = _mm256_unpacklo_ps(a[i], a[i + 1]);
    b[i + 1] = _mm256_unpackhi_ps(a[i], a[i + 1]);
  }
  for (int i = 0; i < 8; i += 4) {
    a[i] = _mm256_shuffle_ps(b[i], b[i + 2], 0x44);
    a[i + 1] = _mm256_shuffle_ps(b[i], b[i + 2], 0xEE);
    a[i + 2] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0x44);
    a[i + 3] = _mm256_shuffle_ps(b[i + 1], b[i + 3], 0xEE);
  }
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(to + i * column, _mm256_permute2f128_ps(a[i], a[i + 4], 0x20));
    _mm256_storeu_ps(to + (i + 4) * column, _mm256_permute2f128_ps(a[i], a[i + 4], 0x31));
  }
#else
  for (int i = 0; i < 8; ++i)
    for (int j = 0; j < 8; ++j) to[j * column + i] = from[i * row + j];
#endif
}

// The first columns of b as (depth, wide), with zeros behind them.
static void pack(Matrix b, int64_t depth, int64_t columns, int64_t wide, float* to) {
  const bool turned = b.column != 1;
  const int64_t deep = turned ? depth / 8 * 8 : 0, whole = turned ? columns / 8 * 8 : 0;
  for (int64_t k = 0; k < deep; k += 8)
    for (int64_t j = 0; j < whole; j += 8) turn(b.at(k, j).data, b.column, to + k * wide + j, wide);
  for (int64_t k = 0; k < depth; ++k) {
    float* row = to + k * wide;
    for (int64_t j = 0; j < (turned ? 0 : columns); j += 16) __builtin_prefetch(b.at(k + AHEAD, j).data);
    if (!turned) std::memcpy(row, b.at(k, 0).data, 4 * columns);
    for (int64_t j = turned ? (k < deep ? whole : 0) : columns; j < wide; ++j)
      row[j] = j < columns ? *b.at(k, j).data : 0;
  }
}

// c = a panel, of `rows` rows, or is raised by it; ACROSS: the rows of a lie side by side in memory
template <int rows, int vectors, bool across>
static void tile(int64_t depth, Matrix a, const float* panel, Matrix c, int64_t columns, bool raise) {
  Vector sum[rows][vectors] = {};
  for (int64_t i = 0; i < (c.column == 1 ? rows : columns); ++i)  // where it will be stored
    for (int64_t j = 0; j < (c.column == 1 ? columns : 1); j += 16)
      __builtin_prefetch(c.column == 1 ? c.at(i, j).data : c.at(0, i).data, 1);
  for (int64_t k = 0; k < depth; ++k, panel += vectors * WIDTH) {
    Vector b[vectors];
    if (across) __builtin_prefetch(a.data + (k + AHEAD) * a.column);
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) b[v] = *(const Vector*)(panel + v * WIDTH);
#pragma GCC unroll 8
    for (int r = 0; r < rows; ++r) {
      const float one = across ? a.data[k * a.column + r] : a.data[r * a.row + k];
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) sum[r][v] += one * b[v];
    }
  }
  alignas(64) float out[rows][vectors * WIDTH];
  const bool straight = c.column == 1 && columns == vectors * WIDTH;
#pragma GCC unroll 8
  for (int r = 0; r < rows; ++r)
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) {
      Vector* to = (Vector*)(straight ? c.at(r, v * WIDTH).data : &out[r][v * WIDTH]);
      *to = straight && raise ? *to + sum[r][v] : sum[r][v];
    }
  int64_t done = straight ? columns : 0;
  if (rows == 8 && c.row == 1 && !raise)
    for (; done + 8 <= columns; done += 8) turn(&out[0][done], vectors * WIDTH, c.at(0, done).data, c.column);
  for (; done < columns; ++done)
    for (int r = 0; r < rows; ++r) {
      float* to = c.at(r, done).data;
      *to = raise ? *to + out[r][done] : out[r][done];
    }
}

template <int vectors, bool across>
static void sliver(int64_t rows, int64_t depth, Matrix a, const float* panel, Matrix c, int64_t columns, bool raise) {
  if (rows == ROWS) return tile<ROWS, vectors, across>(depth, a, panel, c, columns, raise);
  for (int64_t r = 0; r < rows; ) {
    const bool four = rows - r >= 4;
    (four ? tile<4, vectors, across> : tile<1, vectors, across>)(
        depth, a.at(r, 0), panel, c.at(r, 0), columns, raise);
    r += four ? 4 : 1;
  }
}

struct Memory {
  float* data = nullptr;
  int64_t size = 0;
  ~Memory() { std::free(data); }
  float* of(int64_t count) {
    if (count > size) {
      std::free(data);
      size = (count + 15) / 16 * 16;
      data = (float*)std::aligned_alloc(64, 4 * size);
    }
    return data;
  }
};
static thread_local Memory memory;

// c = a b of (M, K) and (K, N), of which b is packed.
static void multiply(int64_t M, int64_t N, int64_t K, Matrix a, Matrix b, Matrix c) {
  const int64_t vectors = (N + WIDTH - 1) / WIDTH, panels = (vectors + VECTORS - 1) / VECTORS;
  const int64_t slivers = (M + ROWS - 1) / ROWS;
  float* packed = memory.of(vectors * WIDTH * std::min<int64_t>(K, DEPTH));
  auto first = [=](int64_t panel) { return vectors * panel / panels; };  // of its vectors, shared out evenly
  auto columns = [=](int64_t panel) { return std::min(N, first(panel + 1) * WIDTH) - first(panel) * WIDTH; };
#pragma omp parallel if (M * N * K > 65536)
  for (int64_t from = 0; from < K; from += DEPTH) {
    const int64_t depth = std::min<int64_t>(DEPTH, K - from);
#pragma omp for schedule(static)
    for (int64_t p = 0; p < panels; ++p)
      pack(b.at(from, first(p) * WIDTH), depth, columns(p), (first(p + 1) - first(p)) * WIDTH,
           packed + first(p) * WIDTH * depth);
    // block by block of slivers, and in a block panel by panel; each thread has its part of that order
    const int64_t block = std::max<int64_t>(1, BLOCK / depth / ROWS), total = panels * slivers;
    const int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
    for (int64_t t = total * thread / threads; t < total * (thread + 1) / threads; ++t) {
      const int64_t start = t / (block * panels) * block, size = std::min(block, slivers - start);
      const int64_t p = t % (block * panels) / size, s = (start + t % (block * panels) % size) * ROWS;
      const int64_t wide = first(p + 1) - first(p);
      (a.row == 1 ? (wide == 1 ? sliver<1, true> : wide == 2 ? sliver<2, true> : sliver<VECTORS, true>)
                  : (wide == 1 ? sliver<1, false> : wide == 2 ? sliver<2, false> : sliver<VECTORS, false>))(
          std::min<int64_t>(ROWS, M - s), depth, a.at(s, from), packed + first(p) * WIDTH * depth,
          c.at(s, first(p) * WIDTH), columns(p), from > 0);
    }
#pragma omp barrier
  }
}

// c (M, N), its rows one after another, = a (M, K) times b (K, N).
static void product(int64_t M, int64_t N, int64_t K, Matrix a, Matrix b, float* c) {
  auto work = [](int64_t count, bool turned) { return (turned ? 3.0 : 1.0) * count; };
  if (work(K * N, b.column != 1) <= work(K * M, a.row != 1) + work(M * N, true))
    multiply(M, N, K, a, b, {c, N, 1});
  else multiply(N, M, K, {b.data, b.column, b.row}, {a.data, a.column, a.row}, {c, 1, N});
}

// Of x (rows, columns) over its rows. A few vectors of a row at a time are summed in registers, down all rows.
static void column_sums(int64_t rows, int64_t columns, Matrix x, float* sums) {
  enum { COUNT = 4, SPAN = COUNT * WIDTH };
#pragma omp parallel for schedule(static) if (rows * columns > 16384)
  for (int64_t j = 0; j < columns; j += SPAN) {
    const int64_t span = std::min<int64_t>(SPAN, columns - j);
    alignas(64) float sum[SPAN] = {};
    if (span == SPAN && x.column == 1) {
      Vector inside[COUNT] = {};
      for (int64_t i = 0; i < rows; ++i)
#pragma GCC unroll 8
        for (int v = 0; v < COUNT; ++v) inside[v] += *(const Vector*)x.at(i, j + v * WIDTH).data;
      std::memcpy(sum, inside, sizeof sum);
    } else {
      for (int64_t i = 0; i < rows; ++i)
        for (int64_t k = 0; k < span; ++k) sum[k] += *x.at(i, j + k).data;
    }
    std::memcpy(sums + j, sum, 4 * span);
  }
}
