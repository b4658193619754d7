// The derivative of the recurrent search cell over all time steps, from the last to the first.
//
// Cotangents of products pass to the states, column by column; the gradients of the matrices are sums over the time steps.
#pragma once

#include <algorithm>

#include "cell.h"

namespace jdarts {

// Cotangents of the results of `search_cell`.
template <typename T>
struct CellCotangents {
  const T* outputs;    // [T, B, H]
  const T* last;       // [B, H]
  const T* means;      // [T (1 + N), H]
  const T* variances;  // the same
};

// The memory for cotangents of the inputs; null for the matrices and for the normalised states if they are not needed.
template <typename T>
struct CellGradients {
  T *mixture, *projected, *hidden;
  T *recurrent = nullptr, *matrices = nullptr;
  T* states = nullptr;  // [T, 1 + N, B, W]
};

// Sums for an edge's gradients of the mixture: one that all activations share, then one for each.
constexpr int kMixtureTerms = 1 + kActivations;

// Adds them up over the columns of vectors.
template <typename T>
void give_mixture(const Cell& cell, const double* sums, Index columns, T* mixture) {
  const Index edges = cell.nodes * (cell.nodes + 1) / 2;
  for (Index e = 0; e < edges; ++e)
    for (int f = 0; f < kActivations; ++f) {
      double sum = 0;
      for (Index c = 0; c < columns; ++c) {
        const double* row = sums + (c * edges + e) * kMixtureTerms;
        sum += row[0] + row[1 + f];
      }
      mixture[e * kActivations + f] = T(sum);
    }
}

// The matrices' gradients from sums in panels of columns.
template <typename T>
void give_matrices(const Cell& cell, const T* sums, const CellGradients<T>& to, Team& team) {
  constexpr Index panel = kPanel<T>;
  const Index H = cell.width, W = filled<T>(H), wide = panels_of<T>(2 * W);
  team.run(cell.nodes + 1, [&](Index i) {
    T* matrix = i == 0 ? to.recurrent : to.matrices + (i - 1) * H * 2 * H;
    for (Index k = 0; k < H; ++k)
      for (Index half = 0; half < 2; ++half)
        for (Index h = 0; h < H; ++h) {
          const Index c = half * W + h;
          matrix[k * 2 * H + half * H + h] = sums[((i * wide + c / panel) * H + k) * panel + c % panel];
        }
  });
}

template <typename T, typename Pool>
void search_cell_backward(const Cell& cell, const CellInputs<T>& in, const T* outputs,
                          const CellKept<T, const T>& kept, const CellCotangents<T>& of, const CellGradients<T>& to,
                          Pool& pool) {
  struct Memory {};
  struct Sums {};
  constexpr Index lanes = Simd<T>::lanes, panel = kPanel<T>;
  constexpr int terms = kMixtureTerms;
  const bool matrices = to.matrices != nullptr;
  const Index B = cell.batch, H = cell.width, N = cell.nodes, W = filled<T>(H), edges = N * (N + 1) / 2;
  const Index panels = panels_of<T>(W), columns = W / lanes, packed_size = panels * 2 * W * panel;
  const Index wide = panels_of<T>(2 * W), sums_size = matrices ? H * wide * panel : 0;
  Arena<T, Memory> memory((N + 1) * (packed_size + sums_size + 32) + (cell.rows() + kTileRows) * 2 * W + 128 +
                          ((3 * N + 8) * B + kTileRows + 1) * W);
  T* packed = memory.take((N + 1) * packed_size);  // transposed
  T* sums = memory.take((N + 1) * sums_size);      // of the matrices
  T* products = memory.take((cell.rows() + kTileRows) * 2 * W);
  T* last_changes = memory.take((N + 1) * B * W);         // of the normalised states, at one time step
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
    T* changes = to.states ? to.states + t * (N + 1) * B * W : last_changes;
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
        // The derivative of the norm.
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
      // The derivative of the products, for the states and the hidden state.
      T* back = i == 0 ? carried : changes;
      multiply_panels(team, rows, 2 * W, cell.rows_of(i), packed + i * packed_size, 2 * W, W,
                      [&](Index row, Index column, Vector<T> sum) {
                        T* at = back + row * W + column;
                        store(at, load(at) + sum * load(mask + row % B * W + column));
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
  give_mixture(cell, mixture, columns, to.mixture);
  if (matrices) give_matrices(cell, sums, to, team);
}

}  // namespace jdarts
