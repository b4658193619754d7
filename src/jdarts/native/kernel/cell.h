// The recurrent search cell over all time steps, and its derivative: state 0 is a highway update of the hidden state, node i
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
  Index length;                // steps that the hidden state is carried over
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

// What the cell is given. Products of the words with the input matrix are ready.
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

// What is kept for the derivative, rows filled up: normalised states, gates and candidates, scales of the norms.
template <typename T, typename Value = T>
struct CellKept {
  Value* states;    // [T, 1 + N, B, W]
  Value* products;  // [T, rows, 2, W]
  Value* scales;    // [T, 1 + N, W]
};

// Memory that lasts from call to call, cut into arrays.
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
      const Index rows = cell.rows_of(i), groups = (rows + kUnitRows - 1) / kUnitRows;
      team.run(groups * panels, [&](Index unit) {
        const Index first = unit % panels * panel, m = unit / panels * kUnitRows;
        const Left<T> a = {(i == 0 ? masked_hidden : masked) + m * W, W, 1};
        const Right<T> b = {packed + (i * panels + unit % panels) * H * panel, panel};
        T* to = products + m * 2 * W + first;
        const int vectors = first + lanes < 2 * W ? 2 : 1;
        multiply<false>(a, b, std::min(kUnitRows, rows - m), H, vectors,
                        [&](Index r, int v, Vector<T> sum) { store(to + r * 2 * W + v * lanes, sum); });
      });
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

// Cotangents of what `search_cell` gives.
template <typename T>
struct CellCotangents {
  const T* outputs;    // [T, B, H]
  const T* last;       // [B, H]
  const T* means;      // [T (1 + N), H]
  const T* variances;  // the same
};

// Where cotangents of the inputs go; those of the matrices only where they are asked for.
template <typename T>
struct CellGradients {
  T *mixture, *projected, *hidden;
  T *recurrent = nullptr, *matrices = nullptr;
};

