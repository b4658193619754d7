// Products of activations after dropout with a large matrix, and the losses of their predictions.
//
// A mask belongs to a stream of the batch and is the same at all time steps: only the columns that it keeps are multiplied. Sums
// are taken in an order that does not depend on the number of threads.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "highway.h"
#include "matmul.h"

namespace jdarts {

// T time steps of B streams of H columns; V words.
struct Streams {
  Index steps, batch, width, words;
};

// The columns that the mask of each stream keeps.
struct KeptColumns {
  std::vector<std::int32_t> places;
  std::vector<Index> starts;

  template <typename T>
  KeptColumns(const Streams& s, const T* mask) {
    for (Index b = 0; b < s.batch; ++b) {
      starts.push_back(places.size());
      for (Index h = 0; h < s.width; ++h)
        if (mask[b * s.width + h] != T(0)) places.push_back(h);
    }
    starts.push_back(places.size());
  }
  Index count(Index b) const { return starts[b + 1] - starts[b]; }
  const std::int32_t* of(Index b) const { return places.data() + starts[b]; }
};

// The columns of activations [T, B, H] that the masks keep, as a matrix [T, count] for each stream.
template <typename T>
std::vector<T> kept_activations(const Streams& s, const KeptColumns& columns, const T* x, const T* mask) {
  // Tiles read past the last row.
  std::vector<T> kept(s.steps * columns.places.size() + kTileRows * (s.width + 1));
  for (Index b = 0; b < s.batch; ++b) {
    const Index count = columns.count(b);
    const std::int32_t* places = columns.of(b);
    T* to = kept.data() + s.steps * columns.starts[b];
    for (Index t = 0; t < s.steps; ++t)
      for (Index j = 0; j < count; ++j)
        to[t * count + j] = x[(t * s.batch + b) * s.width + places[j]] * mask[b * s.width + places[j]];
  }
  return kept;
}

// y [T, B, V] = (x ∘ mask) · matrixᵀ, the matrix [V, H].
template <typename T, typename Pool>
void dropped_product(const Streams& s, const T* x, const T* mask, const T* matrix, T* y, Pool& pool) {
  struct Packed {};
  constexpr Index lanes = Simd<T>::lanes, panel = kPanel<T>;
  const KeptColumns columns(s, mask);
  const std::vector<T> kept = kept_activations(s, columns, x, mask);
  const Index panels = panels_of<T>(s.words);
  parallel_for(pool, panels, panels, [&](Index unit) {
    const Index first = unit * panel;
    T* packed = thread_buffer<T, Packed>(s.width * panel);
    pack_panel(matrix, 1, s.width, s.width, s.words, first, packed);
    const int vectors = first + lanes < s.words ? 2 : 1;
    for (Index b = 0; b < s.batch; ++b) {
      const Index count = columns.count(b);
      const Left<T> a = {kept.data() + s.steps * columns.starts[b], count, 1};
      multiply<false, true>(a, Right<T>{packed, panel, columns.of(b)}, s.steps, count, vectors,
                            [&](Index t, int v, Vector<T> sum) {
                              const Index at = first + v * lanes;
                              store_some<T>(y + (t * s.batch + b) * s.words + at, sum, s.words - at);
                            });
    }
  });
}

// kRowCount rows, `row` apart, times kCount columns, their inner products over `length` values: added to sums.
template <typename T, int kRowCount, int kCount>
JDARTS_INLINE void inner_products(const T* rows, Index row, const T* const* columns, Index length, T* sums, Index step) {
  constexpr Index lanes = Simd<T>::lanes;
  Vector<T> sum[kRowCount][kCount] = {};
  for (Index n = 0; n < length; n += lanes) {
    const Index left = length - n;
    Vector<T> column[kCount];
#pragma GCC unroll 4
    for (int c = 0; c < kCount; ++c) column[c] = in_register(load(columns[c] + n));
#pragma GCC unroll 8
    for (int r = 0; r < kRowCount; ++r) {
      const Vector<T> value = left >= lanes ? load(rows + r * row + n) : load_first(rows + r * row + n, left);
#pragma GCC unroll 4
      for (int c = 0; c < kCount; ++c) sum[r][c] += value * column[c];
    }
  }
  for (int r = 0; r < kRowCount; ++r)
    for (int c = 0; c < kCount; ++c) sums[r * step + c] += sum_of<T>(sum[r][c]);
}

// y [T, B, H] = (q · matrix) ∘ mask, from q [T, B, V] and the matrix [V, H].
template <typename T, typename Pool>
void dropped_pull(const Streams& s, const T* q, const T* mask, const T* matrix, T* y, Pool& pool) {
  struct Turned {};
  struct Sums {};
  constexpr Index kBlock = 4096, kTurn = 64;
  constexpr int kRowCount = kManyRegisters ? 6 : 3, kCount = kManyRegisters ? 4 : 3;
  const auto parts = [](Index rows) { return (rows + kRowCount - 1) / kRowCount; };
  const KeptColumns columns(s, mask);
  // Transposed, rows filled up with zeros to whole vectors.
  const Index row = rounded(s.words, Simd<T>::lanes);
  T* turned = thread_buffer<T, Turned>(s.width * row);
  const Index turns = (row + kTurn - 1) / kTurn;
  parallel_for(pool, turns, turns, [&](Index unit) {
    const Index first = unit * kTurn, end = std::min(first + kTurn, row);
    for (Index h = 0; h < s.width; ++h)
      for (Index v = first; v < end; ++v) turned[h * row + v] = v < s.words ? matrix[v * s.width + h] : T(0);
  });
  parallel_for(pool, s.batch, s.batch, [&](Index b) {
    const Index count = columns.count(b), filled = rounded(count, kCount), apart = s.batch * s.words;
    const std::int32_t* places = columns.of(b);
    T* sums = thread_buffer<T, Sums>(s.steps * filled + 1);
    std::fill_n(sums, s.steps * filled, T(0));
    for (Index first = 0; first < s.words; first += kBlock) {
      const Index length = std::min(kBlock, s.words - first);
      for (Index j = 0; j < count; j += kCount) {
        const T* from[kCount];
        for (int c = 0; c < kCount; ++c) from[c] = turned + places[std::min(j + c, count - 1)] * row + first;
        const T* rows = q + b * s.words + first;
        for (Index t = 0; t < s.steps;) {
          auto take = [&](auto count) {
            inner_products<T, count(), kCount>(rows + t * apart, apart, from, length, sums + t * filled + j, filled);
            t += count();
          };
          // In equal parts, so that no small part remains.
          const Index left = s.steps - t, part = (left + parts(left) - 1) / parts(left);
          if (part == kRowCount)
            take(std::integral_constant<int, kRowCount>());
          else if (part >= kRowCount - 1)
            take(std::integral_constant<int, kRowCount - 1>());
          else if (part >= 2)
            take(std::integral_constant<int, 2>());
          else
            take(std::integral_constant<int, 1>());
        }
      }
    }
    for (Index t = 0; t < s.steps; ++t) {
      T* to = y + (t * s.batch + b) * s.width;
      std::fill_n(to, s.width, T(0));
      for (Index j = 0; j < count; ++j) to[places[j]] = sums[t * filled + j] * mask[b * s.width + places[j]];
    }
  });
}

// matrix [V, H] = Σ_{T, B} q ⊗ (x ∘ mask), from q [T, B, V] and x [T, B, H].
template <typename T, typename Pool>
void dropped_outer(const Streams& s, const T* q, const T* x, const T* mask, T* matrix, Pool& pool) {
  struct Sums {};
  struct Copied {};
  constexpr Index lanes = Simd<T>::lanes, panel = kPanel<T>, kBlock = 4 * panel;
  const KeptColumns columns(s, mask);
  const std::vector<T> kept = kept_activations(s, columns, x, mask);
  const Index blocks = (s.words + kBlock - 1) / kBlock;
  parallel_for(pool, blocks, blocks, [&](Index unit) {
    const Index first = unit * kBlock, length = std::min(kBlock, s.words - first);
    T* sums = thread_buffer<T, Sums>(s.width * kBlock + 1);
    T* copied = thread_buffer<T, Copied>(s.steps * kBlock + 1);
    std::fill_n(sums, s.width * kBlock, T(0));
    std::fill_n(copied, s.steps * kBlock, T(0));
    for (Index b = 0; b < s.batch; ++b) {
      const std::int32_t* places = columns.of(b);
      for (Index t = 0; t < s.steps; ++t)
        std::copy_n(q + (t * s.batch + b) * s.words + first, length, copied + t * kBlock);
      const Index count = columns.count(b);
      const Left<T> a = {kept.data() + s.steps * columns.starts[b], 1, count};
      for (Index column = 0; column < length; column += panel)
        multiply<true>(a, Right<T>{copied + column, kBlock}, count, s.steps, 2, [&](Index j, int v, Vector<T> sum) {
          T* at = sums + places[j] * kBlock + column + v * lanes;
          store(at, load(at) + sum);
        });
    }
    for (Index v = 0; v < length; ++v)
      for (Index h = 0; h < s.width; ++h) matrix[(first + v) * s.width + h] = sums[h * kBlock + v];
  });
}

// Of rows of logits + bias: probabilities, and minus the logarithm of the target's. Probabilities may take the logits' place.
template <typename T, typename Pool>
void word_losses(Index rows, Index words, const T* logits, const T* bias, const std::int32_t* targets, T* losses,
                 T* probabilities, Pool& pool) {
  constexpr Index lanes = Simd<T>::lanes;
  parallel_for(pool, rows, rows, [&](Index r) {
    const T* from = logits + r * words;
    T* to = probabilities + r * words;
    T most = from[0] + bias[0];
    Index n = 0;
    Vector<T> high = Vector<T>{} + most;
    for (; n + lanes <= words; n += lanes) {
      const Vector<T> z = load(from + n) + load(bias + n);
      high = high < z ? z : high;
      store(to + n, z);
    }
    for (Index l = 0; l < lanes; ++l) most = std::max(most, high[l]);
    for (; n < words; ++n) most = std::max(most, to[n] = from[n] + bias[n]);
    const bool known = targets[r] >= 0 && targets[r] < words;
    const T chosen = known ? to[targets[r]] : T(0);
    if (std::isinf(most)) {
      // As in `jax.nn.logsumexp`.
      T total = most;
      for (n = 0; n < words; ++n) total = std::isnan(to[n]) ? to[n] : total;
      for (n = 0; n < words; ++n) to[n] = std::exp(to[n] - total);
      losses[r] = total - chosen;
      return;
    }
    Vector<T> sums = {};
    for (n = 0; n < words; n += lanes) {
      const Index count = words - n;
      const Vector<T> z = exp_below<T>(load_first(to + n, count) - most);
      store_first(to + n, z, count);
      if (count >= lanes) {
        sums += z;
      } else {
        for (Index l = 0; l < count; ++l) sums[l] += z[l];
      }
    }
    const T sum = sum_of<T>(sums), share = T(1) / sum;
    for (n = 0; n < words; n += lanes) store_first(to + n, load_first(to + n, words - n) * share, words - n);
    losses[r] = std::log(sum) + most - chosen;
  });
}

// From tangents of logits and bias, those of the losses and of the probabilities p. The latter may take the place of the logits'.
template <typename T, typename Pool>
void word_losses_tangent(Index rows, Index words, const T* logits, const T* bias, const T* p, const std::int32_t* targets,
                         T* losses, T* probabilities, Pool& pool) {
  constexpr Index lanes = Simd<T>::lanes;
  parallel_for(pool, rows, rows, [&](Index r) {
    const T *from = logits + r * words, *share = p + r * words;
    T* to = probabilities + r * words;
    const bool known = targets[r] >= 0 && targets[r] < words;
    const T chosen = known ? from[targets[r]] + bias[targets[r]] : T(0);
    const auto change = [&](Index n) { return load_first(from + n, words - n) + load_first(bias + n, words - n); };
    Vector<T> sums = {};
    for (Index n = 0; n < words; n += lanes) sums += load_first(share + n, words - n) * change(n);
    const T mean = sum_of<T>(sums);
    for (Index n = 0; n < words; n += lanes)
      store_first(to + n, load_first(share + n, words - n) * (change(n) - mean), words - n);
    losses[r] = mean - chosen;
  });
}

// Cotangents of the logits, c · (p − target), from those of the losses, and their sum over rows, that of the bias. They may take
// the probabilities' place.
template <typename T, typename Pool>
void word_losses_pull(Index rows, Index words, const T* probabilities, const std::int32_t* targets, const T* c, T* logits,
                      T* bias, Pool& pool) {
  constexpr Index kBlock = 512;
  const Index blocks = (words + kBlock - 1) / kBlock;
  parallel_for(pool, blocks, blocks, [&](Index unit) {
    const Index first = unit * kBlock, length = std::min(kBlock, words - first);
    T sums[kBlock] = {};
    for (Index r = 0; r < rows; ++r) {
      const T* from = probabilities + r * words + first;
      T* to = logits + r * words + first;
      const T factor = c[r];
      for (Index n = 0; n < length; ++n) sums[n] += to[n] = from[n] * factor;
      const Index target = targets[r] - first;
      if (target >= 0 && target < length) to[target] -= factor, sums[target] -= factor;
    }
    std::copy_n(sums, length, bias + first);
  });
}

}  // namespace jdarts
