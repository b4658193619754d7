// Depthwise convolutions followed by 1×1 convolutions as one function, and its transposes: with x [S, B, H, W, C], kernels
// [S, T, k, k, C] and matrices [S·T, C, D],
//
//   separable        y [S·T, B, H', W', D] = Σ_terms (x * kernels) · matrix
//   separable_back   x = Σ_terms (y · matrixᵀ) *ᵀ kernels, and what x, kernels and matrix of one term are multiplied with
//
// What lies between the two convolutions is as large as all results together. It is never stored: a few rows of it are made in
// the nearest cache and used at once. Images, kernels and matrices of the terms are given by number, since terms share them.
// As in depthwise.h, x stands for 0 where a gate is 0 or below.
#pragma once

#include <vector>

#include "depthwise.h"
#include "pointwise.h"

namespace jdarts {

// The factors of one term, by number.
struct Triple {
  int64_t image, kernels, matrix;
};

template <typename T>
struct Separable {
  Geometry g;
  Index out;  // channels D
  std::vector<Triple> terms;
  Terms<T> images, kernels, matrices;
  const T* gate;

  Index edges() const { return g.sources * g.targets; }
  Index useful_threads() const {
    return 1 + edges() * g.batch * g.out_image() * (g.size * g.size + out) / (1 << 18);
  }
};

// Terms that have one factor in common, whose other factors are added up first.
struct TriplesOf {
  int64_t common;
  std::vector<Triple> terms;
};

inline std::vector<TriplesOf> triples_by(int64_t Triple::* factor, const std::vector<Triple>& terms) {
  std::vector<TriplesOf> found;
  for (const Triple& term : terms) {
    auto same = std::find_if(found.begin(), found.end(), [&](const TriplesOf& f) { return f.common == term.*factor; });
    if (same == found.end()) same = found.insert(found.end(), {term.*factor, {}});
    same->terms.push_back(term);
  }
  return found;
}

// All matrices for `multiply`, [edge, number, in, whole vectors of out], in an order of numbers.
template <typename T>
struct PackedMatrices {
  struct Buffer {};
  PackedMatrices(const Separable<T>& f, const std::vector<Index>& numbers, Index in, Index out, bool transposed)
      : matrix(in * whole_vectors<T>(out)), edge(matrix * numbers.size()) {
    T* to = thread_buffer<T, Buffer>(std::max<Index>(1, f.edges() * edge));
    data = to;
    for (Index e = 0; e < f.edges(); ++e)
      for (Index number : numbers) {
        pack(f.matrices[number] + e * in * out, in, out, transposed, to);
        to += matrix;
      }
  }
  const T* of(Index e, Index position) const { return data + e * edge + position * matrix; }
  Index matrix, edge;
  const T* data;
};

constexpr Index kTargetsAtOnce = 2;
struct MiddleBuffer {};
struct ResultBuffer {};

// Rows of what lies in the middle, of up to kTargetsAtOnce targets, as far apart as fill whole vectors.
template <typename T>
struct Middle {
  Middle(const Separable<T>& f, const Padding<T>& padding, const Periodic<T>& periodic, const Index* shift)
      : f(f),
        steps(f.g),
        rows(kRows * steps.out),
        row(whole_vectors<T>(f.g.out_width() * f.g.channels)),
        target(rows * row),
        input_row(padding.row),
        tap(periodic.period),
        kernels(periodic.data),
        shift(shift),
        compute(steps.stride == 1 ? tile_for<T, 1>(f.g.size) : tile_for<T, 2>(f.g.size)) {}

