// Depthwise convolutions followed by 1×1 convolutions as one function, and its transposes: with x [S, B, H, W, C], kernels
// [S, T, k, k, C] and matrices [S·T, C, D],
//
//   separable        y [S·T, B, H', W', D] = Σ_terms (x * kernels) · matrix
//   separable_back   x = Σ_terms (y · matrixᵀ) *ᵀ kernels, and the cotangents of x, kernels and matrix of one term
//
// The result of the first convolution is as large as all results together. It is never stored: a few rows are computed in the
// nearest cache and used at once. A term has its images, kernels and matrices by number, since terms share them. As in
// depthwise.h, x counts as 0 where a gate is 0 or below.
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

// Rows of the first convolution's result, of up to kTargetsAtOnce targets, whole vectors apart.
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

// The memory of the transposes; null for those not needed. Those of kernels and matrix need `image`, the x of a single term.
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

// One call of `separable_back`: the data that all bands share, and the work on one band.
template <typename T>
class Back {
 public:
  Back(const Separable<T>& f, const SeparableGradients<T>& to)
      : f(f),
        to(to),
        g(f.g),
        spread(g.stride == 1 ? g.dilation : 1),
        tile_rows(kRows * spread),
        left(g.stride == 1 ? g.pad() : (g.pad() + 1) / 2),
        matrix_row(whole_vectors<T>(f.out)),
        sums(triples_by(&Triple::kernels, f.terms)),
        padding(g.out_width(), left, 1, g.channels),
        x_padding(g.width, g.pad(), g.stride, g.channels),
        periodic(g, f.kernels),
        shift(shifts()),
        packed(f, matrices(), f.out, g.channels, true),
        middle(f, x_padding, periodic, shift + g.size),
        gathering(g, x_padding, shift + g.size) {}

  bool weights() const { return to.image != nullptr; }
  // The sums of one edge for its kernel and its matrix (rows of whole vectors).
  Index of_edge() const { return g.kernel() + g.channels * matrix_row; }

  Bands bands(Index wanted) const {
    const Index row = (kTermsAtOnce + 1) * padding.row + (weights() ? x_padding.row * g.stride : 0);
    return {g.out_height(), wanted, row * Index(sizeof(T)), tile_rows, 3 << 17};
  }

  // One band of one image: writes its rows of x, and adds to the sums of the source's edges.
  void run(Index source, Index b, Index begin, Index rows, T* sums_of_edges) const {
    const Index whole_rows = (rows + tile_rows - 1) / tile_rows * tile_rows;
    const Index read = std::max(rows + 2 * left + (kRows - 1) * spread, left + whole_rows), padded = read * padding.row;
    const Index image = (source * g.batch + b) * g.image(), x_rows = rows_read(g, rows);
    const Planes<T> planes(g, rows);
    T* in = thread_buffer<T, BandBuffer>(kTermsAtOnce * padded);
    T* result = thread_buffer<T, ResultBuffer>(std::max<Index>(1, planes.size()));
    T* x = thread_buffer<T, OtherBuffer>(weights() ? x_rows * x_padding.row : 1);
    if (weights())
      x_padding.copy(to.image + image, g.height, g.width, begin * g.stride - g.pad(), x_rows, x, gate_at(f.gate, image));
    if (slots() == 0) std::fill_n(result, planes.size(), T(0));
    for (Index slot = 0; slot < slots(); slot += kTermsAtOnce) {
      const Index count = std::min(kTermsAtOnce, slots() - slot);
      for (Index n = 0; n < count; ++n) fill(slot + n, source, b, begin - left, read, in + n * padded);
      if (to.x) add_to_planes(slot, count, source, begin, rows, in, padded, planes, result);
      if (weights()) add_to_sums(slot, count, source, b, begin, rows, in, padded, x, sums_of_edges + slot * of_edge());
    }
    if (to.x) planes.write(result, begin, rows, gate_at(f.gate, image), to.x + image);
  }

