// Sums of products of stacked images with a matrix each: y[e] = Σ_n x_n[e] · w_n[e], and the transpose of one of them in w:
// g[e] = x[e]ᵀ · y[e].
//
// The images of an edge are one matrix, pixels × channels. Work is cut into blocks of pixels that stay in a core's cache with
// the matrix; sums over channels run in order, those over pixels in a fixed number of chunks, whatever the threads.
#pragma once

#include <algorithm>
#include <type_traits>
#include <vector>

#include "routes.h"

namespace jdarts {

// A product of one edge: x [pixels, in], w [in, out] (or [out, in], where it is read transposed).
template <typename T>
struct Factors {
  const T* x;
  const T* w;
  Index in;
};

// One edge: the sum y [pixels, out] of products.
template <typename T>
struct Edge {
  std::vector<Factors<T>> products;
  T* y;
  Index pixels, out;

  // Columns of all products together: what one of its results is summed over.
  Index in() const {
    Index total = 0;
    for (const Factors<T>& product : products) total += product.in;
    return total;
  }
  // Whether every product has so many columns.
  bool all_have(Index columns) const {
    for (const Factors<T>& product : products)
      if (product.in != columns) return false;
    return true;
  }
};

constexpr int kMostVectors = kManyRegisters ? 4 : 2;  // of one pixel's results in registers

// As many pixels as leave registers for a vector of each column and for what is read.
constexpr int pixels_at_once(int vectors) {
  return kManyRegisters ? (vectors == 1 ? 14 : vectors == 2 ? 12 : vectors == 3 ? 8 : 6) : (vectors == 1 ? 12 : 6);
}

// As many rows of a sum of outer products as leave registers.
constexpr int rows_at_once(int vectors) {
  return kManyRegisters ? (vectors == 1 ? 16 : vectors == 4 ? 6 : 8) : (vectors == 1 ? 8 : 4);
}

template <typename T>
constexpr Index whole_vectors(Index values) {
  return (values + Simd<T>::lanes - 1) / Simd<T>::lanes * Simd<T>::lanes;
}

// Whether a vector holds several whole pixels of so many channels.
template <typename T>
constexpr bool is_narrow(Index channels) {
  return channels > 0 && channels < Simd<T>::lanes && Simd<T>::lanes % channels == 0;
}

// A matrix with rows filled up to whole vectors: by zeros, or for `multiply_narrow` by the row again.
template <typename T>
void pack(const T* w, Index in, Index out, bool transposed, T* packed) {
  const Index row = whole_vectors<T>(out), repeated = is_narrow<T>(out) ? row : out;
  for (Index k = 0; k < in; ++k, packed += row) {
    for (Index n = 0; n < out; ++n) packed[n] = transposed ? w[n * in + k] : w[k * out + n];
    for (Index n = out; n < repeated; ++n) packed[n] = packed[n - out];
    std::fill(packed + repeated, packed + row, T(0));
  }
}

// kVectors vectors of pixels from pixel `p` on, of few channels, times the packed matrices: each lane sums as in
// `multiply_pixels`.
template <typename T, int kChannels, int kVectors>
JDARTS_INLINE void multiply_narrow_pixels(const Edge<T>& edge, Index p, const T* packed) {
  constexpr Index lanes = Simd<T>::lanes;
  Vector<T> sum[kVectors] = {};
  for (const Factors<T>& product : edge.products) {
    Vector<T> x[kVectors];
#pragma GCC unroll 8
    for (int n = 0; n < kVectors; ++n) x[n] = in_register(load(product.x + p * kChannels + n * lanes));
    auto add = [&](auto k) {
      const Vector<T> column = in_register(load(packed + k() * lanes));
#pragma GCC unroll 8
      for (int n = 0; n < kVectors; ++n)
        sum[n] += spread<T, kChannels, k()>(x[n], std::make_index_sequence<lanes>()) * column;
    };
    for_numbers(add, std::make_integer_sequence<int, kChannels>());
    packed += kChannels * lanes;
  }
#pragma GCC unroll 8
  for (int n = 0; n < kVectors; ++n) store(edge.y + p * kChannels + n * lanes, sum[n]);
}

// Whole vectors of the pixels from `begin` to `end`; returns the first pixel that is left.
template <typename T, int kChannels>
Index multiply_narrow(const Edge<T>& edge, Index begin, Index end, const T* packed) {
  Index p = begin;
  if constexpr (is_narrow<T>(kChannels)) {
    constexpr Index pixels = Simd<T>::lanes / kChannels;
    constexpr int kMany = kManyRegisters ? 8 : 4;
    for (; p + kMany * pixels <= end; p += kMany * pixels) multiply_narrow_pixels<T, kChannels, kMany>(edge, p, packed);
    for (; p + pixels <= end; p += pixels) multiply_narrow_pixels<T, kChannels, 1>(edge, p, packed);
  }
  return p;
}

// kPixels pixels from pixel `p` on times kVectors vectors of columns, from column `first` on, of the packed matrices.
template <typename T, int kPixels, int kVectors, bool kPast>
JDARTS_INLINE void multiply_pixels(const Edge<T>& edge, Index p, const T* packed, Index first) {
  constexpr Index lanes = Simd<T>::lanes;
  const Index row = whole_vectors<T>(edge.out);
  const T* w = packed + first;
  Vector<T> sum[kPixels][kVectors] = {};
  for (const Factors<T>& product : edge.products) {
    const Index in = product.in;
    const T* x = product.x + p * in;
    for (Index k = 0; k < in; ++k, w += row) {
      Vector<T> column[kVectors];
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) column[v] = in_register(load(w + v * lanes));
#pragma GCC unroll 16
      for (int n = 0; n < kPixels; ++n)
#pragma GCC unroll 8
        for (int v = 0; v < kVectors; ++v) sum[n][v] += x[n * in + k] * column[v];
    }
  }
  T* y = edge.y + p * edge.out + first;
#pragma GCC unroll 16
  for (int n = 0; n < kPixels; ++n)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v)
      if constexpr (kPast)
        store_past(y + n * edge.out + v * lanes, sum[n][v]);
      else
        store_some<T>(y + n * edge.out + v * lanes, sum[n][v], edge.out - first - v * lanes);
}

