// The recurrent search cell over all time steps: state 0 is a highway update of the hidden state, node i
// the sum of mixed highway updates of states 0 … i − 1; each is normalised over the batch.
//
// Columns are independent but for the matrix products, so a time step is a phase of products and a phase of columns for each
// node. All sums are taken in an order that does not depend on the number of threads.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

#include "highway.h"
#include "matmul.h"
#include "team.h"

namespace jdarts {

// Sizes of a cell. Rows of products belong to state 0, then to the predecessors of node 1, of node 2, …, a batch each.
struct Cell {
  Index steps, batch, width, nodes;
  Index length;                // steps before the padding
  const std::int64_t* concat;  // states whose mean is the output
  Index outputs;               // how many

  Index first_row(Index state) const { return state == 0 ? 0 : batch * (1 + state * (state - 1) / 2); }
  Index rows_of(Index state) const { return batch * std::max<Index>(state, 1); }
  Index rows() const { return first_row(nodes + 1); }
  bool is_output(Index state) const { return std::find(concat, concat + outputs, state) != concat + outputs; }
};

// The width filled up to whole vectors.
template <typename T>
constexpr Index filled(Index width) {
  return rounded(width, Simd<T>::lanes);
}

constexpr double kNormEpsilon = 1e-5;
constexpr Index kUnitRows = 4 * kTileRows;  // rows of a unit of work

// The inputs of the cell, among them the products of the words with the input matrix.
template <typename T>
struct CellInputs {
  const T* mixture;    // [E, F]
  const T* recurrent;  // [H, 2H]
  const T* matrices;   // [N, H, 2H]
  const T* projected;  // [T, B, 2H]
  const T* hidden;     // [B, H]
  const T* mask;       // [B, H]

  const T* matrix(const Cell& cell, Index state) const {
    return state == 0 ? recurrent : matrices + (state - 1) * cell.width * 2 * cell.width;
  }
  const T* rates(Index state) const { return mixture + state * (state - 1) / 2 * kActivations; }
};

// Residuals for the derivative, rows filled up: normalised states, gates and candidates, scales of the norms.
template <typename T, typename Value = T>
struct CellKept {
  Value* states;    // [T, 1 + N, B, W]
  Value* products;  // [T, rows, 2, W]
  Value* scales;    // [T, 1 + N, W]
};

// Memory that is kept between calls, cut into arrays.
template <typename T, typename Purpose>
class Arena {
 public:
  explicit Arena(Index values) : next_(thread_buffer<T, Purpose>(values)) {}
  T* take(Index values) {
    T* p = next_;
    next_ += rounded(values, 64 / sizeof(T));
    return p;
  }