 private:
  // A slot is one kernel of one target; its operand is a sum over the terms that share the kernel.
  Index slots() const { return g.targets * Index(sums.size()); }
  const T* kernel_of(Index slot, Index source) const {
    const Index number = sums[slot % sums.size()].common, target = slot / sums.size();
    return periodic.data +
           ((source * Index(f.kernels.size()) + number) * g.targets + target) * g.size * g.size * periodic.period;
  }

  // Of the transposes, and after them those of x.
  const Index* shifts() const {
    Index* found = thread_buffer<Index, Columns>(2 * g.size);
    padding.shifts(g.size, spread, found);
    x_padding.shifts(g.size, g.dilation, found + g.size);
    return found;
  }

  // The numbers of the matrices in the order of the slots' terms.
  std::vector<Index> matrices() const {
    std::vector<Index> numbers;
    for (const TriplesOf& sum : sums)
      for (const Triple& term : sum.terms) numbers.push_back(term.matrix);
    return numbers;
  }

  // Fills a padded buffer with `read` rows of y · matrixᵀ from row `from` on.
  void fill(Index slot, Index source, Index b, Index from, Index read, T* buffer) const {
    const Index e = source * g.targets + slot / sums.size(), n = slot % sums.size();
    const Index out_row = g.out_width() * f.out, values = g.out_width() * g.channels;
    Index first = 0;
    for (Index before = 0; before < n; ++before) first += sums[before].terms.size();
    Edge<T> edge{std::vector<Factors<T>>(sums[n].terms.size(), {nullptr, nullptr, f.out}), nullptr, g.out_width(),
                 g.channels};
    for (Index h = from; h < from + read; ++h, buffer += padding.row) {
      if (h < 0 || h >= g.out_height()) {
        std::fill_n(buffer, padding.row, T(0));
        continue;
      }
      for (size_t m = 0; m < sums[n].terms.size(); ++m)
        edge.products[m].x = f.images[sums[n].terms[m].image] + ((e * g.batch + b) * g.out_height() + h) * out_row;
      edge.y = buffer + left * g.channels;
      std::fill(buffer, edge.y, T(0));
      multiply(edge, 0, edge.pixels, packed.of(e, first), false);
      std::fill(edge.y + values, buffer + padding.row, T(0));
    }
  }

  // Adds the contributions of `count` slots to the rows of x.
  void add_to_planes(Index slot, Index count, Index source, Index begin, Index rows, const T* in, Index padded,
                     const Planes<T>& planes, T* result) const {
    const Index k = g.size, tap = periodic.period;
    const T* kernel = kernel_of(slot, source);
    const Index between = kernel_of(slot + count - 1, source) - kernel;
    for (Index row_parity = 0; row_parity < g.stride; ++row_parity)
      for (Index column_parity = 0; column_parity < g.stride; ++column_parity) {
        const ReachingTaps down(g, row_parity), across(g, column_parity);
        T* plane = planes.at(result, row_parity, column_parity);
        if (down.count * across.count == 0) {
          std::fill_n(plane, planes.plane, T(0));
          continue;
        }
        const Index in_height = (g.height - row_parity + g.stride - 1) / g.stride;
        const Index length = whole_vectors<T>((g.width - column_parity + g.stride - 1) / g.stride * g.channels);
        const Taps<T> taps{kernel + (down.last * k + across.last) * tap, -down.step * k * tap, -across.step * tap, 0,
                           between, down.count, across.count, shift};
        const T* from = in + (left + down.base) * padding.row + (left + across.base) * g.channels;
        const auto compute = tile_for<T, 1>(down.count);
        for (Index parity = 0; parity < spread; ++parity)
          for (Index r = parity; r < rows; r += tile_rows) {
            const Index valid = std::min<Index>(kRows, (std::min(rows, in_height - begin) - r + spread - 1) / spread);
            if (valid > 0)
              compute({from + r * padding.row, spread * padding.row, padded, count}, taps, g.channels, length, 1,
                      {plane + r * planes.row, spread * planes.row, 0, valid, nullptr, slot > 0});
          }
      }
  }

