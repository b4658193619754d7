// The three functions over whole arrays: x [S, B, H, W, C], kernels [S, T, k, k, C], y [S, T, B, H', W', C]. The first two
// add up several terms, each with its images and kernels. With a gate [S, B, H, W, C], x counts as 0 where the gate
// is 0 or below: a ReLU before the convolution, which costs no separate pass over memory.
//
// Work is cut into bands of rows of one image. A band's input is copied with its zero padding to a buffer of the
// thread, so that the tiles need no bounds checks; at stride 2 the even columns come before the odd ones, so that
// neighbouring outputs read neighbouring inputs.
#pragma once

#include <vector>

#include "bands.h"
#include "tiles.h"

namespace jdarts {

struct Geometry {
  Index sources, targets, batch, height, width, channels;  // of x, and T
  Index size, stride, dilation;                            // of the kernels

  Index pad() const { return dilation * (size - 1) / 2; }
  Index out_height() const { return (height + stride - 1) / stride; }
  Index out_width() const { return (width + stride - 1) / stride; }
  Index image() const { return height * width * channels; }
  Index out_image() const { return out_height() * out_width() * channels; }
  Index kernel() const { return size * size * channels; }
  // As many threads as have a quarter of a million multiply-adds each: less is not worth waking one.
  Index useful_threads() const {
    return 1 + sources * targets * batch * out_image() * size * size / (1 << 18);
  }
};

// Which rows a tile combines: tile row r is output row r * out, and reads input rows (r * stride + i) * in.
// With dilation, the rows of one parity are like rows without dilation.
struct RowSteps {
  explicit RowSteps(const Geometry& g)
      : out(g.dilation / std::gcd(g.stride, g.dilation)),
        in(g.dilation),
        stride(g.stride / std::gcd(g.stride, g.dilation)) {}
  Index out, in, stride;
};

// Rows of x that a band of rows of y reads.
inline Index rows_read(const Geometry& g, Index rows) {
  const RowSteps steps(g);
  return (rows - 1) * g.stride + ((kRows - 1) * steps.stride + g.size - 1) * steps.in + 1;
}

template <typename T>
using Terms = std::vector<const T*>;

// The kernels of all terms, [S, terms, T, k, k, period]: repeated, so that a vector can be read at any phase.
template <typename T>
struct Periodic {
  struct Buffer {};
  Periodic(const Geometry& g, const Terms<T>& kernels) : data(kernels[0]), period(g.channels) {
    const Index channels = g.channels, terms = kernels.size(), taps = g.targets * g.size * g.size;
    if (channels % Simd<T>::lanes != 0)
      period += Simd<T>::lanes - 1;
    else if (terms == 1)
      return;
    T* out = thread_buffer<T, Buffer>(g.sources * terms * taps * period);
    data = out;
    for (Index s = 0; s < g.sources; ++s)
      for (const T* kernel : kernels)
        for (const T* from = kernel + s * taps * channels; from != kernel + (s + 1) * taps * channels; from += channels) {
          std::copy_n(from, channels, out);
          for (Index c = channels; c < period; ++c) out[c] = out[c - channels];
          out += period;
        }
  }
  const T* data;
  Index period;
};

struct Columns {};

template <typename T, typename Pool>
void forward(const Geometry& g, const Terms<T>& xs, const Terms<T>& kernels, const T* gate, T* y, Pool& pool) {
  const RowSteps steps(g);
  const Index terms = xs.size();
  const Index length = g.out_width() * g.channels, rows_per_tile = kRows * steps.out;
  const Padding<T> padding(g.width, g.pad(), g.stride, g.channels);
  const Periodic<T> periodic(g, kernels);
  const Index k = g.size, c = periodic.period;
  Index* shift = thread_buffer<Index, Columns>(k);
  padding.shifts(k, g.dilation, shift);
  const auto compute = steps.stride == 1 ? tile_for<T, 1>(k) : tile_for<T, 2>(k);
  const Index images = g.sources * g.batch, threads = std::min<Index>(pool.num_threads(), g.useful_threads());
  if (images * length == 0 || g.targets == 0) return;
  const Bands bands(g.out_height(), (2 * threads + images - 1) / images, terms * padding.row * g.stride * sizeof(T),
                    rows_per_tile);

  parallel_for(pool, threads, images * bands.count, [&](Index unit) {
    const Index image = unit / bands.count, source = image / g.batch, b = image % g.batch;
    const Index begin = bands.begin(unit % bands.count), rows = bands.end(unit % bands.count) - begin;
    const Index read = rows_read(g, rows);
    const Index term = read * padding.row;
    T* in = thread_buffer<T, BandBuffer>(terms * term);
    for (Index n = 0; n < terms; ++n)
      padding.copy(xs[n] + image * g.image(), g.height, g.width, begin * g.stride - g.pad(), read, in + n * term,
                   gate_at(gate, image * g.image()));
    const Index of_term = g.targets * k * k * c;
    const Taps<T> taps{periodic.data + source * terms * of_term, k * c, c, k * k * c, of_term, k, k, shift};
    T* out = y + (source * g.targets * g.batch + b) * g.out_image() + begin * length;
    for (Index parity = 0; parity < steps.out; ++parity)
      for (Index r = parity; r < rows; r += rows_per_tile)
        compute({in + r * g.stride * padding.row, steps.in * padding.row, term, terms}, taps, g.channels, length, g.targets,
                {out + r * length, steps.out * length, g.batch * g.out_image(),
                 std::min<Index>(kRows, (rows - r + steps.out - 1) / steps.out)});
  });
}

// The kernel taps that reach the pixels x[stride * u + parity] of one axis, in the order of the y[u + base + n] that
// they multiply: tap `last`, then last - step, … (`count` of them).
struct ReachingTaps {
  ReachingTaps(const Geometry& g, Index parity) {
    if (g.stride == 1 || g.dilation == 2) {
      const Index spread = g.stride == 1 ? g.dilation : 1;
      count = parity == 0 ? g.size : 0;
      last = g.size - 1, step = 1, base = -spread * (g.size - 1) / 2;
    } else {
      const Index first = (parity + g.pad()) % 2;
      count = (g.size - first + 1) / 2;
      last = first + 2 * (count - 1), step = 2, base = (parity + g.pad() - first) / 2 - (count - 1);
    }
  }
  Index count, last, step, base;
};

template <typename T, typename Pool>
void input_gradient(const Geometry& g, const Terms<T>& ys, const Terms<T>& kernels, const T* gate, T* x, Pool& pool) {
  const Index terms = g.targets * ys.size();  // every target of every term adds to x
  const Index spread = g.stride == 1 ? g.dilation : 1;  // rows of y between two taps
  const Index rows_per_tile = kRows * spread, left = g.stride == 1 ? g.pad() : (g.pad() + 1) / 2;
  const Padding<T> padding(g.out_width(), left, 1, g.channels);
  const Periodic<T> periodic(g, kernels);
  const Index k = g.size, c = periodic.period;
  const Index images = g.sources * g.batch, threads = std::min<Index>(pool.num_threads(), g.useful_threads());
  if (images * g.image() == 0) return;
  const Bands bands(g.out_height(), (2 * threads + images - 1) / images, terms * padding.row * sizeof(T),
                    rows_per_tile);
  Index* shift = thread_buffer<Index, Columns>(k);
  padding.shifts(k, spread, shift);

  parallel_for(pool, threads, images * bands.count, [&](Index unit) {
    const Index image = unit / bands.count, source = image / g.batch, b = image % g.batch;
    const Index begin = bands.begin(unit % bands.count), rows = bands.end(unit % bands.count) - begin;
    const Index read = rows + 2 * left + (kRows - 1) * spread, term = read * padding.row;
    T* in = thread_buffer<T, BandBuffer>(terms * term);
    T* strided = thread_buffer<T, OtherBuffer>(g.stride == 1 ? 0 : kRows * g.out_width() * g.channels);
    for (Index n = 0; n < terms; ++n)
      padding.copy(ys[n / g.targets] + ((source * g.targets + n % g.targets) * g.batch + b) * g.out_image(),
                   g.out_height(), g.out_width(), begin - left, read, in + n * term);

    for (Index row_parity = 0; row_parity < g.stride; ++row_parity)
      for (Index column_parity = 0; column_parity < g.stride; ++column_parity) {
        const ReachingTaps down(g, row_parity), across(g, column_parity);
        const Index pixels = (g.width - column_parity + g.stride - 1) / g.stride, length = pixels * g.channels;
        const Index in_height = (g.height - row_parity + g.stride - 1) / g.stride;
        const Taps<T> taps{periodic.data + source * terms * k * k * c + (down.last * k + across.last) * c,
                           -down.step * k * c, -across.step * c, 0, k * k * c, down.count, across.count, shift};
        const auto compute = tile_for<T, 1>(down.count);
        for (Index parity = 0; parity < spread; ++parity)
          for (Index r = parity; r < rows; r += rows_per_tile) {
            const Index valid = std::min<Index>(
                kRows, (std::min(rows, in_height - begin) - r + spread - 1) / spread);
            if (valid <= 0) continue;
            const Index place = image * g.image() + (begin + r) * g.stride * g.width * g.channels;
            T* out = x + place;
            const T* open = gate_at(gate, place);
            const Rows<T> from{in + (r + left + down.base) * padding.row + (left + across.base) * g.channels,
                               spread * padding.row, term, terms};
            if (g.stride == 1) {
              compute(from, taps, g.channels, length, 1, {out, spread * length, 0, valid, open});
              continue;
            }
            if (down.count * across.count == 0)
              std::fill_n(strided, valid * length, T(0));
            else
              compute(from, taps, g.channels, length, 1, {strided, length, 0, valid});
            for (Index n = 0; n < valid; ++n)
              for (Index w = 0; w < pixels; ++w) {
                const Index pixel = ((2 * n + row_parity) * g.width + 2 * w + column_parity) * g.channels;
                copy_values(strided + n * length + w * g.channels, gate_at(open, pixel), g.channels, out + pixel);
              }
          }
      }
  });
}

// The gradient of one target's kernel, summed over bands: sums over rows of the products of y with x under each tap.
template <typename T>
struct Gathering {
  explicit Gathering(const Geometry& g, const Padding<T>& padding, const Index* shift)
      : steps(g),
        phases(g.channels),
        compute(steps.stride == 1 ? gather_for<T, 1>(g.size) : gather_for<T, 2>(g.size)),
        size(g.size),
        channels(g.channels),
        stride(g.stride),
        vectors((g.out_width() * g.channels + Simd<T>::lanes - 1) / Simd<T>::lanes),
        input_row(padding.row),
        shift(shift) {}

