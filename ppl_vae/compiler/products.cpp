// A matrix product in float32, of matrices whose rows or columns lie one after another in memory.
//
// As Goto and van de Geijn, Anatomy of high-performance matrix multiplication, TOMS 2008: one matrix, the one
// with which it is less work, is packed into panels of a few vectors' width, and some rows of the other meet
// a panel in registers. What an entry is summed of stands in one order, whatever the number of threads.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
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
enum {
  DEPTH = 1024,   // rows that are packed, or summed, at a time
  BLOCK = 65536,  // numbers of a matrix that stay in the second cache
  AHEAD = 24      // rows from which numbers are fetched before they are needed
};
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

// A matrix's columns in panels of at most so many units, shared out evenly.
struct Panels {
  int64_t columns, unit, units, count;
  Panels(int64_t columns, int64_t unit, int64_t most)
      : columns(columns), unit(unit), units((columns + unit - 1) / unit), count((units + most - 1) / most) {}
  int64_t size() const { return units * unit; }
  int64_t first(int64_t p) const { return units * p / count * unit; }  // column
  int64_t wide(int64_t p) const { return first(p + 1) - first(p); }
  int64_t filled(int64_t p) const { return std::min(columns, first(p + 1)) - first(p); }
};

// Rows of b, of `depth`, each panel as (depth, wide), with zeros behind the last column.
static void pack(Matrix b, int64_t begin, int64_t end, int64_t depth, const Panels& panels, float* packed) {
  auto at = [&](int64_t p, int64_t k) { return packed + panels.first(p) * depth + k * panels.wide(p); };
  auto entry = [&](int64_t p, int64_t k, int64_t j) {
    at(p, k)[j] = j < panels.filled(p) ? *b.at(k, panels.first(p) + j).data : 0;
  };
  if (b.column == 1) {
    for (int64_t k = begin; k < end; ++k)
      for (int64_t p = 0; p < panels.count; ++p) {
        std::memcpy(at(p, k), b.at(k, panels.first(p)).data, 4 * panels.filled(p));
        for (int64_t j = panels.filled(p); j < panels.wide(p); ++j) entry(p, k, j);
      }
    return;
  }
  for (int64_t p = 0; p < panels.count; ++p) {
    const int64_t deep = begin + (end - begin) / 8 * 8, whole = panels.filled(p) / 8 * 8;
    for (int64_t j = 0; j < whole; j += 8)
      for (int64_t k = begin; k < deep; k += 8)
        turn(b.at(k, panels.first(p) + j).data, b.column, at(p, k) + j, panels.wide(p));
    for (int64_t k = begin; k < end; ++k)
      for (int64_t j = k < deep ? whole : 0; j < panels.wide(p); ++j) entry(p, k, j);
  }
}

// c becomes a times a panel, or is raised by it. `across`: a has its rows, and not its columns, side by side.
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
static void sliver(int64_t rows, int64_t depth, Matrix a, const float* panel, Matrix c, int64_t columns,
                   bool raise) {
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
      if (data == nullptr) throw size = 0, std::bad_alloc();
    }
    return data;
  }
};
static thread_local Memory memory;

// c = a b of (M, K) and (K, N), of which b is packed.
static void multiply(int64_t M, int64_t N, int64_t K, Matrix a, Matrix b, Matrix c) {
  const Panels panels(N, WIDTH, VECTORS), slivers(M, ROWS, 1);
  // rows a power of two apart fall on one another in the caches
  const bool both = a.row == 1 && a.column % 1024 == 0 && panels.count > 2;
  const int64_t total = panels.count * slivers.count, most = std::min<int64_t>(K, DEPTH);
  float* packed = memory.of((panels.size() + both * slivers.size()) * most);
  float* beside = packed + panels.size() * most;
#pragma omp parallel if (M * N * K > 65536 && !alone())
  for (int64_t from = 0; from < K; from += DEPTH) {
    const int64_t depth = std::min<int64_t>(DEPTH, K - from), eights = (depth + 7) / 8;
    const int64_t threads = omp_get_num_threads(), thread = omp_get_thread_num();
    const int64_t begin = eights * thread / threads * 8;
    const int64_t end = std::min(depth, eights * (thread + 1) / threads * 8);
    pack(b.at(from, 0), begin, end, depth, panels, packed);
    if (both) pack({a.data + from * a.column, a.column, 1}, begin, end, depth, slivers, beside);
#pragma omp barrier
    // block by block of slivers, and in a block panel by panel; each thread has its part of that order
    const int64_t block = std::max<int64_t>(1, BLOCK / depth / ROWS);
    for (int64_t t = total * thread / threads; t < total * (thread + 1) / threads; ++t) {
      const int64_t start = t / (block * panels.count) * block, size = std::min(block, slivers.count - start);
      const int64_t p = t % (block * panels.count) / size, wide = panels.wide(p) / WIDTH;
      const int64_t s = (start + t % (block * panels.count) % size) * ROWS;
      const Matrix left = both ? Matrix{beside + s * depth, 1, ROWS} : a.at(s, from);
      (a.row == 1 ? (wide == 1 ? sliver<1, true> : wide == 2 ? sliver<2, true> : sliver<VECTORS, true>)
                  : (wide == 1 ? sliver<1, false> : wide == 2 ? sliver<2, false> : sliver<VECTORS, false>))(
          std::min<int64_t>(ROWS, M - s), depth, left, packed + panels.first(p) * depth,
          c.at(s, panels.first(p)), panels.filled(p), from > 0);
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
