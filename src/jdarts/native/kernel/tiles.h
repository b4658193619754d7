// The innermost loops: tiles of kRows output rows, one SIMD vector of flattened (column, channel) values at a time.
//
// A row of pixels × channels is read as one flat array, so that a vector may span several pixels when there are few
// channels. A shift by a pixel is a shift by `channels` values; kernels are repeated with the period `channels`, and a
// vector that starts at value q meets them at phase q % channels.
#pragma once

#include <algorithm>

#include "vectors.h"

namespace jdarts {

constexpr int kRows = 4;
constexpr Index kTermsAtOnce = 2;  // rows of more terms would compete for the nearest cache

// Rows that a tile reads: row m of term n starts at data + m * row + n * term.
template <typename T>
struct Rows {
  const T* data;
  Index row, term, terms;
};

// Kernel values: those of tap (i, j), target t, term n start at data + i * row + j * column + t * target + n * term.
// Column j of the kernel meets the input shifted by shift[j] values.
template <typename T>
struct Taps {
  const T* data;
  Index row, column, target, term;
  Index height, width;
  const Index* shift;
};

// Rows that a tile writes: row r of target t starts at data + r * row + t * target, for the first `rows` rows. Where there is
// a gate, laid out as data is, results are 0 where it is 0 or below. With `onto`, results are added to what stands there.
template <typename T>
struct Sink {
  T* data;
  Index row, target, rows;
  const T* gate = nullptr;
  bool onto = false;

  Sink of_target(Index t) const { return {data + t * target, row, target, rows, gate_at(gate, t * target), onto}; }
};

// Whether registers hold a column of taps beside the sums; otherwise taps are read from memory for each use.
constexpr bool taps_fit(int targets, int height, int block) {
  return kRows * targets * block + targets * height + 2 <= kRegisters;
}

// One vector (or kBlock vectors, `step` apart) of kRows rows of kTargets outputs:
//   out[t][r] = Σ_terms Σ_ij in[r * kStride + i][q + shift[j]] · taps[t][i][j]
// kHeight is the height of the kernel, or 0 for one known at run time only.
template <typename T, int kHeight, int kStride, int kTargets, int kBlock>
JDARTS_INLINE void correlate(Rows<T> in, Taps<T> taps, Index phase, Index q, Index step, Sink<T> out) {
  constexpr bool kTapsFit = taps_fit(kTargets, kHeight, kBlock);
  auto at = [&](int r, int t, int b) { return r * out.row + t * out.target + q + b * step; };
  Vector<T> sum[kRows][kTargets][kBlock] = {};
  if (out.onto) {
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) {
      if (r >= out.rows) break;
#pragma GCC unroll 8
      for (int t = 0; t < kTargets; ++t)
#pragma GCC unroll 8
        for (int b = 0; b < kBlock; ++b) sum[r][t][b] = load(out.data + at(r, t, b));
    }
  }
  for (Index n = 0; n < in.terms; ++n) {
    for (Index j = 0; j < taps.width; ++j) {
      const T* x = in.data + n * in.term + taps.shift[j] + q;
      const T* k = taps.data + n * taps.term + j * taps.column + phase;
      if constexpr (kHeight == 0) {
        for (Index i = 0; i < taps.height; ++i)
#pragma GCC unroll 8
          for (int r = 0; r < kRows; ++r)
#pragma GCC unroll 8
            for (int t = 0; t < kTargets; ++t)
#pragma GCC unroll 8
              for (int b = 0; b < kBlock; ++b)
                sum[r][t][b] +=
                    load(x + (r * kStride + i) * in.row + b * step) * load(k + i * taps.row + t * taps.target);
      } else {
        Vector<T> tap[kTargets][kHeight];
#pragma GCC unroll 8
        for (int t = 0; t < kTargets; ++t)
#pragma GCC unroll 8
          for (int i = 0; i < kHeight; ++i) {
            tap[t][i] = load(k + i * taps.row + t * taps.target);
            if constexpr (kTapsFit) tap[t][i] = in_register(tap[t][i]);
          }
#pragma GCC unroll 16
        for (int m = 0; m < (kRows - 1) * kStride + kHeight; ++m, x += in.row)
#pragma GCC unroll 8
          for (int b = 0; b < kBlock; ++b) {
            const Vector<T> value = in_register(load(x + b * step));
#pragma GCC unroll 8
            for (int r = 0; r < kRows; ++r) {
              const int i = m - r * kStride;
              if (i < 0 || i >= kHeight) continue;
#pragma GCC unroll 8
              for (int t = 0; t < kTargets; ++t) sum[r][t][b] += value * tap[t][i];
            }
          }
      }
    }
  }
#pragma GCC unroll 8
  for (int r = 0; r < kRows; ++r) {
    if (r >= out.rows) break;
#pragma GCC unroll 8
    for (int t = 0; t < kTargets; ++t)
#pragma GCC unroll 8
      for (int b = 0; b < kBlock; ++b) {
        const Index place = at(r, t, b);
        store(out.data + place, out.gate ? gated<T>(sum[r][t][b], load(out.gate + place)) : sum[r][t][b]);
      }
  }
}