  // Values of the buffer that `add` needs.
  Index room() const { return size * size * Simd<T>::lanes; }

  // Adds the products of `rows` rows of y, `y_row` values apart, with the padded x under them. Rows of y are filled up with
  // zeros to whole vectors and to a whole tile.
  void add(const T* x, const T* y, Index y_row, Index rows, T* sums, T* kernel) const {
    constexpr Index lanes = Simd<T>::lanes;
    for (Index a = 0; a < std::min(phases.count, vectors); ++a) {
      std::fill_n(sums, room(), T(0));
      for (Index parity = 0; parity < steps.out; ++parity)
        for (Index r = parity; r < rows; r += kRows * steps.out)
          compute({x + r * stride * input_row, steps.in * input_row, 0, 1}, y + r * y_row, steps.out * y_row, size, shift,
                  a * lanes, phases.step, (vectors - a + phases.count - 1) / phases.count, sums);
      for (Index i = 0; i < size; ++i)
        for (Index j = 0; j < size; ++j) {
          T* to = kernel + (i * size + j) * channels;
          const T* sum = sums + (j * size + i) * lanes;
          const Index first = a * lanes % channels;
          if (first + lanes <= channels)
            store(to + first, load(to + first) + load(sum));
          else
            for (Index l = 0, c = first; l < lanes; ++l, c = c + 1 == channels ? 0 : c + 1) to[c] += sum[l];
        }
    }
  }