  // Adds to the sums of `count` targets from one on: its kernel's, and after them its matrix'.
  void add_to_sums(Index target, Index count, Index source, Index b, Index begin, Index rows, const T* in, Index padded,
                   const T* x, T* sums_of_edges) const {
    struct Sums {};
    T* gathered = thread_buffer<T, Sums>(gathering.room());
    for (Index n = 0; n < count; ++n)
      gathering.add(x, in + n * padded + left * padding.row + left * g.channels, padding.row, rows, gathered,
                    sums_of_edges + n * of_edge());
    T* values = thread_buffer<T, MiddleBuffer>(kTargetsAtOnce * middle.target);
    const bool joined = middle.row == g.out_width() * g.channels;
    for (Index r = 0; r < rows; r += middle.rows) {
      const Index valid = std::min(middle.rows, rows - r), at_once = joined ? valid : 1;
      middle.add_up(f.terms, source, target, count, x + r * g.stride * x_padding.row, 0, valid, values);
      for (Index n = 0; n < count; ++n)
        for (Index h = 0; h < valid; h += at_once) {
          const Index e = source * g.targets + target + n;
          const T* y = f.images[0] + ((e * g.batch + b) * g.out_height() + begin + r + h) * g.out_width() * f.out;
          add_outer(values + n * middle.target + h * middle.row, g.channels, y, f.out, at_once * g.out_width(),
                    sums_of_edges + n * of_edge() + g.kernel());
        }
    }
  }

  const Separable<T>& f;
  const SeparableGradients<T>& to;
  const Geometry& g;
  Index spread;  // rows of y between two taps
  Index tile_rows, left, matrix_row;
  std::vector<TriplesOf> sums;
  Padding<T> padding, x_padding;
  Periodic<T> periodic;
  const Index* shift;
  PackedMatrices<T> packed;
  Middle<T> middle;
  Gathering<T> gathering;
};

template <typename T, typename Pool>
void separable_back(const Separable<T>& f, const SeparableGradients<T>& to, Pool& pool) {
  struct Partials {};
  const Geometry& g = f.g;
  const Back<T> back(f, to);
  const Index threads = std::min<Index>(pool.num_threads(), f.useful_threads()), images = g.sources * g.batch;
  const Bands bands = back.bands((2 * threads + images - 1) / std::max<Index>(1, images));
  const Index all = g.batch * bands.count, of_source = g.targets * back.of_edge();
  const Index chunks =
      back.weights() ? std::clamp<Index>(64 / std::max<Index>(1, g.sources), 1, std::max<Index>(1, all)) : all;
  T* partials = thread_buffer<T, Partials>(back.weights() ? std::max<Index>(1, g.sources * chunks * of_source) : 1);

  parallel_for(pool, threads, g.sources * chunks, [&](Index unit) {
    const Index source = unit / chunks, chunk = unit % chunks;
    T* sums = partials + (back.weights() ? unit * of_source : 0);
    if (back.weights()) std::fill_n(sums, of_source, T(0));
    for (Index n = chunk * all / chunks; n < (chunk + 1) * all / chunks; ++n) {
      const Index band = n % bands.count;
      back.run(source, n / bands.count, bands.begin(band), bands.end(band) - bands.begin(band), sums);
    }
  });
  if (!back.weights()) return;

  // The chunks in order, whatever the threads.
  const Index matrix_row = whole_vectors<T>(f.out);
  parallel_for(pool, 1 + g.sources * chunks * of_source / (1 << 18), f.edges(), [&](Index e) {
    const T* first = partials + e / g.targets * chunks * of_source + e % g.targets * back.of_edge();
    auto sum = [&](Index place) {
      double total = 0;
      for (Index n = 0; n < chunks; ++n) total += first[n * of_source + place];
      return T(total);
    };
    for (Index n = 0; n < g.kernel(); ++n) to.kernels[e * g.kernel() + n] = sum(n);
    for (Index c = 0; c < g.channels; ++c)
      for (Index n = 0; n < f.out; ++n)
        to.matrix[(e * g.channels + c) * f.out + n] = sum(g.kernel() + c * matrix_row + n);
  });
}

}  // namespace jdarts
