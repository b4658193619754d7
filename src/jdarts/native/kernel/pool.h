// Maxima over 3×3 windows and their places among the nine pixels, and the two linear functions that use the places: to gather
// the pixels of another image there, and to scatter values to the pixels there. x [images, H, W, C], y [images, H', W', C].
//
// As in the depthwise functions, bands of rows are copied with their padding, so that a row is one flat array.
#pragma once

#include <cstdint>
#include <limits>

#include "bands.h"

namespace jdarts {

constexpr Index kWindow = 3;
constexpr Index kNowhere = 255;  // no place in a window

struct Windows {
  Index images, height, width, channels;  // of x
  Index stride;

  Index out_height() const { return (height + stride - 1) / stride; }
  Index out_width() const { return (width + stride - 1) / stride; }
  Index image() const { return height * width * channels; }
  Index out_image() const { return out_height() * out_width() * channels; }
  Index useful_threads() const { return 1 + images * image() / (1 << 16); }
};

// Calls work(image, first row of y, number of rows) for bands of all images.
template <typename Pool, typename Work>
void for_bands(const Windows& g, Index bytes_per_row, Pool& pool, const Work& work) {
  if (g.images * g.image() == 0) return;
  const Index threads = std::min<Index>(pool.num_threads(), g.useful_threads());
  const Bands bands(g.out_height(), (2 * threads + g.images - 1) / g.images, bytes_per_row, 1);
  parallel_for(pool, threads, g.images * bands.count, [&](Index unit) {
    const Index begin = bands.begin(unit % bands.count);
    work(unit / bands.count, begin, bands.end(unit % bands.count) - begin);
  });
}

// Among equals the first place in row order wins, and a NaN wins over all before it.
template <typename T, typename Pool>
void max_pool(const Windows& g, const T* x, T* y, uint8_t* places, Pool& pool) {
  constexpr Index lanes = Simd<T>::lanes;
  constexpr T least = -std::numeric_limits<T>::infinity();
  const Padding<T> padding(g.width, 1, g.stride, g.channels, least);
  const Index length = g.out_width() * g.channels, row = padding.row;
  Index shift[kWindow];
  padding.shifts(kWindow, 1, shift);

  for_bands(g, g.stride * row * sizeof(T), pool, [&](Index image, Index begin, Index rows) {
    const Index read = (rows - 1) * g.stride + kWindow;
    T* in = thread_buffer<T, BandBuffer>(read * row);
    T* chosen = thread_buffer<T, OtherBuffer>(length + lanes);
    padding.copy(x + image * g.image(), g.height, g.width, begin * g.stride - 1, read, in);
    for (Index r = 0; r < rows; ++r) {
      const T* top = in + r * g.stride * row;
      const Index to = image * g.out_image() + (begin + r) * length;
      // Where all pixels are −∞ the place stays the first one, which is inside the image.
      const Vector<T> first = Vector<T>{} + T(begin + r == 0 ? kWindow : 0);
      for (Index q = 0; q < length; q += lanes) {
        Vector<T> best = Vector<T>{} + least, place = first;
#pragma GCC unroll 3
        for (Index i = 0; i < kWindow; ++i)
#pragma GCC unroll 3
          for (Index j = 0; j < kWindow; ++j) {
            const Vector<T> value = load(top + i * row + shift[j] + q);
            const Vector<T> here = Vector<T>{} + T(i * kWindow + j);
            place = value > best ? here : place;
            place = value != value ? here : place;
            best = value > best ? value : best;
            best = value != value ? value : best;
          }
        store_some(y + to + q, best, length - q);
        store(chosen + q, place);
      }
      for (Index c = 0; c < g.channels; ++c) chosen[c] += int(chosen[c]) % kWindow == 0;
      for (Index q = 0; q < length; ++q) places[to + q] = uint8_t(chosen[q]);
    }
  });
}

// y = x at the places; linear in x.
template <typename T, typename Pool>
void pool_gather(const Windows& g, const T* x, const uint8_t* places, T* y, Pool& pool) {
  constexpr Index lanes = Simd<T>::lanes;
  const Padding<T> padding(g.width, 1, g.stride, g.channels);
  const Index length = g.out_width() * g.channels, row = padding.row;
  Index shift[kWindow];
  padding.shifts(kWindow, 1, shift);

  for_bands(g, g.stride * row * sizeof(T), pool, [&](Index image, Index begin, Index rows) {
    const Index read = (rows - 1) * g.stride + kWindow;
    T* in = thread_buffer<T, BandBuffer>(read * row);
    T* chosen = thread_buffer<T, OtherBuffer>(length + lanes);
    std::fill_n(chosen + length, lanes, T(kNowhere));
    padding.copy(x + image * g.image(), g.height, g.width, begin * g.stride - 1, read, in);
    for (Index r = 0; r < rows; ++r) {
      const T* top = in + r * g.stride * row;
      const Index to = image * g.out_image() + (begin + r) * length;
      for (Index q = 0; q < length; ++q) chosen[q] = places[to + q];
      for (Index q = 0; q < length; q += lanes) {
        const Vector<T> place = load(chosen + q);
        Vector<T> value = {};
#pragma GCC unroll 3
        for (Index i = 0; i < kWindow; ++i)
#pragma GCC unroll 3
          for (Index j = 0; j < kWindow; ++j)
            value = place == T(i * kWindow + j) ? load(top + i * row + shift[j] + q) : value;
        store_some(y + to + q, value, length - q);
      }
    }
  });
}

// A place whose windows reach the pixels of one parity: the values that it adds to them start `shift` values before or after.
template <typename T>
struct Tap {
  Index shift;
  Vector<T> place;
};

// out = Σ over the taps of the values whose place it is, in one row.
template <typename T, int kTaps>
void add_chosen(const Tap<T>* taps, const T* values, const T* chosen, Index length, T* out) {
  constexpr Index lanes = Simd<T>::lanes;
  for (Index q = 0; q < length; q += lanes) {
    Vector<T> sum = {};
#pragma GCC unroll 9
    for (int n = 0; n < kTaps; ++n) {
      const Index at = q + taps[n].shift;
      sum += load(chosen + at) == taps[n].place ? load(values + at) : Vector<T>{};
    }
    store_some(out + q, sum, length - q);
  }
}

// x = the sum of the y whose place it is; linear in y.
template <typename T, typename Pool>
void pool_scatter(const Windows& g, const T* y, const uint8_t* places, T* x, Pool& pool) {
  const Padding<T> padding(g.out_width(), 1, 1, g.channels);
  const Padding<T> nowhere(g.out_width(), 1, 1, g.channels, T(kNowhere));
  const Index row = padding.row;

  for_bands(g, 2 * row * sizeof(T), pool, [&](Index image, Index begin, Index rows) {
    const Index read = rows + 2;
    T* values = thread_buffer<T, BandBuffer>(2 * read * row);
    T* chosen = values + read * row;
    T* strided = thread_buffer<T, OtherBuffer>(g.out_width() * g.channels);
    padding.copy(y + image * g.out_image(), g.out_height(), g.out_width(), begin - 1, read, values);
    nowhere.copy(places + image * g.out_image(), g.out_height(), g.out_width(), begin - 1, read, chosen);
    for (Index h = begin * g.stride; h < std::min(g.height, (begin + rows) * g.stride); ++h) {
      const Index u = h / g.stride - begin + 1, row_parity = h % g.stride;
      T* out = x + image * g.image() + h * g.width * g.channels;
      for (Index parity = 0; parity < std::min(g.stride, g.width); ++parity) {
        Tap<T> taps[kWindow * kWindow];
        int count = 0;
        for (Index i = (row_parity + 1) % g.stride; i < kWindow; i += g.stride)
          for (Index j = (parity + 1) % g.stride; j < kWindow; j += g.stride)
            taps[count++] = {(row_parity + 1 - i) / g.stride * row + (parity + 1 - j) / g.stride * g.channels,
                             Vector<T>{} + T(i * kWindow + j)};
        const Index pixels = (g.width - parity + g.stride - 1) / g.stride, length = pixels * g.channels;
        const Index centre = u * row + g.channels;
        const auto add = count == 9   ? add_chosen<T, 9>
                         : count == 4 ? add_chosen<T, 4>
                         : count == 2 ? add_chosen<T, 2>
                                      : add_chosen<T, 1>;
        add(taps, values + centre, chosen + centre, length, g.stride == 1 ? out : strided);
        if (g.stride == 1) continue;
        for (Index w = 0; w < pixels; ++w)
          copy_pixel(strided + w * g.channels, g.channels, out + (w * g.stride + parity) * g.channels);
      }
    }
  });
}

}  // namespace jdarts