 private:
  T* next_;
};

// `rows` filled rows of a matrix whose rows are `width` long.
template <typename T>
void fill_rows(const T* from, Index rows, Index width, T* to) {
  const Index whole = filled<T>(width);
  for (Index r = 0; r < rows; ++r) {
    std::copy_n(from + r * width, width, to + r * whole);
    std::fill(to + r * whole + width, to + (r + 1) * whole, T(0));
  }
}

// A column of vectors of the sum over rows of a batch: mean of what `value` gives for each row.
template <typename T, typename Value>
JDARTS_INLINE Vector<T> mean_of(Index batch, const Value& value) {
  Vector<T> sum = {};
  for (Index b = 0; b < batch; ++b) sum += value(b);
  return sum / T(batch);
}

template <typename T>
JDARTS_INLINE Vector<T> tanh_of(Vector<T> x) {
  const Vector<T> u = exp_below<T>(T(-2) * magnitude<T>(x)), t = (T(1) - u) / (T(1) + u);
  return x < T(0) ? -t : t;
}

// `count` rows times packed panels `[panels, depth, panel]`: `sink(row, column, sum)` gets each vector of the products, whose
// rows are `width` long.
template <typename T, typename Sink>
void multiply_panels(Team& team, const T* rows, Index stride, Index count, const T* packed, Index depth, Index width,
                     const Sink& sink) {
  constexpr Index lanes = Simd<T>::lanes, panel = kPanel<T>;
  const Index panels = panels_of<T>(width), groups = (count + kUnitRows - 1) / kUnitRows;
  team.run(groups * panels, [&](Index unit) {
    const Index first = unit % panels * panel, m = unit / panels * kUnitRows;
    const Left<T> a = {rows + m * stride, stride, 1};
    const Right<T> b = {packed + unit % panels * depth * panel, panel};
    multiply<false>(a, b, std::min(kUnitRows, count - m), depth, first + lanes < width ? 2 : 1,
                    [&](Index r, int v, Vector<T> sum) { sink(m + r, first + v * lanes, sum); });
  });
}

template <typename T, typename Pool>
void search_cell(const Cell& cell, const CellInputs<T>& in, T* outputs, T* last, T* means, T* variances,
                 const CellKept<T>& kept, Pool& pool) {
  struct Memory {};
  constexpr Index lanes = Simd<T>::lanes, panel = kPanel<T>;
  const Index B = cell.batch, H = cell.width, N = cell.nodes, W = filled<T>(H);
  const Index panels = panels_of<T>(2 * W), columns = W / lanes, packed_size = panels * H * panel;
  Arena<T, Memory> memory((N + 1) * (packed_size + 16) + (N * B + 2 * kTileRows + 3 * B) * W + 256);
  T* packed = memory.take((N + 1) * packed_size);
  T* masked = memory.take((N * B + kTileRows) * W);
  T* hidden = memory.take(B * W);
  T* masked_hidden = memory.take((B + kTileRows) * W);
  T* mask = memory.take(B * W);
  Team team(pool, std::max<Index>(1, B * H * N / 4096));

  team.run((N + 1) * panels, [&](Index unit) {
    const Index state = unit / panels, first = unit % panels * panel;
    T* to = packed + unit * H * panel;
    const T* from = in.matrix(cell, state);
    for (Index k = 0; k < H; ++k)
      for (Index n = 0; n < panel; ++n) {
        const Index c = first + n, h = c % W;
        to[k * panel + n] = c < 2 * W && h < H ? from[k * 2 * H + c / W * H + h] : T(0);
      }
  });
  fill_rows(in.hidden, B, H, hidden);
  fill_rows(in.mask, B, H, mask);
  for (Index n = 0; n < B * W; ++n) masked_hidden[n] = hidden[n] * mask[n];

  for (Index t = 0; t < cell.steps; ++t) {
    T* states = kept.states + t * (N + 1) * B * W;
    for (Index i = 0; i <= N; ++i) {
      T* products = kept.products + (t * cell.rows() + cell.first_row(i)) * 2 * W;
      multiply_panels(team, i == 0 ? masked_hidden : masked, W, cell.rows_of(i), packed + i * packed_size, H, 2 * W,
                      [&](Index row, Index column, Vector<T> sum) { store(products + row * 2 * W + column, sum); });
      team.run(columns, [&](Index unit) {
        struct Raw {};
        const Index h = unit * lanes, count = std::min(lanes, H - h);
        T* raw = thread_buffer<T, Raw>(B * lanes);
        for (Index b = 0; b < B; ++b) {
          Vector<T> sum = {};
          if (i == 0) {
            const T* word = in.projected + (t * B + b) * 2 * H + h;
            T* row = products + b * 2 * W + h;
            const Vector<T> s = load(hidden + b * W + h), candidate = load(row + W) + load_first(word + H, count);
            const Vector<T> gate = logistic<T>(load(row) + load_first(word, count));
            store(row, gate);
            store(row + W, candidate);
            sum = s + gate * (tanh_of<T>(candidate) - s);
          } else {
            const T* q = in.rates(i);
            for (Index p = 0; p < i; ++p, q += kActivations) {
              T* row = products + (p * B + b) * 2 * W + h;
              const Vector<T> s = total(q) * load(states + (p * B + b) * W + h), gate = logistic<T>(load(row));
              store(row, gate);
              sum += s + gate * (Functions<T>(load(row + W)).mixed(q) - s);
            }
          }
          store(raw + b * lanes, sum);
        }
        const Vector<T> mean = mean_of<T>(B, [&](Index b) { return load(raw + b * lanes); });
        const Vector<T> variance = mean_of<T>(B, [&](Index b) {
          const Vector<T> apart = load(raw + b * lanes) - mean;
          return apart * apart;
        });
        Vector<T> scale;
        for (Index l = 0; l < lanes; ++l) scale[l] = T(1) / std::sqrt(variance[l] + T(kNormEpsilon));
        const Index norm = t * (N + 1) + i;
        store_first(means + norm * H + h, mean, count);
        store_first(variances + norm * H + h, variance, count);
        store(kept.scales + norm * W + h, scale);
        for (Index b = 0; b < B; ++b) {
          const Vector<T> state = (load(raw + b * lanes) - mean) * scale;
          store(states + (i * B + b) * W + h, state);
          if (i < N) store(masked + (i * B + b) * W + h, state * load(mask + b * W + h));
        }
        if (i < N) return;
        for (Index b = 0; b < B; ++b) {
          Vector<T> sum = {};
          for (Index k = 0; k < cell.outputs; ++k) sum += load(states + (cell.concat[k] * B + b) * W + h);
          sum /= T(cell.outputs);
          store_first(outputs + (t * B + b) * H + h, sum, count);
          if (t >= cell.length) continue;
          store(hidden + b * W + h, sum);
          store(masked_hidden + b * W + h, sum * load(mask + b * W + h));
        }
      });
    }
  }
  for (Index b = 0; b < B; ++b) std::copy_n(hidden + b * W, H, last + b * H);
}

}  // namespace jdarts
