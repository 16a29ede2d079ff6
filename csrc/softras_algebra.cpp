// SPDX-License-Identifier: MIT
// The linear algebra of fits: products of matrices, and equations. The order in which the sum of each number is taken
// depends on the sizes of the matrices alone. A BLAS does not promise that: its order depends on the number of threads, on
// the addresses of arrays and on settings.
// Like softras_cpu.cpp, the file is compiled once for every instruction set, and any number of threads gives the same bits.
#include <math.h>
#include <string.h>

#include "memory.h"
#include "simd.h"
#include "softras.h"
#include "team.h"

namespace softras::SOFTRAS_ISA {
namespace {

// A sum of more than kDepth products is taken in blocks of so many, and the sums of the blocks are added in double
// precision.
constexpr int kDepth = 256;
// A thread is worth starting for this many multiplications.
constexpr int64_t kWorthAThread = 1 << 23;

// Divides n items among threads: calls work(begin, end) for the items begin <= i < end of each.
template <class Work>
void divide(int64_t n, int threads, int64_t multiplications, Work work) {
  Team team;
  team.size = team_size(multiplications + kWorthAThread, kWorthAThread, threads);
  if (team.size > n) team.size = (int)n;
  if (team.size <= 1) return work(0, n);
  auto member = [&](int rank) {
    const Share part = share(n, rank, team.size);
    work(part.begin, part.end);
  };
  run_team(team, member);
}

// Products of dense matrices, out = a b. The columns of b are divided into panels of `width` columns, and the rows of a
// panel's product are found `tall` at a time, so that their sums stay in registers. If the number of columns is no multiple
// of `width`, the first panel has fewer: where only the part above the diagonal is computed, this is the one with few rows.
template <class T>
struct Product {
  using V = typename Simd<T>::V;
  static constexpr int lanes = Simd<T>::lanes, width = 2 * lanes, tall = 4;

  const softras_product_call& c;
  int status = SOFTRAS_OK;

  void run() {
    const int64_t panels = (c.columns + width - 1) / width, items = c.batch[0] * c.batch[1] * panels;
    const int64_t work = c.batch[0] * c.batch[1] * c.rows * c.columns * c.depth;
    if (items > 0 && c.rows > 0) divide(items, c.threads, work, [&](int64_t begin, int64_t end) { some(begin, end, panels); });
  }

  // Finds panels begin <= item < end of all products; each product has `panels` of them.
  void some(int64_t begin, int64_t end, int64_t panels) {
    for (int64_t item = begin; item < end;) {
      const int64_t matrix = item / panels, last = (matrix + 1) * panels < end ? (matrix + 1) * panels : end;
      of_matrix(matrix, item - matrix * panels, last - matrix * panels);
      item = last;
    }
  }

  // Finds panels first <= panel < last of one product. The blocks of the sums are the outer loop, so that all panels use a
  // block of a's columns while it is in the processor's cache.
  void of_matrix(int64_t matrix, int64_t first, int64_t last) {
    const int64_t outer = matrix / c.batch[1], inner = matrix % c.batch[1];
    const T* a = (const T*)c.a + outer * c.a_batch[0] + inner * c.a_batch[1];
    const T* b = (const T*)c.b + outer * c.b_batch[0] + inner * c.b_batch[1];
    T* out = (T*)c.out + matrix * c.rows * c.columns;
    T packed[kDepth * width];
    Buffer<double> sums;  // of the panels one after the other
    const bool many = c.depth > kDepth;
    if (many) {
      if (!sums.reserve(c.rows * width * (last - first))) {
        __atomic_store_n(&status, (int)SOFTRAS_OUT_OF_MEMORY, __ATOMIC_RELAXED);
        return;
      }
      memset(sums.data, 0, c.rows * width * (last - first) * sizeof(double));
    }
    for (int64_t at = 0; at == 0 || at < c.depth; at += kDepth) {
      const int depth = (int)(c.depth - at < kDepth ? c.depth - at : kDepth);
      for (int64_t panel = first; panel < last; panel++) {
        const int64_t column = begin_of(panel), there = begin_of(panel + 1) - column, rows = rows_of(column + there);
        const bool direct = rows < tall && there == width;  // copying the panel does not pay for so few rows
        for (int k = 0; k < depth && !direct; k++) {
          const T* row = b + (at + k) * c.b_row + column;
          for (int j = 0; j < width; j++) packed[k * width + j] = j < there ? row[j] : T(0);
        }
        const T* from = direct ? b + at * c.b_row + column : packed;
        const int64_t step = direct ? c.b_row : width;
        double* sum = many ? sums.data + (panel - first) * c.rows * width : nullptr;
        int64_t i = 0;
        for (; i + tall <= rows; i += tall) tile<tall>(a, i, at, from, step, depth, sum, out + column, there);
        for (; i < rows; i++) tile<1>(a, i, at, from, step, depth, sum, out + column, there);
      }
    }
    for (int64_t panel = first; panel < last; panel++) {
      const int64_t column = begin_of(panel), there = begin_of(panel + 1) - column, rows = rows_of(column + there);
      const double* sum = many ? sums.data + (panel - first) * c.rows * width : nullptr;
      for (int64_t i = 0; i < rows && many; i++)
        for (int64_t j = 0; j < there; j++) out[i * c.columns + column + j] = (T)sum[i * width + j];
      if (symmetric()) mirror(out, column, there);
    }
  }