template <typename T, int kPixels, int kVectors, bool kPast>
Index multiply_blocks(const Edge<T>& edge, Index p, Index end, const T* packed, Index first) {
  for (; p + kPixels <= end; p += kPixels) multiply_pixels<T, kPixels, kVectors, kPast>(edge, p, packed, first);
  return p;
}

template <typename T, int kVectors, bool kPast>
void multiply_columns(const Edge<T>& edge, Index begin, Index end, const T* packed, Index first) {
  constexpr int kMost = pixels_at_once(kVectors);
  Index p = multiply_blocks<T, kMost, kVectors, kPast>(edge, begin, end, packed, first);
  if constexpr (kMost > 4) p = multiply_blocks<T, 4, kVectors, kPast>(edge, p, end, packed, first);
  p = multiply_blocks<T, 2, kVectors, kPast>(edge, p, end, packed, first);
  multiply_blocks<T, 1, kVectors, kPast>(edge, p, end, packed, first);
}

// Calls run(number of vectors, first column) for groups of vectors that cover `columns`.
template <typename T, typename Run>
void for_vectors(Index columns, const Run& run) {
  constexpr Index lanes = Simd<T>::lanes;
  for (Index first = 0; first < columns;) {
    const Index left = (columns - first + lanes - 1) / lanes;
    const Index vectors = std::min<Index>(left, kMostVectors);
    switch (vectors) {
      case 1: run(std::integral_constant<int, 1>(), first); break;
      case 2: run(std::integral_constant<int, 2>(), first); break;
      case 3: run(std::integral_constant<int, 3>(), first); break;
      default: run(std::integral_constant<int, 4>(), first);
    }
    first += vectors * lanes;
  }
}

// The pixels of an edge from `begin` to `end` times the packed matrices. With `past`, results that fill whole lines bypass the
// caches; `stores_are_done` must follow.
template <typename T>
void multiply(const Edge<T>& edge, Index begin, Index end, const T* packed, bool past) {
  if (edge.all_have(edge.out)) switch (edge.out) {
      case 2: begin = multiply_narrow<T, 2>(edge, begin, end, packed); break;
      case 4: begin = multiply_narrow<T, 4>(edge, begin, end, packed); break;
      case 8: begin = multiply_narrow<T, 8>(edge, begin, end, packed); break;
    }
  for_vectors<T>(edge.out, [&](auto vectors, Index first) {
    constexpr bool kWholeLines = vectors() * kVectorBytes % kLineBytes == 0;
    if (kWholeLines && past)
      multiply_columns<T, vectors(), kWholeLines>(edge, begin, end, packed, first);
    else
      multiply_columns<T, vectors(), false>(edge, begin, end, packed, first);
  });
}