// All vectors of one phase in the tile.
template <typename T, int kHeight, int kStride, int kTargets>
void sweep(Rows<T> in, Taps<T> taps, Index first, Index step, Index channels, Index length, Sink<T> out) {
  constexpr Index lanes = Simd<T>::lanes;
  const Index phase = first % channels;
  Index q = first;
  if constexpr (kTargets == 1)
    for (; q + step + lanes <= length; q += 2 * step)
      correlate<T, kHeight, kStride, 1, 2>(in, taps, phase, q, step, out);
  for (; q + lanes <= length; q += step) correlate<T, kHeight, kStride, kTargets, 1>(in, taps, phase, q, step, out);
}

// A tile of `targets` outputs, each row `length` values long, from all terms at once.
template <typename T, int kHeight, int kStride>
void tile_of_terms(const Rows<T>& in, const Taps<T>& taps, Index channels, Index length, Index targets, const Sink<T>& out) {
  constexpr Index lanes = Simd<T>::lanes;
  const Phases<T> phases(channels);
  auto at = [&](Index t) {
    Taps<T> k = taps;
    k.data += t * taps.target;
    return k;
  };
  for (Index a = 0; a < phases.count && (a + 1) * lanes <= length; ++a) {
    Index t = 0;
    // Both targets' taps in registers, or one target and longer rows.
    if constexpr (taps_fit(2, kHeight, 1))
      for (; t + 2 <= targets; t += 2)
        sweep<T, kHeight, kStride, 2>(in, at(t), a * lanes, phases.step, channels, length, out.of_target(t));
    for (; t < targets; ++t)
      sweep<T, kHeight, kStride, 1>(in, at(t), a * lanes, phases.step, channels, length, out.of_target(t));
  }
  if (length % lanes == 0) return;
  // The rest of the row: a last vector that overlaps the one before, or a row shorter than a vector.
  for (Index t = 0; t < targets; ++t) {
    const Sink<T> sink = out.of_target(t);
    if (length >= lanes) {
      const Index q = length - lanes;
      correlate<T, kHeight, kStride, 1, 1>(in, at(t), q % channels, q, 0, sink);
    } else {
      T rows[kRows][lanes];
      correlate<T, kHeight, kStride, 1, 1>(in, at(t), 0, 0, 0, {rows[0], lanes, 0, kRows});
      for (Index r = 0; r < out.rows; ++r)
        copy_values(rows[r], gate_at(sink.gate, r * sink.row), length, sink.data + r * sink.row);
    }
  }
}

// A tile of `targets` outputs, each row `length` values long.
template <typename T, int kHeight, int kStride>
void tile(const Rows<T>& in, const Taps<T>& taps, Index channels, Index length, Index targets, const Sink<T>& out) {
  // Where the last vector of a row overlaps the one before, nothing can be added to it.
  const Index some = length % Simd<T>::lanes == 0 ? kTermsAtOnce : in.terms;
  for (Index n = 0; n < in.terms; n += some) {
    const Index left = in.terms - n;
    Taps<T> k = taps;
    k.data += n * taps.term;
    Sink<T> sink = out;
    sink.onto |= n > 0;
    if (left > some) sink.gate = nullptr;
    tile_of_terms<T, kHeight, kStride>({in.data + n * in.term, in.row, in.term, std::min(some, left)}, k, channels, length,
                                       targets, sink);
  }
}