  RowSteps steps;
  Phases<T> phases;
  Gather<T> compute;
  Index size, channels, stride, vectors, input_row;
  const Index* shift;
};

// `partials` [chunks, S, T, k, k, C] holds one sum per fixed chunk of bands; their sum is taken in order, so the result
// does not depend on the threads.
template <typename T, typename Pool>
void kernel_gradient(const Geometry& g, const T* x, const T* y, const T* gate, T* kernels, T* partials, Index chunks,
                     Pool& pool) {
  constexpr Index lanes = Simd<T>::lanes;
  const RowSteps steps(g);
  const Index length = g.out_width() * g.channels, rows_per_tile = kRows * steps.out;
  const Index vectors = (length + lanes - 1) / lanes;
  const Padding<T> padding(g.width, g.pad(), g.stride, g.channels);
  const Index k = g.size, gradients = g.sources * g.targets * g.kernel();
  Index* shift = thread_buffer<Index, Columns>(k);
  padding.shifts(k, g.dilation, shift);
  const Gathering<T> gathering(g, padding, shift);
  const Bands bands(g.out_height(), (chunks + g.batch - 1) / std::max<Index>(1, g.batch),
                    padding.row * g.stride * sizeof(T), rows_per_tile);
  const Index all = g.batch * bands.count;

  parallel_for(pool, g.useful_threads(), g.sources * chunks, [&](Index unit) {
    const Index source = unit / chunks, chunk = unit % chunks;
    T* partial = partials + chunk * gradients + source * g.targets * g.kernel();
    std::fill_n(partial, g.targets * g.kernel(), T(0));
    for (Index n = chunk * all / chunks; n < (chunk + 1) * all / chunks; ++n) {
      const Index b = n / bands.count, begin = bands.begin(n % bands.count);
      const Index rows = bands.end(n % bands.count) - begin;
      const Index read = rows_read(g, rows);
      const Index whole_rows = (rows + rows_per_tile - 1) / rows_per_tile * rows_per_tile;
      const bool whole = whole_rows == rows && length % lanes == 0;
      T* in = thread_buffer<T, BandBuffer>(read * padding.row);
      T* other = thread_buffer<T, OtherBuffer>(gathering.room() + (whole ? 0 : whole_rows * vectors * lanes));
      const Index image = (source * g.batch + b) * g.image();
      padding.copy(x + image, g.height, g.width, begin * g.stride - g.pad(), read, in, gate_at(gate, image));

      for (Index t = 0; t < g.targets; ++t) {
        const T* values = y + ((source * g.targets + t) * g.batch + b) * g.out_image() + begin * length;
        Index row = length;
        if (!whole) {
          T* copy = other + gathering.room();
          row = vectors * lanes;
          std::fill_n(copy, whole_rows * row, T(0));
          for (Index r = 0; r < rows; ++r) std::copy_n(values + r * length, length, copy + r * row);
          values = copy;
        }
        gathering.add(in, values, row, rows, other, partial + t * g.kernel());
      }
    }
  });

  parallel_for(pool, 1 + chunks * gradients / (1 << 18), g.sources * g.targets, [&](Index unit) {
    T* out = kernels + unit * g.kernel();
    std::copy_n(partials + unit * g.kernel(), g.kernel(), out);
    for (Index chunk = 1; chunk < chunks; ++chunk) {
      const T* partial = partials + chunk * gradients + unit * g.kernel();
      for (Index e = 0; e < g.kernel(); ++e) out[e] += partial[e];
    }
  });
}

}  // namespace jdarts