  // The sum of terms for `targets` targets from t on, `valid` rows of it, from padded images `image` values apart.
  void add_up(const std::vector<Triple>& terms, Index source, Index t, Index targets, const T* in, Index image, Index valid,
              T* to) const {
    const Geometry& g = f.g;
    const Index k = g.size, of_target = k * k * tap, of_kernels = g.targets * of_target;
    const T* own = kernels + source * f.kernels.size() * of_kernels + t * of_target;
    for (size_t n = 0; n < terms.size(); n += kTermsAtOnce) {
      const Triple a = terms[n], b = terms[std::min(n + 1, terms.size() - 1)];
      const Index count = std::min<Index>(kTermsAtOnce, terms.size() - n);
      const Taps<T> taps{own + a.kernels * of_kernels, k * tap, tap, of_target, (b.kernels - a.kernels) * of_kernels, k, k,
                         shift};
      for (Index parity = 0; parity < std::min(steps.out, valid); ++parity)
        compute({in + a.image * image + parity * g.stride * input_row, steps.in * input_row, (b.image - a.image) * image,
                 count},
                taps, g.channels, row, targets,
                {to + parity * row, steps.out * row, target, (valid - parity + steps.out - 1) / steps.out, nullptr, n > 0});
    }
  }

  const Separable<T>& f;
  RowSteps steps;
  Index rows, row, target, input_row, tap;
  const T* kernels;
  const Index* shift;
  Tile<T> compute;
};

// Rows of x that a band of rows of y reads.
inline Index rows_read(const Geometry& g, Index rows) {
  const RowSteps steps(g);
  return (rows - 1) * g.stride + ((kRows - 1) * steps.stride + g.size - 1) * steps.in + 1;
}

template <typename T, typename Pool>
void separable(const Separable<T>& f, T* y, Pool& pool, Index past_bytes = kPastCacheBytes) {
  const Geometry& g = f.g;
  const Index length = g.out_width() * g.channels, images = g.sources * g.batch, count = f.images.size();
  const Index y_image = g.out_height() * g.out_width() * f.out;
  if (images * g.targets * y_image == 0) return;
  const Padding<T> padding(g.width, g.pad(), g.stride, g.channels);
  const Periodic<T> periodic(g, f.kernels);
  Index* shift = thread_buffer<Index, Columns>(g.size);
  padding.shifts(g.size, g.dilation, shift);
  const Middle<T> middle(f, padding, periodic, shift);
  const std::vector<TriplesOf> sums = triples_by(&Triple::matrix, f.terms);
  std::vector<Index> numbers;
  for (const TriplesOf& sum : sums) numbers.push_back(sum.common);
  const PackedMatrices<T> packed(f, numbers, g.channels, f.out, false);
  const bool past = f.edges() * g.batch * y_image * Index(sizeof(T)) >= past_bytes && fills_lines(y, f.out);
  const Index threads = std::min<Index>(pool.num_threads(), f.useful_threads());
  const Bands bands(g.out_height(), (2 * threads + images - 1) / images, count * padding.row * g.stride * sizeof(T),
                    middle.rows);

  parallel_for(pool, threads, images * bands.count, [&](Index unit) {
    const Index image = unit / bands.count, source = image / g.batch, b = image % g.batch;
    const Index begin = bands.begin(unit % bands.count), rows = bands.end(unit % bands.count) - begin;
    const Index read = rows_read(g, rows), padded = read * padding.row;
    T* in = thread_buffer<T, BandBuffer>(count * padded);
    for (Index n = 0; n < count; ++n)
      padding.copy(f.images[n] + image * g.image(), g.height, g.width, begin * g.stride - g.pad(), read, in + n * padded,
                   gate_at(f.gate, image * g.image()));
    const Index of_sum = kTargetsAtOnce * middle.target;
    T* values = thread_buffer<T, MiddleBuffer>(sums.size() * of_sum);
    Edge<T> edge{std::vector<Factors<T>>(sums.size(), {nullptr, nullptr, g.channels}), nullptr, 0, f.out};
    for (Index r = 0; r < rows; r += middle.rows) {
      const Index valid = std::min(middle.rows, rows - r);
      for (Index t = 0; t < g.targets; t += kTargetsAtOnce) {
        const Index targets = std::min(kTargetsAtOnce, g.targets - t);
        for (size_t n = 0; n < sums.size(); ++n)
          middle.add_up(sums[n].terms, source, t, targets, in + r * g.stride * padding.row, padded, valid,
                        values + n * of_sum);
        for (Index u = 0; u < targets; ++u) {
          const Index e = source * g.targets + t + u;
          const Index at_once = middle.row == length ? valid : 1;  // rows that lie one after the other
          for (Index h = 0; h < valid; h += at_once) {
            for (size_t n = 0; n < sums.size(); ++n)
              edge.products[n].x = values + n * of_sum + u * middle.target + h * middle.row;
            edge.y = y + (e * g.batch + b) * y_image + (begin + r + h) * g.out_width() * f.out;
            multiply(edge, 0, at_once * g.out_width(), packed.of(e, 0), past);
          }
        }
      }
    }
    if (past) stores_are_done();
  });
}

// Where the transposes go; null for what is not asked for. The kernels' and the matrix's need `image`, the x of a single term.
template <typename T>
struct SeparableGradients {
  T* x;
  const T* image;
  T* kernels;
  T* matrix;
};

// Rows of x as they are added up: one plane for each parity of rows and columns, so that neighbours are reached by the same taps.
template <typename T>
struct Planes {
  Planes(const Geometry& g, Index rows)
      : g(g), row(whole_vectors<T>((g.width + g.stride - 1) / g.stride * g.channels)), plane(rows * row) {}