  // The column at which a panel begins, and the one before it ends.
  int64_t begin_of(int64_t panel) const {
    const int64_t first = (c.columns + width - 1) % width + 1;  // columns of the first panel
    return panel == 0 ? 0 : first + (panel - 1) * width;
  }

  // How many rows are computed of the panel that ends at a column. If b is the transpose of a, only the part of the product
  // above the diagonal is, and the part below is its mirror image.
  int64_t rows_of(int64_t end) const { return symmetric() ? end : c.rows; }

  // Whether a and b are the same numbers in memory, with rows and columns exchanged.
  bool symmetric() const {
    return c.a == c.b && c.a_row == 1 && c.a_column == c.b_row && c.rows == c.columns &&
           c.a_batch[0] == c.b_batch[0] && c.a_batch[1] == c.b_batch[1];
  }

  // Copies the part of a panel above the diagonal to where its mirror image is, which no other panel computes.
  void mirror(T* out, int64_t column, int64_t there) const {
    for (int64_t j = column; j < column + there; j++)
      for (int64_t i = 0; i < j; i++) out[j * c.columns + i] = out[i * c.columns + j];
  }

  // Finds the n rows from row i on of a panel, for the block of products that begins at a's column `at`. With several blocks
  // they are added to `sums`; otherwise they are the result and go to `out`, of which `there` columns exist.
  template <int n>
  void tile(const T* a, int64_t i, int64_t at, const T* panel, int64_t step, int depth, double* sums, T* out, int64_t there) {
    const T* from = a + i * c.a_row + at * c.a_column;
    V sum[n][2] = {};
    for (int k = 0; k < depth; k++) {
      const V left = load<T>(panel + k * step), right = load<T>(panel + k * step + lanes);
#pragma clang loop unroll(full)
      for (int m = 0; m < n; m++) {
        const T x = from[m * c.a_row + k * c.a_column];
        sum[m][0] += left * x, sum[m][1] += right * x;
      }
    }
    for (int m = 0; m < n; m++) {
      T row[width];
      store(row, sum[m][0]), store(row + lanes, sum[m][1]);
      if (sums)
        for (int j = 0; j < width; j++) sums[(i + m) * width + j] += row[j];
      else
        for (int64_t j = 0; j < there; j++) out[(i + m) * c.columns + j] = row[j];
    }
  }
};

template <class T>
int product(const softras_product_call& call) {
  Product<T> product{call};
  product.run();
  return product.status;
}

// The product of a sparse matrix and a dense one; each thread finds rows of it.
template <class T>
int sparse_product(const softras_sparse_call& c) {
  using V = typename Simd<T>::V;
  constexpr int lanes = Simd<T>::lanes, many = 4;
  const T *values = (const T*)c.values, *b = (const T*)c.b;
  T* out = (T*)c.out;
  divide(c.rows, c.threads, c.rows > 0 ? c.starts[c.rows] * c.columns : 0, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      const int64_t first = c.starts[row], last = c.starts[row + 1];
      T* sums = out + row * c.columns;
      int64_t j = 0;
      for (; j + many * lanes <= c.columns; j += many * lanes) {
        V sum[many] = {};
        for (int64_t e = first; e < last; e++) {
          const T* from = b + c.indices[e] * c.columns + j;
#pragma clang loop unroll(full)
          for (int m = 0; m < many; m++) sum[m] += load<T>(from + m * lanes) * values[e];
        }
        for (int m = 0; m < many; m++) store(sums + j + m * lanes, sum[m]);
      }
      for (; j + lanes <= c.columns; j += lanes) {
        V sum = {};
        for (int64_t e = first; e < last; e++) sum += load<T>(b + c.indices[e] * c.columns + j) * values[e];
        store(sums + j, sum);
      }
      for (; j < c.columns; j++) {
        T sum = 0;
        for (int64_t e = first; e < last; e++) sum += b[c.indices[e] * c.columns + j] * values[e];
        sums[j] = sum;
      }
    }
  });
  return SOFTRAS_OK;
}

