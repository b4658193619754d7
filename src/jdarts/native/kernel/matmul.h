// Tiles of matrix products, from registers: c(m, n) = Σ_k a(m, k) · b(k, n).
//
// A tile is some rows times a panel, two vectors of columns. Sums run over k in order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "vectors.h"

namespace jdarts {

constexpr int kTileRows = kManyRegisters ? 12 : 6;  // as many as leave registers for a panel and for what is read
constexpr int kFewRows = kManyRegisters ? 4 : 2;
constexpr int kPanelVectors = 2;

template <typename T>
constexpr Index kPanel = kPanelVectors * Simd<T>::lanes;

template <typename T>
constexpr Index panels_of(Index columns) {
  return (columns + kPanel<T> - 1) / kPanel<T>;
}
constexpr Index rounded(Index count, Index to) { return (count + to - 1) / to * to; }

// The left factor: a(m, k) = data[m * row + k * step]. One of row and step is 1. Up to kTileRows rows past the last are read.
template <typename T>
struct Left {
  const T* data;
  Index row, step;
};

// The right factor: b(k, n) = data[k * step + n], or data[places[k] * step + n] where places are given.
template <typename T>
struct Right {
  const T* data;
  Index step;
  const std::int32_t* places = nullptr;
};

// Calls sink(row, vector, sums) for all rows and vectors of a tile.
template <typename T, int kRowCount, int kVectors, bool kAcross, bool kPlaces, typename Sink>
JDARTS_INLINE void tile_of(const Left<T>& a, const Right<T>& b, Index depth, const Sink& sink) {
  constexpr Index lanes = Simd<T>::lanes;
  Vector<T> sum[kRowCount][kVectors] = {};
  const T *left = a.data, *right = b.data;
  const Index row = kAcross ? 1 : a.row, step = kAcross ? a.step : 1;
  for (Index k = 0; k < depth; ++k, left += step) {
    const T* from = kPlaces ? right + b.places[k] * b.step : right + k * b.step;
    Vector<T> column[kVectors];
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) column[v] = in_register(load(from + v * lanes));
#pragma GCC unroll 16
    for (int r = 0; r < kRowCount; ++r)
#pragma GCC unroll 4
      for (int v = 0; v < kVectors; ++v) sum[r][v] += left[r * row] * column[v];
  }
#pragma GCC unroll 16
  for (int r = 0; r < kRowCount; ++r)
#pragma GCC unroll 4
    for (int v = 0; v < kVectors; ++v) sink(r, v, sum[r][v]);
}

// `rows` rows times `vectors` vectors, 1 or 2: sink(row, vector, sums).
template <bool kAcross, bool kPlaces = false, typename T, typename Sink>
inline void multiply(const Left<T>& a, const Right<T>& b, Index rows, Index depth, int vectors, const Sink& sink) {
  for (Index m = 0; m < rows;) {
    const Index left = rows - m;
    const Left<T> from = {a.data + m * (kAcross ? 1 : a.row), a.row, a.step};
    auto some = [&](int r, int v, Vector<T> sum) {
      if (r < left) sink(m + r, v, sum);
    };
    auto with = [&](auto vectors) {
      if (left > 2 * kFewRows)
        tile_of<T, kTileRows, vectors(), kAcross, kPlaces>(from, b, depth, some);
      else
        tile_of<T, kFewRows, vectors(), kAcross, kPlaces>(from, b, depth, some);
    };
    if (vectors == 1)
      with(std::integral_constant<int, 1>());
    else
      with(std::integral_constant<int, kPanelVectors>());
    m += left > 2 * kFewRows ? kTileRows : kFewRows;
  }
}

// Columns [first, first + kPanel) of a matrix, b(k, n) = data[k * k_step + n * n_step], as rows of kPanel values, zeros past the
// last column.
template <typename T>
void pack_panel(const T* data, Index k_step, Index n_step, Index depth, Index columns, Index first, T* packed) {
  constexpr Index width = kPanel<T>;
  const Index count = std::clamp<Index>(columns - first, 0, width);
  data += first * n_step;
  for (Index k = 0; k < depth; ++k) {
    for (Index n = 0; n < count; ++n) packed[k * width + n] = data[k * k_step + n * n_step];
    std::fill(packed + k * width + count, packed + (k + 1) * width, T(0));
  }
}

}  // namespace jdarts