  Index size() const { return g.stride * g.stride * plane; }
  T* at(T* planes, Index row_parity, Index column_parity) const {
    return planes + (row_parity * g.stride + column_parity) * plane;
  }

  // Writes the rows of x that belong to the band from `begin` on through the gate.
  void write(const T* planes, Index begin, Index rows, const T* gate, T* x) const {
    const Index c = g.channels, h_end = std::min(g.height, (begin + rows) * g.stride);
    for (Index h = begin * g.stride; h < h_end; ++h) {
      const T* from = planes + h % g.stride * g.stride * plane + (h / g.stride - begin) * row;
      const Index place = h * g.width * c;
      if (g.stride == 1) {
        copy_values(from, gate_at(gate, place), g.width * c, x + place);
        continue;
      }
      for (Index w = 0; w < g.width; ++w) {
        const Index pixel = place + w * c;
        copy_values(from + w % g.stride * plane + w / g.stride * c, gate_at(gate, pixel), c, x + pixel);
      }
    }
  }

  const Geometry& g;
  Index row, plane;
};

template <typename T, typename Pool>
void separable_back(const Separable<T>& f, const SeparableGradients<T>& to, Pool& pool) {
  struct Partials {};
  struct Sums {};
  const Geometry& g = f.g;
  const Index k = g.size, c = g.channels, out_row = g.out_width() * f.out, y_image = g.out_height() * out_row;
  const Index spread = g.stride == 1 ? g.dilation : 1;  // rows of y between two taps
  const Index tile_rows = kRows * spread, left = g.stride == 1 ? g.pad() : (g.pad() + 1) / 2;
  const Padding<T> padding(g.out_width(), left, 1, c), x_padding(g.width, g.pad(), g.stride, c);
  const Periodic<T> periodic(g, f.kernels);
  Index* shift = thread_buffer<Index, Columns>(2 * k);
  padding.shifts(k, spread, shift);
  x_padding.shifts(k, g.dilation, shift + k);
  const Middle<T> middle(f, x_padding, periodic, shift + k);
  const Gathering<T> gathering(g, x_padding, shift + k);
  const bool weights = to.image != nullptr;

  // Each sum over y · matrixᵀ is for one kernel of one target.
  const std::vector<TriplesOf> sums = triples_by(&Triple::kernels, f.terms);
  std::vector<Index> numbers, first;
  for (const TriplesOf& sum : sums) {
    first.push_back(numbers.size());
    for (const Triple& term : sum.terms) numbers.push_back(term.matrix);
  }
  const PackedMatrices<T> packed(f, numbers, f.out, c, true);
  const Index slots = g.targets * sums.size(), matrix_row = whole_vectors<T>(f.out), of_matrix = c * matrix_row;
  const Index of_edge = g.kernel() + of_matrix, gradients = g.targets * of_edge;

  const Index threads = std::min<Index>(pool.num_threads(), f.useful_threads());
  const Index images = g.sources * g.batch;
  const Bands bands(g.out_height(), (2 * threads + images - 1) / std::max<Index>(1, images),
                    ((kTermsAtOnce + 1) * padding.row + (weights ? x_padding.row * g.stride : 0)) * sizeof(T), tile_rows,
                    3 << 17);
  const Index all = g.batch * bands.count;
  const Index chunks = weights ? std::clamp<Index>(64 / std::max<Index>(1, g.sources), 1, std::max<Index>(1, all)) : all;
  T* partials = thread_buffer<T, Partials>(weights ? std::max<Index>(1, g.sources * chunks * gradients) : 1);

  // Fills one padded buffer with y · matrixᵀ of a slot, rows of it from `from` on.
  auto fill = [&](Index slot, Index source, Index b, Index from, Index read, T* buffer) {
    const Index e = source * g.targets + slot / sums.size(), n = slot % sums.size();
    const std::vector<Triple>& terms = sums[n].terms;
    Edge<T> edge{std::vector<Factors<T>>(terms.size(), {nullptr, nullptr, f.out}), nullptr, g.out_width(), c};
    for (Index h = from; h < from + read; ++h, buffer += padding.row) {
      if (h < 0 || h >= g.out_height()) {
        std::fill_n(buffer, padding.row, T(0));
        continue;
      }
      for (size_t m = 0; m < terms.size(); ++m)
        edge.products[m].x = f.images[terms[m].image] + (e * g.batch + b) * y_image + h * out_row;
      edge.y = buffer + left * c;
      std::fill_n(buffer, left * c, T(0));
      multiply(edge, 0, edge.pixels, packed.of(e, first[n]), false);
      std::fill(edge.y + edge.pixels * c, buffer + padding.row, T(0));
    }
  };

  parallel_for(pool, threads, g.sources * chunks, [&](Index unit) {
    const Index source = unit / chunks, chunk = unit % chunks;
    T* partial = partials + (weights ? unit * gradients : 0);
    if (weights) std::fill_n(partial, gradients, T(0));
    for (Index n = chunk * all / chunks; n < (chunk + 1) * all / chunks; ++n) {
      const Index b = n / bands.count, begin = bands.begin(n % bands.count), rows = bands.end(n % bands.count) - begin;
      const Index whole_rows = (rows + tile_rows - 1) / tile_rows * tile_rows;
      const Index read = std::max(rows + 2 * left + (kRows - 1) * spread, left + whole_rows), padded = read * padding.row;
      const Index image = (source * g.batch + b) * g.image(), x_rows = rows_read(g, rows);
      const Planes<T> planes(g, rows);
      T* in = thread_buffer<T, BandBuffer>(kTermsAtOnce * padded);
      T* result = thread_buffer<T, ResultBuffer>(std::max<Index>(1, planes.size()));
      T* x_in = thread_buffer<T, OtherBuffer>(weights ? x_rows * x_padding.row : 1);
      if (weights)
        x_padding.copy(to.image + image, g.height, g.width, begin * g.stride - g.pad(), x_rows, x_in,
                       gate_at(f.gate, image));

      for (Index slot = 0; slot < slots; slot += kTermsAtOnce) {
        const Index count = std::min(kTermsAtOnce, slots - slot);
        for (Index n = 0; n < count; ++n) fill(slot + n, source, b, begin - left, read, in + n * padded);
        auto kernels_of = [&](Index slot) {
          const Index number = sums[slot % sums.size()].common, t = slot / sums.size();
          return periodic.data + ((source * Index(f.kernels.size()) + number) * g.targets + t) * k * k * periodic.period;
        };
        const T* kernels = kernels_of(slot);
        const Index between = kernels_of(slot + count - 1) - kernels;

        for (Index row_parity = 0; to.x && row_parity < g.stride; ++row_parity)
          for (Index column_parity = 0; column_parity < g.stride; ++column_parity) {
            const ReachingTaps down(g, row_parity), across(g, column_parity);
            T* plane = planes.at(result, row_parity, column_parity);
            if (down.count * across.count == 0) {
              std::fill_n(plane, planes.plane, T(0));
              continue;
            }
            const Index in_height = (g.height - row_parity + g.stride - 1) / g.stride;
            const Index length = whole_vectors<T>((g.width - column_parity + g.stride - 1) / g.stride * c);
            const Taps<T> taps{kernels + (down.last * k + across.last) * periodic.period, -down.step * k * periodic.period,
                               -across.step * periodic.period, 0, between, down.count, across.count, shift};
            const auto compute = tile_for<T, 1>(down.count);
            for (Index parity = 0; parity < spread; ++parity)
              for (Index r = parity; r < rows; r += tile_rows) {
                const Index valid = std::min<Index>(kRows, (std::min(rows, in_height - begin) - r + spread - 1) / spread);
                if (valid <= 0) continue;
                compute({in + (r + left + down.base) * padding.row + (left + across.base) * c, spread * padding.row, padded,
                         count},
                        taps, c, length, 1, {plane + r * planes.row, spread * planes.row, 0, valid, nullptr, slot > 0});
              }
          }
        if (!weights) continue;
        // Here a slot is a target.
        T* gathered = thread_buffer<T, Sums>(gathering.room() + g.out_width() * matrix_row);
        for (Index n = 0; n < count; ++n)
          gathering.add(x_in, in + n * padded + left * padding.row + left * c, padding.row, rows, gathered,
                        partial + (slot + n) * of_edge);
        T* values = thread_buffer<T, MiddleBuffer>(kTargetsAtOnce * middle.target);
        for (Index r = 0; r < rows; r += middle.rows) {
          const Index valid = std::min(middle.rows, rows - r);
          middle.add_up(f.terms, source, slot, count, x_in + r * g.stride * x_padding.row, 0, valid, values);
          const bool joined = middle.row == g.out_width() * c && matrix_row == f.out;
          for (Index n = 0; n < count; ++n) {
            const Index e = source * g.targets + slot + n;
            const T* y = f.images[0] + (e * g.batch + b) * y_image + (begin + r) * out_row;
            T* sum = partial + (slot + n) * of_edge + g.kernel();
            for (Index h = 0; h < valid; h += joined ? valid : 1) {
              const T* of_row = y + h * out_row;
              if (matrix_row != f.out) of_row = fill_up(of_row, g.out_width(), f.out, gathered + gathering.room());
              add_outer(values + n * middle.target + h * middle.row, c, of_row, f.out,
                        (joined ? valid : 1) * g.out_width(), sum);
            }
          }
        }
      }
      if (to.x && slots == 0) std::fill_n(result, planes.size(), T(0));
      if (to.x) planes.write(result, begin, rows, gate_at(f.gate, image), to.x + image);
    }
  });

  // The chunks in order, whatever the threads.
  if (weights)
    parallel_for(pool, 1 + g.sources * chunks * gradients / (1 << 18), f.edges(), [&](Index e) {
      const T* chunk = partials + e / g.targets * chunks * gradients + e % g.targets * of_edge;
      auto sum = [&](Index place) {
        double total = 0;
        for (Index n = 0; n < chunks; ++n) total += chunk[n * gradients + place];
        return T(total);
      };
      for (Index n = 0; n < g.kernel(); ++n) to.kernels[e * g.kernel() + n] = sum(n);
      for (Index row = 0; row < c; ++row)
        for (Index n = 0; n < f.out; ++n)
          to.matrix[(e * c + row) * f.out + n] = sum(g.kernel() + row * matrix_row + n);
    });
}

}  // namespace jdarts