// Subtracts `by` times x from y, n numbers each.
inline void subtract(double* __restrict y, const double* __restrict x, double by, int64_t n) {
  for (int64_t i = 0; i < n; i++) y[i] -= x[i] * by;
}

// Replaces the upper half of a symmetric positive definite matrix A by its Cholesky factor U, A = U^T U.
int factor(const softras_solve_call& c) {
  const int64_t n = c.size;
  double* a = c.matrix;
  for (int64_t j = 0; j < n; j++) {
    double* row = a + j * n;
    if (!(row[j] > 0) || !(row[j] < INFINITY)) return SOFTRAS_NOT_POSITIVE;
    const double root = __builtin_sqrt(row[j]);
    row[j] = root;
    for (int64_t k = j + 1; k < n; k++) row[k] /= root;
    for (int64_t i = j + 1; i < n; i++)
      if (row[i] != 0) subtract(a + i * n + i, row + i, row[i], n - i);
  }
  return SOFTRAS_OK;
}

// Replaces `right` by the solution x of U^T U x = right, by forward and back substitution.
int solve(const softras_solve_call& c) {
  const int64_t n = c.size, k = c.columns;
  const double* u = c.matrix;
  double* x = c.right;
  for (int64_t j = 0; j < n; j++) {
    double* own = x + j * k;
    for (int64_t p = 0; p < k; p++) own[p] /= u[j * n + j];
    for (int64_t i = j + 1; i < n; i++) subtract(x + i * k, own, u[j * n + i], k);
  }
  for (int64_t j = n - 1; j >= 0; j--) {
    double* own = x + j * k;
    for (int64_t i = j + 1; i < n; i++) subtract(own, x + i * k, u[j * n + i], k);
    for (int64_t p = 0; p < k; p++) own[p] /= u[j * n + j];
  }
  return SOFTRAS_OK;
}

}  // namespace
}  // namespace softras::SOFTRAS_ISA

extern "C" int SR_ENTRY(softras_product_float32)(const softras_product_call* call) {
  return softras::SOFTRAS_ISA::product<float>(*call);
}
extern "C" int SR_ENTRY(softras_product_float64)(const softras_product_call* call) {
  return softras::SOFTRAS_ISA::product<double>(*call);
}
extern "C" int SR_ENTRY(softras_sparse_product_float32)(const softras_sparse_call* call) {
  return softras::SOFTRAS_ISA::sparse_product<float>(*call);
}
extern "C" int SR_ENTRY(softras_sparse_product_float64)(const softras_sparse_call* call) {
  return softras::SOFTRAS_ISA::sparse_product<double>(*call);
}
extern "C" int SR_ENTRY(softras_factor_float64)(const softras_solve_call* call) {
  return softras::SOFTRAS_ISA::factor(*call);
}
extern "C" int SR_ENTRY(softras_solve_float64)(const softras_solve_call* call) {
  return softras::SOFTRAS_ISA::solve(*call);
}