template <typename T, typename Pool>
void search_cell_backward(const Cell& cell, const CellInputs<T>& in, const T* outputs,
                          const CellKept<T, const T>& kept, const CellCotangents<T>& of, const CellGradients<T>& to,
                          Pool& pool) {
  struct Memory {};
  struct Sums {};
  constexpr Index lanes = Simd<T>::lanes, panel = kPanel<T>;
  constexpr int terms = 1 + kActivations;
  const bool matrices = to.matrices != nullptr;
  const Index B = cell.batch, H = cell.width, N = cell.nodes, W = filled<T>(H), edges = N * (N + 1) / 2;
  const Index panels = panels_of<T>(W), columns = W / lanes, packed_size = panels * 2 * W * panel;
  const Index wide = panels_of<T>(2 * W), sums_size = matrices ? H * wide * panel : 0;
  Arena<T, Memory> memory((N + 1) * (packed_size + sums_size + 32) + (cell.rows() + kTileRows) * 2 * W + 128 +
                          ((3 * N + 8) * B + kTileRows + 1) * W);
  T* packed = memory.take((N + 1) * packed_size);  // transposed
  T* sums = memory.take((N + 1) * sums_size);      // of the matrices
  T* products = memory.take((cell.rows() + kTileRows) * 2 * W);
  T* changes = memory.take((N + 1) * B * W);              // of the normalised states
  T* masked = memory.take((N * B + 1) * W + kTileRows);   // states
  T* masked_hidden = memory.take((B + 1) * W + kTileRows);
  T* carried = memory.take(B * W);  // of the hidden state
  T* mask = memory.take(B * W);
  double* mixture = thread_buffer<double, Sums>(columns * edges * terms);
  Team team(pool, std::max<Index>(1, B * H * N / 4096));

  team.run((N + 1) * panels, [&](Index unit) {
    const Index state = unit / panels, first = unit % panels * panel;
    T* p = packed + unit * 2 * W * panel;
    const T* from = in.matrix(cell, state);
    std::fill_n(p, 2 * W * panel, T(0));
    for (Index n = 0; n < std::min(panel, H - first); ++n)
      for (Index half = 0; half < 2; ++half)
        for (Index k = 0; k < H; ++k) p[(half * W + k) * panel + n] = from[(first + n) * 2 * H + half * H + k];
  });
  std::fill_n(sums, (N + 1) * sums_size, T(0));
  std::fill_n(mixture, columns * edges * terms, 0.0);
  fill_rows(in.mask, B, H, mask);
  fill_rows(of.last, B, H, carried);

  for (Index t = cell.steps - 1; t >= 0; --t) {
    const T* states = kept.states + t * (N + 1) * B * W;
    const Index before = std::min(t, cell.length);
    const T* hidden = before == 0 ? in.hidden : outputs + (before - 1) * B * H;
    for (Index i = N; i >= 0; --i) {
      const T* found = kept.products + (t * cell.rows() + cell.first_row(i)) * 2 * W;
      T* rows = products + cell.first_row(i) * 2 * W;
      team.run(columns, [&](Index unit) {
        struct Raw {};
        const Index h = unit * lanes, count = std::min(lanes, H - h);
        if (i == N) {
          for (Index b = 0; b < B; ++b) {
            T* back = carried + b * W + h;
            Vector<T> change = load_first(of.outputs + (t * B + b) * H + h, count);
            if (t < cell.length) {
              change += load(back);
              store(back, change * T(0));
            }
            change /= T(cell.outputs);
            for (Index s = 0; s <= N; ++s) store(changes + (s * B + b) * W + h, change * T(0));
            for (Index k = 0; k < cell.outputs; ++k) {
              T* at = changes + (cell.concat[k] * B + b) * W + h;
              store(at, load(at) + change);
            }
            if (!matrices) continue;
            const Vector<T> kept_ones = load(mask + b * W + h);
            for (Index s = 0; s < N; ++s)
              store(masked + (s * B + b) * W + h, load(states + (s * B + b) * W + h) * kept_ones);
            store(masked_hidden + b * W + h, load_first(hidden + b * H + h, count) * kept_ones);
          }
        }
        // Through the norm.
        const T *state = states + i * B * W + h, *change = changes + i * B * W + h;
        const Index norm = t * (N + 1) + i;
        const Vector<T> scale = load(kept.scales + norm * W + h);
        const Vector<T> mean = mean_of<T>(B, [&](Index b) { return load(change + b * W); });
        const Vector<T> along = mean_of<T>(B, [&](Index b) { return load(change + b * W) * load(state + b * W); });
        const Vector<T> of_mean = load_first(of.means + norm * H + h, count) / T(B) - scale * mean;
        const Vector<T> of_state =
            load_first(of.variances + norm * H + h, count) * T(2) / (T(B) * scale) - scale * along;
        T* raw = thread_buffer<T, Raw>(B * lanes);
        for (Index b = 0; b < B; ++b)
          store(raw + b * lanes, scale * load(change + b * W) + of_mean + of_state * load(state + b * W));
        if (i == 0) {
          for (Index b = 0; b < B; ++b) {
            const Vector<T> d = load(raw + b * lanes), gate = load(found + b * 2 * W + h), through = d * gate;
            const Vector<T> value = tanh_of<T>(load(found + b * 2 * W + W + h));
            const Vector<T> of_gate = d * gate * (T(1) - gate) * (value - load_first(hidden + b * H + h, count));
            const Vector<T> of_candidate = through * (T(1) - value * value);
            T* word = to.projected + (t * B + b) * 2 * H + h;
            store(carried + b * W + h, load(carried + b * W + h) + d - through);
            store(rows + b * 2 * W + h, of_gate);
            store(rows + b * 2 * W + W + h, of_candidate);
            store_first(word, of_gate, count);
            store_first(word + H, of_candidate, count);
          }
          return;
        }
        const T* q = in.rates(i);
        for (Index p = 0; p < i; ++p, q += kActivations) {
          const T all = total(q);
          Vector<T> sum[terms] = {};
          for (Index b = 0; b < B; ++b) {
            const Index r = (p * B + b) * 2 * W + h;
            T* back = changes + (p * B + b) * W + h;
            const Vector<T> d = load(raw + b * lanes), gate = load(found + r), s = load(states + (p * B + b) * W + h);
            const Vector<T> through = d * gate, around = d - through;
            const Functions<T> f(load(found + r + W));
            store(back, load(back) + all * around);
            store(rows + r, around * gate * (f.mixed(q) - all * s));
            store(rows + r + W, through * f.mixed_slope(q));
            sum[0] += around * s;
            for (int k = 0; k < kActivations; ++k) sum[1 + k] += through * f.value[k];
          }
          double* total_of = mixture + (unit * edges + i * (i - 1) / 2 + p) * terms;
          for (int k = 0; k < terms; ++k) total_of[k] += sum_of<T>(sum[k]);
        }
      });
      // Back through the products, to the states and the hidden state.
      const Index count = cell.rows_of(i), groups = (count + kUnitRows - 1) / kUnitRows;
      team.run(groups * panels, [&](Index unit) {
        const Index first = unit % panels * panel, m = unit / panels * kUnitRows;
        const Right<T> b = {packed + (i * panels + unit % panels) * 2 * W * panel, panel};
        T* back = (i == 0 ? carried : changes) + first;
        multiply<false>(Left<T>{rows + m * 2 * W, 2 * W, 1}, b, std::min(kUnitRows, count - m), 2 * W,
                        first + lanes < W ? 2 : 1, [&](Index r, int v, Vector<T> sum) {
                          T* at = back + (m + r) * W + v * lanes;
                          store(at, load(at) + sum * load(mask + (m + r) % B * W + first + v * lanes));
                        });
      });
    }
    if (!matrices) continue;
    team.run((N + 1) * wide, [&](Index unit) {
      const Index i = unit / wide, first = unit % wide * panel;
      const Left<T> a = {i == 0 ? masked_hidden : masked, 1, W};
      const Right<T> b = {products + cell.first_row(i) * 2 * W + first, 2 * W};
      T* into = sums + unit * H * panel;
      multiply<true>(a, b, H, cell.rows_of(i), first + lanes < 2 * W ? 2 : 1, [&](Index r, int v, Vector<T> sum) {
        T* at = into + r * panel + v * lanes;
        store(at, load(at) + sum);
      });
    });
  }
  for (Index b = 0; b < B; ++b) std::copy_n(carried + b * W, H, to.hidden + b * H);
  for (Index e = 0; e < edges; ++e)
    for (int f = 0; f < kActivations; ++f) {
      double sum = 0;
      for (Index c = 0; c < columns; ++c) {
        const double* row = mixture + (c * edges + e) * terms;
        sum += row[0] + row[1 + f];
      }
      to.mixture[e * kActivations + f] = T(sum);
    }
  if (!matrices) return;
  team.run(N + 1, [&](Index i) {
    T* matrix = i == 0 ? to.recurrent : to.matrices + (i - 1) * H * 2 * H;
    for (Index k = 0; k < H; ++k)
      for (Index half = 0; half < 2; ++half)
        for (Index h = 0; h < H; ++h) {
          const Index c = half * W + h;
          matrix[k * 2 * H + half * H + h] = sums[((i * wide + c / panel) * H + k) * panel + c % panel];
        }
  });
}

}  // namespace jdarts
