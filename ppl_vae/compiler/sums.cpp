// Sums of the columns of a matrix, with what products.cpp has.

// Of x (rows, columns) over its rows. A few vectors of a row at a time are summed in registers, down as many
// rows as rounding allows.
static void column_sums(int64_t rows, int64_t columns, Matrix x, float* sums) {
  enum { COUNT = 4, SPAN = COUNT * WIDTH };
#pragma omp parallel for schedule(static) if (rows * columns > 16384 && !alone())
  for (int64_t j = 0; j < columns; j += SPAN) {
    const int64_t span = std::min<int64_t>(SPAN, columns - j);
    alignas(64) float total[SPAN] = {};
    for (int64_t from = 0; from < rows; from += DEPTH) {
      const int64_t end = std::min<int64_t>(rows, from + DEPTH);
      alignas(64) float part[SPAN] = {};
      if (span == SPAN && x.column == 1) {
        Vector sum[COUNT] = {};
        for (int64_t i = from; i < end; ++i)
#pragma GCC unroll 8
          for (int v = 0; v < COUNT; ++v) sum[v] += *(const Vector*)x.at(i, j + v * WIDTH).data;
        std::memcpy(part, sum, sizeof sum);
      } else {
        for (int64_t i = from; i < end; ++i)
          for (int64_t k = 0; k < span; ++k) part[k] += *x.at(i, j + k).data;
      }
      for (int64_t k = 0; k < span; ++k) total[k] += part[k];
    }
    std::memcpy(sums + j, total, 4 * span);
  }
}