template <typename T>
using Tile = void (*)(const Rows<T>&, const Taps<T>&, Index, Index, Index, const Sink<T>&);

template <typename T, int kStride>
Tile<T> tile_for(Index height) {
  switch (height) {
    case 3: return tile<T, 3, kStride>;
    case 5: return tile<T, 5, kStride>;
    case 7: return tile<T, 7, kStride>;
  }
  if constexpr (kStride == 1) switch (height) {
      case 1: return tile<T, 1, 1>;
      case 2: return tile<T, 2, 1>;
      case 4: return tile<T, 4, 1>;
    }
  return tile<T, 0, kStride>;
}

// Products of `count` vectors, `step` apart, of kRows rows of y with the input under kWidth columns of taps:
//   sums[j][i] += Σ_r y[r][q] · in[r * kStride + i][q + shift[j]],  one vector of sums per tap
template <typename T, int kHeight, int kStride, int kWidth>
void gather_columns(Rows<T> in, const T* y, Index y_row, const Index* shift, Index q, Index step, Index count,
                    T* sums) {
  constexpr Index lanes = Simd<T>::lanes;
  Vector<T> sum[kWidth][kHeight];
#pragma GCC unroll 8
  for (int j = 0; j < kWidth; ++j)
#pragma GCC unroll 8
    for (int i = 0; i < kHeight; ++i) sum[j][i] = load(sums + (j * kHeight + i) * lanes);
  for (Index n = 0; n < count; ++n, q += step) {
    Vector<T> value[kRows];
#pragma GCC unroll 8
    for (int r = 0; r < kRows; ++r) value[r] = in_register(load(y + r * y_row + q));
#pragma GCC unroll 8
    for (int j = 0; j < kWidth; ++j)
#pragma GCC unroll 16
      for (int m = 0; m < (kRows - 1) * kStride + kHeight; ++m) {
        const Vector<T> x = in_register(load(in.data + m * in.row + shift[j] + q));
#pragma GCC unroll 8
        for (int r = 0; r < kRows; ++r)
          if (m - r * kStride >= 0 && m - r * kStride < kHeight) sum[j][m - r * kStride] += x * value[r];
      }
  }
#pragma GCC unroll 8
  for (int j = 0; j < kWidth; ++j)
#pragma GCC unroll 8
    for (int i = 0; i < kHeight; ++i) store(sums + (j * kHeight + i) * lanes, sum[j][i]);
}

// The same for all columns of taps: as many at a time as the registers hold sums.
template <typename T, int kHeight, int kStride>
void gather(const Rows<T>& in, const T* y, Index y_row, Index size, const Index* shift, Index q, Index step,
            Index count, T* sums) {
  constexpr Index lanes = Simd<T>::lanes;
  if constexpr (kHeight == 0) {
    for (Index tap = 0; tap < size * size; ++tap) {
      const T* x = in.data + tap % size * in.row + shift[tap / size];
      Vector<T> sum = load(sums + tap * lanes);
      for (Index n = 0; n < count; ++n)
        for (int r = 0; r < kRows; ++r)
          sum += load(y + r * y_row + q + n * step) * load(x + r * kStride * in.row + q + n * step);
      store(sums + tap * lanes, sum);
    }
  } else {
    constexpr int kFit = std::min(kHeight, std::max(1, (kManyRegisters ? 25 : 10) / kHeight));
    Index j = 0;
    for (; j + kFit <= size; j += kFit)
      gather_columns<T, kHeight, kStride, kFit>(in, y, y_row, shift + j, q, step, count, sums + j * kHeight * lanes);
    for (; j < size; ++j)
      gather_columns<T, kHeight, kStride, 1>(in, y, y_row, shift + j, q, step, count, sums + j * kHeight * lanes);
  }
}

template <typename T>
using Gather = void (*)(const Rows<T>&, const T*, Index, Index, const Index*, Index, Index, Index, T*);

template <typename T, int kStride>
Gather<T> gather_for(Index size) {
  switch (size) {
    case 3: return gather<T, 3, kStride>;
    case 5: return gather<T, 5, kStride>;
    case 7: return gather<T, 7, kStride>;
  }
  return gather<T, 0, kStride>;
}

}  // namespace jdarts