// A part of an edge's pixels.
struct Piece {
  Index edge, begin, end;
};

// The sums of every edge; with `transposed` every w is stored [out, in]. Results of `past_bytes` together bypass the caches where
// they fill whole lines.
template <typename T, typename Pool>
void pointwise(const std::vector<Edge<T>>& edges, bool transposed, Pool& pool, Index past_bytes = kPastCacheBytes) {
  struct Packed {};
  std::vector<Piece> pieces;
  Index values = 0, results = 0;
  for (Index e = 0; e < Index(edges.size()); ++e) {
    const Edge<T>& edge = edges[e];
    const Index width = edge.in() + edge.out;
    const Index block = std::clamp<Index>(kCacheBytes / Index(sizeof(T)) / width, 64, 4096);
    for (Index p = 0; p < edge.pixels; p += block) pieces.push_back({e, p, std::min(p + block, edge.pixels)});
    values += edge.pixels * width;
    results += edge.pixels * edge.out;
  }
  const bool large = results * Index(sizeof(T)) >= past_bytes;
  parallel_for(pool, useful_threads(values * sizeof(T)), pieces.size(), [&](Index unit) {
    const Piece& piece = pieces[unit];
    const Edge<T>& edge = edges[piece.edge];
    const Index row = whole_vectors<T>(edge.out);
    const bool past = large && fills_lines(edge.y, edge.out);
    T* packed = thread_buffer<T, Packed>(std::max<Index>(1, edge.in() * row));
    T* next = packed;
    for (const Factors<T>& product : edge.products) {
      pack(product.w, product.in, edge.out, transposed, next);
      next += product.in * row;
    }
    multiply(edge, piece.begin, piece.end, packed, past);
    if (past) stores_are_done();
  });
}

// kRowCount rows × kVectors vectors of xᵀ·y over `pixels` pixels, added to sums, whose rows are `row` long.
template <typename T, int kRowCount, int kVectors>
JDARTS_INLINE void sum_outer(const T* x, Index in, const T* y, Index y_row, Index pixels, T* sums, Index row) {
  constexpr Index lanes = Simd<T>::lanes;
  Vector<T> sum[kRowCount][kVectors];
#pragma GCC unroll 16
  for (int k = 0; k < kRowCount; ++k)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) sum[k][v] = load(sums + k * row + v * lanes);
  for (Index p = 0; p < pixels; ++p, x += in, y += y_row) {
    Vector<T> value[kVectors];
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) value[v] = in_register(load(y + v * lanes));
#pragma GCC unroll 16
    for (int k = 0; k < kRowCount; ++k)
#pragma GCC unroll 8
      for (int v = 0; v < kVectors; ++v) sum[k][v] += x[k] * value[v];
  }
#pragma GCC unroll 16
  for (int k = 0; k < kRowCount; ++k)
#pragma GCC unroll 8
    for (int v = 0; v < kVectors; ++v) store(sums + k * row + v * lanes, sum[k][v]);
}

// Copies pixels to rows of whole vectors.
template <typename T>
const T* fill_up(const T* y, Index pixels, Index out, T* filled) {
  const Index row = whole_vectors<T>(out);
  for (Index p = 0; p < pixels; ++p) {
    std::copy_n(y + p * out, out, filled + p * row);
    std::fill(filled + p * row + out, filled + (p + 1) * row, T(0));
  }
  return filled;
}

// Rows of sums from `k` on, kRowCount at a time; returns the first row that is left.
template <typename T, int kRowCount, int kVectors>
Index sum_rows(const T* x, Index k, Index in, const T* y, Index y_row, Index pixels, T* sums, Index row) {
  for (; k + kRowCount <= in; k += kRowCount)
    sum_outer<T, kRowCount, kVectors>(x + k, in, y, y_row, pixels, sums + k * row, row);
  return k;
}

