// Tangents of the recurrent search cell and of its derivative: one pass over time each.
//
// Each reads the residuals of the pass itself, so that no function is evaluated again. The two products of a tangent,
// x' · W + x · W', are one of twice the depth. Names that begin with `d_` are tangents.
#pragma once

#include <algorithm>

#include "cell_backward.h"

namespace jdarts {

// The tangents of outputs, last, means, variances and residuals, from those of the inputs; a mask has none.
template <typename T, typename Pool>
void search_cell_tangent(const Cell& cell, const CellInputs<T>& in, const T* outputs, const CellKept<T, const T>& kept,
                         const CellInputs<T>& d_in, T* d_outputs, T* d_last, T* d_means, T* d_variances,
                         const CellKept<T>& d_kept, Pool& pool) {
  struct Memory {};
  constexpr Index lanes = Simd<T>::lanes, panel = kPanel<T>;
  const Index B = cell.batch, H = cell.width, N = cell.nodes, W = filled<T>(H);
  const Index panels = panels_of<T>(2 * W), columns = W / lanes, packed_size = panels * 2 * W * panel;
  Arena<T, Memory> memory((N + 1) * (packed_size + 16) + ((2 * N + 4) * B + 4 * kTileRows) * W + 256);
  T* packed = memory.take((N + 1) * packed_size);     // the matrices, then their tangents
  T* masked = memory.take((N * B + kTileRows) * 2 * W);  // tangents of the states, then the states
  T* masked_hidden = memory.take((B + kTileRows) * 2 * W);
  T* d_hidden = memory.take(B * W);
  T* mask = memory.take(B * W);
  Team team(pool, std::max<Index>(1, B * H * N / 4096));

  team.run((N + 1) * panels, [&](Index unit) {
    const Index state = unit / panels, first = unit % panels * panel;
    T* to = packed + unit * 2 * W * panel;
    for (const T* from : {in.matrix(cell, state), d_in.matrix(cell, state)})
      for (Index k = 0; k < W; ++k)
        for (Index n = 0; n < panel; ++n) {
          const Index c = first + n, h = c % W;
          *to++ = k < H && c < 2 * W && h < H ? from[k * 2 * H + c / W * H + h] : T(0);
        }
  });
  fill_rows(d_in.hidden, B, H, d_hidden);
  fill_rows(in.mask, B, H, mask);
  for (Index b = 0; b < B; ++b) {
    T* to = masked_hidden + b * 2 * W;
    fill_rows(in.hidden + b * H, 1, H, to + W);
    for (Index h = 0; h < W; ++h) to[h] = d_hidden[b * W + h] * mask[b * W + h], to[W + h] *= mask[b * W + h];
  }

  for (Index t = 0; t < cell.steps; ++t) {
    const T* states = kept.states + t * (N + 1) * B * W;
    T* d_states = d_kept.states + t * (N + 1) * B * W;
    const Index before = std::min(t, cell.length);
    const T* hidden = before == 0 ? in.hidden : outputs + (before - 1) * B * H;
    for (Index i = 0; i <= N; ++i) {
      const Index place = (t * cell.rows() + cell.first_row(i)) * 2 * W;
      const T* products = kept.products + place;
      T* d_products = d_kept.products + place;
      multiply_panels(team, i == 0 ? masked_hidden : masked, 2 * W, cell.rows_of(i), packed + i * packed_size, 2 * W, 2 * W,
                      [&](Index row, Index column, Vector<T> sum) { store(d_products + row * 2 * W + column, sum); });
      team.run(columns, [&](Index unit) {
        struct Raw {};
        const Index h = unit * lanes, count = std::min(lanes, H - h);
        T* raw = thread_buffer<T, Raw>(B * lanes);
        for (Index b = 0; b < B; ++b) {
          Vector<T> sum = {};
          if (i == 0) {
            const T *d_word = d_in.projected + (t * B + b) * 2 * H + h, *row = products + b * 2 * W + h;
            T* d_row = d_products + b * 2 * W + h;
            const Vector<T> s = load_first(hidden + b * H + h, count), ds = load(d_hidden + b * W + h);
            const Vector<T> gate = load(row), value = tanh_of<T>(load(row + W));
            const Vector<T> d_gate = gate * (T(1) - gate) * (load(d_row) + load_first(d_word, count));
            const Vector<T> d_candidate = load(d_row + W) + load_first(d_word + H, count);
            store(d_row, d_gate);
            store(d_row + W, d_candidate);
            sum = ds + d_gate * (value - s) + gate * ((T(1) - value * value) * d_candidate - ds);
          } else {
            const T *q = in.rates(i), *dq = d_in.rates(i);
            for (Index p = 0; p < i; ++p, q += kActivations, dq += kActivations) {
              const Index at = (p * B + b) * W + h, r = (p * B + b) * 2 * W + h;
              const Vector<T> s = load(states + at), gate = load(products + r);
              const Vector<T> ds = total(q) * load(d_states + at) + total(dq) * s;
              const Vector<T> d_gate = gate * (T(1) - gate) * load(d_products + r);
              const Functions<T> f(load(products + r + W));
              store(d_products + r, d_gate);
              sum += ds + d_gate * (f.mixed(q) - total(q) * s) +
                     gate * (f.mixed_slope(q) * load(d_products + r + W) + f.mixed(dq) - ds);
            }
          }
          store(raw + b * lanes, sum);
        }
        const Index norm = t * (N + 1) + i;
        const T* state = states + i * B * W + h;
        const Vector<T> scale = load(kept.scales + norm * W + h);
        const Vector<T> mean = mean_of<T>(B, [&](Index b) { return load(raw + b * lanes); });
        const Vector<T> along = mean_of<T>(B, [&](Index b) { return load(raw + b * lanes) * load(state + b * W); });
        store_first(d_means + norm * H + h, mean, count);
        store_first(d_variances + norm * H + h, T(2) * along / scale, count);
        store(d_kept.scales + norm * W + h, -scale * scale * along);
        for (Index b = 0; b < B; ++b) {
          const Vector<T> s = load(state + b * W), ds = scale * (load(raw + b * lanes) - mean - along * s);
          store(d_states + (i * B + b) * W + h, ds);
          if (i == N) continue;
          const Vector<T> kept_ones = load(mask + b * W + h);
          T* to = masked + (i * B + b) * 2 * W + h;
          store(to, ds * kept_ones);
          store(to + W, s * kept_ones);
        }
        if (i < N) return;
        for (Index b = 0; b < B; ++b) {
          Vector<T> sum = {};
          for (Index k = 0; k < cell.outputs; ++k) sum += load(d_states + (cell.concat[k] * B + b) * W + h);
          sum /= T(cell.outputs);
          store_first(d_outputs + (t * B + b) * H + h, sum, count);
          if (t >= cell.length) continue;
          const Vector<T> kept_ones = load(mask + b * W + h);
          T* to = masked_hidden + b * 2 * W + h;
          store(d_hidden + b * W + h, sum);
          store(to, sum * kept_ones);
          store(to + W, load_first(outputs + (t * B + b) * H + h, count) * kept_ones);
        }
      });
    }
  }
  for (Index b = 0; b < B; ++b) std::copy_n(d_hidden + b * W, H, d_last + b * H);
}

// The inputs of `search_cell_backward`, or their tangents.
template <typename T>
struct CellPass {
  CellInputs<T> in;
  const T* outputs;
  CellKept<T, const T> kept;
  CellCotangents<T> of;
};

// The tangents of the results of `search_cell_backward`, from those of its inputs; `changes` are its cotangents of the normalised
// states.
template <typename T, typename Pool>
void search_cell_backward_tangent(const Cell& cell, const CellPass<T>& x, const T* changes, const CellPass<T>& dx,
                                  const CellGradients<T>& to, Pool& pool) {
  struct Memory {};
  struct Sums {};
  constexpr Index lanes = Simd<T>::lanes, panel = kPanel<T>;
  constexpr int terms = kMixtureTerms;
  const bool matrices = to.matrices != nullptr;
  const Index B = cell.batch, H = cell.width, N = cell.nodes, W = filled<T>(H), edges = N * (N + 1) / 2;
  const Index panels = panels_of<T>(W), columns = W / lanes, packed_size = panels * 4 * W * panel;
  const Index wide = panels_of<T>(2 * W), sums_size = matrices ? H * wide * panel : 0;
  // All rows are needed for the matrices, and those of one node at a time for the states.
  const Index all_rows = matrices ? cell.rows() : cell.rows_of(N);
  Arena<T, Memory> memory((N + 1) * (packed_size + sums_size + 32) + (all_rows + kTileRows) * 4 * W + 256 +
                          ((3 * N + 9) * B + 2 * kTileRows + 2) * W);
  T* packed = memory.take((N + 1) * packed_size);  // transposed: the matrices, then their tangents
  T* sums = memory.take((N + 1) * sums_size);      // of the matrices' tangents
  T* products = memory.take((all_rows + kTileRows) * 4 * W);  // tangents of the products' cotangents, then the cotangents
  T* d_changes = memory.take((N + 1) * B * W);                // of the normalised states
  T* masked = memory.take(N * B * W + kTileRows);             // states
  T* d_masked = memory.take(N * B * W + kTileRows);
  T* masked_hidden = memory.take(B * W + kTileRows);
  T* d_masked_hidden = memory.take(B * W + kTileRows);
  T* d_carried = memory.take(B * W);  // of the hidden state
  T* mask = memory.take(B * W);
  double* d_mixture = thread_buffer<double, Sums>(columns * edges * terms);
  Team team(pool, std::max<Index>(1, B * H * N / 4096));

  team.run((N + 1) * panels, [&](Index unit) {
    const Index state = unit / panels, first = unit % panels * panel;
    T* p = packed + unit * 4 * W * panel;
    std::fill_n(p, 4 * W * panel, T(0));
    for (const T* from : {x.in.matrix(cell, state), dx.in.matrix(cell, state)}) {
      for (Index n = 0; n < std::min(panel, H - first); ++n)
        for (Index half = 0; half < 2; ++half)
          for (Index k = 0; k < H; ++k) p[(half * W + k) * panel + n] = from[(first + n) * 2 * H + half * H + k];
      p += 2 * W * panel;
    }
  });
  std::fill_n(sums, (N + 1) * sums_size, T(0));
  std::fill_n(d_mixture, columns * edges * terms, 0.0);
  fill_rows(x.in.mask, B, H, mask);
  fill_rows(dx.of.last, B, H, d_carried);

  for (Index t = cell.steps - 1; t >= 0; --t) {
    const Index first_state = t * (N + 1) * B * W, before = std::min(t, cell.length);
    const T *states = x.kept.states + first_state, *d_states = dx.kept.states + first_state;
    const auto hidden_of = [&](const CellPass<T>& of) {
      return before == 0 ? of.in.hidden : of.outputs + (before - 1) * B * H;
    };
    const T *hidden = hidden_of(x), *d_hidden = hidden_of(dx);
    for (Index i = N; i >= 0; --i) {
      const Index first_row = (t * cell.rows() + cell.first_row(i)) * 2 * W;
      const T *found = x.kept.products + first_row, *d_found = dx.kept.products + first_row;
      T* rows = products + (matrices ? cell.first_row(i) : 0) * 4 * W;
      team.run(columns, [&](Index unit) {
        struct Raw {};
        const Index h = unit * lanes, count = std::min(lanes, H - h);
        if (i == N) {
          for (Index b = 0; b < B; ++b) {
            T* back = d_carried + b * W + h;
            Vector<T> d_change = load_first(dx.of.outputs + (t * B + b) * H + h, count);
            if (t < cell.length) {
              d_change += load(back);
              store(back, Vector<T>{});
            }
            d_change /= T(cell.outputs);
            for (Index s = 0; s <= N; ++s) store(d_changes + (s * B + b) * W + h, Vector<T>{});
            for (Index k = 0; k < cell.outputs; ++k) {
              T* at = d_changes + (cell.concat[k] * B + b) * W + h;
              store(at, load(at) + d_change);
            }
            if (!matrices) continue;
            const Vector<T> kept_ones = load(mask + b * W + h);
            for (Index s = 0; s < N; ++s) {
              const Index at = (s * B + b) * W + h;
              store(masked + at, load(states + at) * kept_ones);
              store(d_masked + at, load(d_states + at) * kept_ones);
            }
            store(masked_hidden + b * W + h, load_first(hidden + b * H + h, count) * kept_ones);
            store(d_masked_hidden + b * W + h, load_first(d_hidden + b * H + h, count) * kept_ones);
          }
        }
        // The derivative of the norm.
        const T *state = states + i * B * W + h, *d_state = d_states + i * B * W + h;
        const T *change = changes + first_state + i * B * W + h, *d_change = d_changes + i * B * W + h;
        const Index norm = t * (N + 1) + i;
        const Vector<T> scale = load(x.kept.scales + norm * W + h), d_scale = load(dx.kept.scales + norm * W + h);
        const auto mean_over = [&](const auto& value) { return mean_of<T>(B, [&](Index b) { return value(b * W); }); };
        const Vector<T> mean = mean_over([&](Index b) { return load(change + b); });
        const Vector<T> along = mean_over([&](Index b) { return load(change + b) * load(state + b); });
        const Vector<T> d_mean = mean_over([&](Index b) { return load(d_change + b); });
        const Vector<T> d_along = mean_over(
            [&](Index b) { return load(d_change + b) * load(state + b) + load(change + b) * load(d_state + b); });
        const Vector<T> of_variance = load_first(x.of.variances + norm * H + h, count) * T(2) / (T(B) * scale);
        const Vector<T> d_of_variance = load_first(dx.of.variances + norm * H + h, count) * T(2) / (T(B) * scale) -
                                        of_variance * d_scale / scale;
        const Vector<T> of_mean = load_first(x.of.means + norm * H + h, count) / T(B) - scale * mean;
        const Vector<T> d_of_mean =
            load_first(dx.of.means + norm * H + h, count) / T(B) - d_scale * mean - scale * d_mean;
        const Vector<T> of_state = of_variance - scale * along;
        const Vector<T> d_of_state = d_of_variance - d_scale * along - scale * d_along;
        T* raw = thread_buffer<T, Raw>(2 * B * lanes);
        for (Index b = 0; b < B; ++b) {
          const Vector<T> c = load(change + b * W), s = load(state + b * W);
          store(raw + 2 * b * lanes, scale * c + of_mean + of_state * s);
          store(raw + (2 * b + 1) * lanes, d_scale * c + scale * load(d_change + b * W) + d_of_mean + d_of_state * s +
                                               of_state * load(d_state + b * W));
        }
        if (i == 0) {
          for (Index b = 0; b < B; ++b) {
            const T *row = found + b * 2 * W + h, *d_row = d_found + b * 2 * W + h;
            const Vector<T> d = load(raw + 2 * b * lanes), dd = load(raw + (2 * b + 1) * lanes);
            const Vector<T> gate = load(row), d_gate = load(d_row), open = T(1) - gate;
            const Vector<T> value = tanh_of<T>(load(row + W)), slope = T(1) - value * value;
            const Vector<T> d_value = slope * load(d_row + W);
            const Vector<T> apart = value - load_first(hidden + b * H + h, count);
            const Vector<T> d_apart = d_value - load_first(d_hidden + b * H + h, count);
            const Vector<T> through = d * gate, d_through = dd * gate + d * d_gate, around = through * open;
            const Vector<T> d_around = d_through * open - through * d_gate;
            const Vector<T> d_of_gate = d_around * apart + around * d_apart;
            const Vector<T> d_of_candidate = d_through * slope - T(2) * through * value * d_value;
            T *into = rows + b * 4 * W + h, *word = to.projected + (t * B + b) * 2 * H + h;
            store(d_carried + b * W + h, load(d_carried + b * W + h) + dd - d_through);
            store(into, d_of_gate);
            store(into + W, d_of_candidate);
            store(into + 2 * W, around * apart);
            store(into + 3 * W, through * slope);
            store_first(word, d_of_gate, count);
            store_first(word + H, d_of_candidate, count);
          }
          return;
        }
        const T *q = x.in.rates(i), *dq = dx.in.rates(i);
        for (Index p = 0; p < i; ++p, q += kActivations, dq += kActivations) {
          const T all = total(q), d_all = total(dq);
          Vector<T> sum[terms] = {};
          for (Index b = 0; b < B; ++b) {
            const Index r = (p * B + b) * 2 * W + h, at = (p * B + b) * W + h;
            const Vector<T> d = load(raw + 2 * b * lanes), dd = load(raw + (2 * b + 1) * lanes);
            const Vector<T> gate = load(found + r), d_gate = load(d_found + r), d_candidate = load(d_found + r + W);
            const Vector<T> s = load(states + at), ds = load(d_states + at);
            const Vector<T> through = d * gate, around = d - through;
            const Vector<T> d_through = dd * gate + d * d_gate, d_around = dd - d_through;
            const Functions<T> f(load(found + r + W));
            const Vector<T> slope = f.mixed_slope(q), apart = f.mixed(q) - all * s;
            const Vector<T> d_apart = slope * d_candidate + f.mixed(dq) - all * ds - d_all * s;
            T *back = d_changes + at, *into = rows + (p * B + b) * 4 * W + h;
            store(back, load(back) + all * d_around + d_all * around);
            store(into, (d_around * gate + around * d_gate) * apart + around * gate * d_apart);
            store(into + W, d_through * slope + through * (f.mixed_curvature(q) * d_candidate + f.mixed_slope(dq)));
            store(into + 2 * W, around * gate * apart);
            store(into + 3 * W, through * slope);
            const Vector<T> moved = through * d_candidate;
            sum[0] += d_around * s + around * ds;
            for (int k = 0; k < kActivations; ++k) sum[1 + k] += d_through * f.value[k] + moved * f.slope(k);
          }
          double* total_of = d_mixture + (unit * edges + i * (i - 1) / 2 + p) * terms;
          for (int k = 0; k < terms; ++k) total_of[k] += sum_of<T>(sum[k]);
        }
      });
      // The derivative of the products, for the states and the hidden state.
      T* back = i == 0 ? d_carried : d_changes;
      multiply_panels(team, rows, 4 * W, cell.rows_of(i), packed + i * packed_size, 4 * W, W,
                      [&](Index row, Index column, Vector<T> sum) {
                        T* at = back + row * W + column;
                        store(at, load(at) + sum * load(mask + row % B * W + column));
                      });
    }
    if (!matrices) continue;
    team.run((N + 1) * wide, [&](Index unit) {
      const Index i = unit / wide, first = unit % wide * panel;
      const T* from = products + cell.first_row(i) * 4 * W + first;
      T* into = sums + unit * H * panel;
      const auto add = [&](const T* left, const T* right) {
        multiply<true>(Left<T>{left, 1, W}, Right<T>{right, 4 * W}, H, cell.rows_of(i), first + lanes < 2 * W ? 2 : 1,
                       [&](Index r, int v, Vector<T> sum) {
                         T* at = into + r * panel + v * lanes;
                         store(at, load(at) + sum);
                       });
      };
      add(i == 0 ? masked_hidden : masked, from);
      add(i == 0 ? d_masked_hidden : d_masked, from + 2 * W);
    });
  }
  for (Index b = 0; b < B; ++b) std::copy_n(d_carried + b * W, H, to.hidden + b * H);
  give_mixture(cell, d_mixture, columns, to.mixture);
  if (matrices) give_matrices(cell, sums, to, team);
}

}  // namespace jdarts