// xᵀ·y over `pixels` pixels, added to sums [in, whole vectors of out]. What the sums have beyond `out` columns has no meaning.
template <typename T>
void add_outer(const T* x, Index in, const T* y, Index out, Index pixels, T* sums) {
  struct Filled {};
  const Index row = whole_vectors<T>(out);
  auto add = [&](const T* x, const T* y, Index y_row, Index pixels) {
    for_vectors<T>(out, [&](auto vectors, Index first) {
      constexpr int kMany = rows_at_once(vectors());
      Index k = sum_rows<T, kMany, vectors()>(x, 0, in, y + first, y_row, pixels, sums + first, row);
      if constexpr (kMany > 8) k = sum_rows<T, 8, vectors()>(x, k, in, y + first, y_row, pixels, sums + first, row);
      if constexpr (kMany > 4) k = sum_rows<T, 4, vectors()>(x, k, in, y + first, y_row, pixels, sums + first, row);
      k = sum_rows<T, 2, vectors()>(x, k, in, y + first, y_row, pixels, sums + first, row);
      sum_rows<T, 1, vectors()>(x, k, in, y + first, y_row, pixels, sums + first, row);
    });
  };
  // The last pixels have too few others behind them for whole vectors.
  const Index last = row == out ? 0 : std::min(pixels, (row - 1) / out), others = pixels - last;
  add(x, y, out, others);
  if (last) add(x + others * in, fill_up(y + others * out, last, out, thread_buffer<T, Filled>(last * row)), row, last);
}

// One edge of the sum of outer products: w [in, out] = Σ_pixels x ⊗ y.
template <typename T>
struct Outer {
  const T* x;
  const T* y;
  T* w;
  Index pixels, in, out;
};

// The transpose of `pointwise` in w, for every edge.
template <typename T, typename Pool>
void pointwise_gradient(const std::vector<Outer<T>>& edges, Pool& pool) {
  struct Sums {};
  constexpr Index kBlock = 128;
  const Index wanted = std::max<Index>(1, 64 / std::max<Index>(1, edges.size()));
  std::vector<Piece> pieces;
  std::vector<Index> starts;  // of each piece's sums
  Index total = 0, values = 0;
  for (Index e = 0; e < Index(edges.size()); ++e) {
    const Outer<T>& edge = edges[e];
    const Index chunks = std::clamp<Index>(edge.pixels / (2 * kBlock), 1, wanted);
    for (Index n = 0; n < chunks; ++n) {
      pieces.push_back({e, n * edge.pixels / chunks, (n + 1) * edge.pixels / chunks});
      starts.push_back(total);
      total += edge.in * whole_vectors<T>(edge.out);
    }
    values += edge.pixels * (edge.in + edge.out);
  }
  T* all = thread_buffer<T, Sums>(std::max<Index>(1, total));
  parallel_for(pool, useful_threads(values * sizeof(T)), pieces.size(), [&](Index unit) {
    const Piece& piece = pieces[unit];
    const Outer<T>& edge = edges[piece.edge];
    const Index row = whole_vectors<T>(edge.out);
    T* sums = all + starts[unit];
    std::fill_n(sums, edge.in * row, T(0));
    for (Index begin = piece.begin; begin < piece.end; begin += kBlock) {
      const Index pixels = std::min(kBlock, piece.end - begin);
      add_outer(edge.x + begin * edge.in, edge.in, edge.y + begin * edge.out, edge.out, pixels, sums);
    }
  });
  for (Index unit = 0, end = 0; unit < Index(pieces.size()); unit = end) {
    while (end < Index(pieces.size()) && pieces[end].edge == pieces[unit].edge) ++end;
    const Outer<T>& edge = edges[pieces[unit].edge];
    const Index row = whole_vectors<T>(edge.out), size = edge.in * row;
    for (Index k = 0; k < edge.in; ++k)
      for (Index n = 0; n < edge.out; ++n) {
        double sum = 0;
        for (Index piece = unit; piece < end; ++piece) sum += all[starts[unit] + (piece - unit) * size + k * row + n];
        edge.w[k * edge.out + n] = T(sum);
      }
  }
}

}  // namespace jdarts
