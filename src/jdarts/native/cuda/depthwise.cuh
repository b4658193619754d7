// The depthwise convolution, its gradient in the images and its gradient in the kernels.
//
// A thread computes a strip of kRows rows of four channels, so that a pixel is read once for several results, and the taps of
// one column are kept in registers for the whole strip. Other sizes and numbers of channels take one result a thread.
#pragma once

#include "arguments.h"
#include "device.h"

namespace jdarts_cuda {
namespace {

template <int kSize, int kTargets>
__device__ inline void read_taps(const T* kernel, int step, int step_of_targets, A (&taps)[kTargets][kSize][4], int targets) {
#pragma unroll
  for (int t = 0; t < kTargets; ++t)
#pragma unroll
    for (int i = 0; i < kSize; ++i) {
      if (t < targets)
        read<4>(kernel + t * step_of_targets + i * step, taps[t][i]);
      else
        for (int v = 0; v < 4; ++v) taps[t][i][v] = A(0);
    }
}

// sums[r][t] += Σ over the taps of one column of the pixels below them. `rows` images rows begin at `first`.
template <int kSize, int kStride, int kDilation, int kTargets, typename N>
__device__ inline void add_column(const N* x, const Gate& gate, int column, int row_step, int first, int height,
                                  const A (&taps)[kTargets][kSize][4], A (&sums)[kRows][kTargets][4]) {
  constexpr int kRead = (kRows - 1) * kStride + (kSize - 1) * kDilation + 1;
#pragma unroll
  for (int n = 0; n < kRead; ++n) {
    bool used = false;
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int i = 0; i < kSize; ++i) used |= r * kStride + i * kDilation == n;
    const int row = first + n;
    if (!used || row < 0 || row >= height) continue;
    A values[4];
    read<4>(x + column + row * row_step, values);
    gate.close<4>(column + row * row_step, values);
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int i = 0; i < kSize; ++i)
        if (r * kStride + i * kDilation == n)
#pragma unroll
          for (int t = 0; t < kTargets; ++t)
#pragma unroll
            for (int v = 0; v < 4; ++v) sums[r][t][v] += values[v] * taps[t][i][v];
  }
}

// Where the images' maps, kernels and results of a strip are: four channels from c on, and targets from t on.
struct Place {
  int s, t, targets, b, h, w, c;
};

// sums[r][t] += Σ over some terms of the convolutions of a strip.
template <int kSize, int kStride, int kDilation, int kTargets>
__device__ inline void add_strip(const Geometry& g, const void* const* maps, const void* const* kernels, const void* closing,
                                 int terms, const Place& place, A (&sums)[kRows][kTargets][4]) {
  const int row = g.width * g.channels, kernel = kSize * kSize * g.channels;
  const long long at = (long long)(place.s * g.batch + place.b) * g.height * row + place.c;
  for (int term = 0; term < terms; ++term) {
    const T* x = static_cast<const T*>(maps[term]) + at;
    const Gate gate(closing, maps[term], at);
    const T* k = static_cast<const T*>(kernels[term]) + (long long)(place.s * g.targets + place.t) * kernel + place.c;
#pragma unroll 1  // registers for one column at a time
    for (int j = 0; j < kSize; ++j) {
      const int column = place.w * kStride + j * kDilation - g.pad;
      if (column < 0 || column >= g.width) continue;
      A taps[kTargets][kSize][4];
      read_taps<kSize, kTargets>(k + j * g.channels, kSize * g.channels, kernel, taps, place.targets);
      add_column<kSize, kStride, kDilation, kTargets>(x, gate, column * g.channels, row, place.h * kStride - g.pad, g.height,
                                                      taps, sums);
    }
  }
}

template <int kSize, int kStride, int kDilation, int kTargets>
__device__ inline void forward_strip(const ConvolutionArguments& a) {
  const Geometry& g = a.geometry;
  const unsigned groups = g.channels / 4, strips = (g.out_height + kRows - 1) / kRows;
  const unsigned rounds = (g.targets + kTargets - 1) / kTargets;
  unsigned number = thread_number();
  const int c = 4 * split_off(number, groups), w = split_off(number, g.out_width), h = kRows * split_off(number, strips);
  const int b = split_off(number, g.batch), t = kTargets * split_off(number, rounds), s = number;
  if (s >= g.sources) return;
  const int targets = g.targets - t < kTargets ? g.targets - t : kTargets;
  A sums[kRows][kTargets][4] = {};
  add_strip<kSize, kStride, kDilation, kTargets>(g, a.maps, a.kernels, a.gate, a.terms, {s, t, targets, b, h, w, c}, sums);
  T* y = static_cast<T*>(a.result);
  const long long out_image = (long long)g.out_height * g.out_width * g.channels;
#pragma unroll
  for (int r = 0; r < kRows; ++r)
#pragma unroll
    for (int n = 0; n < kTargets; ++n)
      if (h + r < g.out_height && n < targets)
        write<4>(sums[r][n], y + ((long long)(s * g.targets + t + n) * g.batch + b) * out_image +
                                 ((h + r) * g.out_width + w) * g.channels + c);
}

// At stride 1: a convolution of y with the reversed kernel, summed over targets.
template <int kSize, int kDilation>
__device__ inline void back_strip(const ConvolutionArguments& a) {
  const Geometry& g = a.geometry;
  const unsigned groups = g.channels / 4, strips = (g.height + kRows - 1) / kRows;
  unsigned number = thread_number();
  const int c = 4 * split_off(number, groups), w = split_off(number, g.width), h = kRows * split_off(number, strips);
  const int b = split_off(number, g.batch), s = number;
  if (s >= g.sources) return;
  const int image = g.height * g.width * g.channels, row = g.width * g.channels, kernel = kSize * kSize * g.channels;
  A sums[kRows][1][4] = {};
  for (int term = 0; term < a.terms; ++term)
    for (int t = 0; t < g.targets; ++t) {
      const int edge = s * g.targets + t;
      const T* y = static_cast<const T*>(a.maps[term]) + (long long)(edge * g.batch + b) * image + c;
      const T* k = static_cast<const T*>(a.kernels[term]) + (long long)edge * kernel + c;
#pragma unroll 1
      for (int j = 0; j < kSize; ++j) {
        const int column = w + j * kDilation - g.pad;
        if (column < 0 || column >= g.width) continue;
        A taps[1][kSize][4];
        read_taps<kSize, 1>(k + (kSize * kSize - 1 - j) * g.channels, -kSize * g.channels, 0, taps, 1);
        add_column<kSize, 1, kDilation, 1>(y, Gate(nullptr, nullptr, 0), column * g.channels, row, h - g.pad, g.height,
                                           taps, sums);
      }
    }
  const long long at = (long long)(s * g.batch + b) * image + w * g.channels + c;
  T* x = static_cast<T*>(a.result) + at;
#pragma unroll
  for (int r = 0; r < kRows; ++r)
    if (h + r < g.height) {
      Gate(a.gate, nullptr, at).close<4>((h + r) * row, sums[r][0]);
      write<4>(sums[r][0], x + (h + r) * row);
    }
}

// One result a thread.
template <int V>
__device__ inline void forward_pixel(const ConvolutionArguments& a) {
  const Geometry& g = a.geometry;
  unsigned number = thread_number();
  const int c = V * split_off(number, g.channels / V), w = split_off(number, g.out_width), h = split_off(number, g.out_height);
  const int b = split_off(number, g.batch), t = split_off(number, g.targets), s = number;
  if (s >= g.sources) return;
  const long long at = (long long)(s * g.batch + b) * g.height * g.width * g.channels + c;
  A sum[V] = {};
  for (int term = 0; term < a.terms; ++term) {
    const T* k = static_cast<const T*>(a.kernels[term]) + (long long)(s * g.targets + t) * g.size * g.size * g.channels + c;
    for (int i = 0; i < g.size; ++i) {
      const int row = h * g.stride + i * g.dilation - g.pad;
      if (row < 0 || row >= g.height) continue;
      for (int j = 0; j < g.size; ++j) {
        const int column = w * g.stride + j * g.dilation - g.pad;
        if (column < 0 || column >= g.width) continue;
        const long long pixel = at + (row * g.width + column) * g.channels;
        A x[V], tap[V];
        read<V>(static_cast<const T*>(a.maps[term]) + pixel, x);
        Gate(a.gate, a.maps[term], pixel).close<V>(0, x);
        read<V>(k + (i * g.size + j) * g.channels, tap);
#pragma unroll
        for (int v = 0; v < V; ++v) sum[v] += x[v] * tap[v];
      }
    }
  }
  write<V>(sum, static_cast<T*>(a.result) + (((long long)((s * g.targets + t) * g.batch + b) * g.out_height + h) * g.out_width + w) * g.channels + c);
}

template <int V>
__device__ inline void back_pixel(const ConvolutionArguments& a) {
  const Geometry& g = a.geometry;
  unsigned number = thread_number();
  const int c = V * split_off(number, g.channels / V), w = split_off(number, g.width), h = split_off(number, g.height);
  const int b = split_off(number, g.batch), s = number;
  if (s >= g.sources) return;
  const long long out_image = (long long)g.out_height * g.out_width * g.channels;
  A sum[V] = {};
  for (int term = 0; term < a.terms; ++term)
    for (int t = 0; t < g.targets; ++t) {
      const int edge = s * g.targets + t;
      const T* y = static_cast<const T*>(a.maps[term]) + ((long long)edge * g.batch + b) * out_image + c;
      const T* k = static_cast<const T*>(a.kernels[term]) + (long long)edge * g.size * g.size * g.channels + c;
      for (int i = 0; i < g.size; ++i) {
        const int down = h + g.pad - i * g.dilation, row = down / g.stride;
        if (down < 0 || down % g.stride || row >= g.out_height) continue;
        for (int j = 0; j < g.size; ++j) {
          const int across = w + g.pad - j * g.dilation, column = across / g.stride;
          if (across < 0 || across % g.stride || column >= g.out_width) continue;
          A from[V], tap[V];
          read<V>(y + (row * g.out_width + column) * g.channels, from);
          read<V>(k + (i * g.size + j) * g.channels, tap);
#pragma unroll
          for (int v = 0; v < V; ++v) sum[v] += from[v] * tap[v];
        }
      }
    }
  const long long at = (((long long)(s * g.batch + b) * g.height + h) * g.width + w) * g.channels + c;
  Gate(a.gate, nullptr, at).close<V>(0, sum);
  write<V>(sum, static_cast<T*>(a.result) + at);
}

// The place of a thread in sums over pixels: a block has `lanes` channels side by side and as many pixels as fit.
struct Lane {
  int lanes, repeats, lane, c;
  bool used;
  __device__ explicit Lane(int channels)
      : lanes(channels < kThreads ? channels : kThreads),
        repeats(kThreads / lanes),
        lane(threadIdx.x / lanes),
        c(blockIdx.z * lanes + threadIdx.x % lanes),
        used(lane < repeats && c < channels) {}
};

// The sum of a value over the lanes of a channel, for the threads of the first lane.
__device__ inline A sum_of_lanes(A value, const Lane& place, A* shared) {
  shared[threadIdx.x] = value;
  __syncthreads();
  A sum = 0;
  if (place.used && place.lane == 0)
    for (int n = 0; n < place.repeats; ++n) sum += shared[threadIdx.x + n * place.lanes];
  __syncthreads();
  return sum;
}

// Where the rows of x below a row of y begin, and which of them are inside the image.
template <int kSize>
struct RowsBelow {
  int begin[kSize];
  bool inside[kSize];
  __device__ RowsBelow(const Geometry& g, int h) {
#pragma unroll
    for (int i = 0; i < kSize; ++i) {
      const int row = h * g.stride + i * g.dilation - g.pad;
      inside[i] = row >= 0 && row < g.height;
      begin[i] = row * g.width * g.channels;
    }
  }
};

// One channel of the pixels in one column of those rows.
template <int kSize>
__device__ inline void read_column(const T* x, const Gate& gate, const Geometry& g, const RowsBelow<kSize>& rows, int column,
                                   A (&values)[kSize]) {
  const bool some = column >= 0 && column < g.width;
#pragma unroll
  for (int i = 0; i < kSize; ++i) {
    values[i] = A(0);
    if (!some || !rows.inside[i]) continue;
    const int pixel = rows.begin[i] + column * g.channels;
    read<1>(x + pixel, values + i);
    gate.close<1>(pixel, values + i);
  }
}

// sums[n][i][j] += Σ over a row of y of y times the x below it. At stride 1 the columns of x stay in registers while taps pass
// over them; with a dilation of 2, the even ones first.
template <int kSize, int kStride, int kDilation, int kTargets>
__device__ inline void add_row(const T* x, const Gate& gate, const T* y, long long target, int targets, const Geometry& g, int h,
                               A (&sums)[kTargets][kSize][kSize]) {
  const RowsBelow<kSize> rows(g, h);
  const auto add = [&](int j, const A(&column)[kSize], const A(&from)[kTargets]) {
#pragma unroll
    for (int n = 0; n < kTargets; ++n)
#pragma unroll
      for (int i = 0; i < kSize; ++i) sums[n][i][j] += column[i] * from[n];
  };
  const auto read_targets = [&](int w, A(&from)[kTargets]) {
#pragma unroll
    for (int n = 0; n < kTargets; ++n) from[n] = n < targets ? widened(y[n * target + w * g.channels]) : A(0);
  };
  if constexpr (kStride == 1) {
    constexpr int kHalf = (kSize - 1) / 2;
    for (int start = 0; start < kDilation; ++start) {
      const int count = (g.out_width - start + kDilation - 1) / kDilation;
      A columns[kSize][kSize];
#pragma unroll
      for (int j = 0; j + 1 < kSize; ++j)
        read_column<kSize>(x, gate, g, rows, start + kDilation * (j - kHalf), columns[j]);
      const auto step = [&](int first, int u) {
        const int m = first + u;
        read_column<kSize>(x, gate, g, rows, start + kDilation * (m + kHalf), columns[(u + kSize - 1) % kSize]);
        A from[kTargets];
        read_targets(start + kDilation * m, from);
#pragma unroll
        for (int j = 0; j < kSize; ++j) add(j, columns[(u + j) % kSize], from);
      };
      int first = 0;
      for (; first + kSize <= count; first += kSize)
#pragma unroll
        for (int u = 0; u < kSize; ++u) step(first, u);
#pragma unroll
      for (int u = 0; u + 1 < kSize; ++u)
        if (first + u < count) step(first, u);
    }
  } else {
    for (int w = 0; w < g.out_width; ++w) {
      A from[kTargets];
      read_targets(w, from);
#pragma unroll
      for (int j = 0; j < kSize; ++j) {
        A column[kSize];
        read_column<kSize>(x, gate, g, rows, w * kStride + j * kDilation - g.pad, column);
        add(j, column, from);
      }
    }
  }
}

// Rows of y in turn: every thread has one channel and all taps of kTargets kernels.
template <int kSize, int kStride, int kDilation, int kTargets>
__device__ inline void kernel_sums(const KernelGradientArguments& a) {
  const Geometry& g = a.geometry;
  __shared__ A shared[kSize][kThreads];
  const Lane place(g.channels);
  const int rounds = (g.targets + kTargets - 1) / kTargets;
  const int s = blockIdx.y / rounds, t = blockIdx.y % rounds * kTargets;
  const int targets = g.targets - t < kTargets ? g.targets - t : kTargets;
  A sums[kTargets][kSize][kSize] = {};
  const int rows = g.batch * g.out_height;
  const long long image = (long long)g.height * g.width * g.channels;
  const long long out_image = (long long)g.out_height * g.out_width * g.channels;
  if (place.used)
    for (int r = blockIdx.x * place.repeats + place.lane; r < rows; r += a.chunks * place.repeats) {
      const int b = r / g.out_height, h = r % g.out_height;
      const long long at = (s * g.batch + b) * image + place.c;
      const T* y = static_cast<const T*>(a.y) + ((long long)(s * g.targets + t) * g.batch + b) * out_image +
                   h * g.out_width * g.channels + place.c;
      add_row<kSize, kStride, kDilation, kTargets>(static_cast<const T*>(a.x) + at,
                                                   Gate(a.gate, a.x, at), y,
                                                   g.batch * out_image, targets, g, h, sums);
    }
  // The sums of a row of taps over the lanes: a thread for each tap and channel.
  A* partials = static_cast<A*>(a.partials) + (long long)blockIdx.x * g.sources * g.targets * kSize * kSize * g.channels;
#pragma unroll
  for (int n = 0; n < kTargets; ++n)
#pragma unroll
    for (int i = 0; i < kSize; ++i) {
      __syncthreads();
#pragma unroll
      for (int j = 0; j < kSize; ++j) shared[j][threadIdx.x] = sums[n][i][j];
      __syncthreads();
      for (int number = threadIdx.x; number < kSize * place.lanes; number += kThreads) {
        const int j = number / place.lanes, lane = number % place.lanes, c = blockIdx.z * place.lanes + lane;
        A sum = 0;
        for (int m = 0; m < place.repeats; ++m) sum += shared[j][m * place.lanes + lane];
        if (c < g.channels && n < targets)
          partials[(((s * g.targets + t + n) * kSize + i) * kSize + j) * g.channels + c] = sum;
      }
    }
}

// One tap a block, for kernels of any size.
__device__ inline void tap_sums(const KernelGradientArguments& a) {
  const Geometry& g = a.geometry;
  __shared__ A shared[kThreads];
  const Lane place(g.channels);
  unsigned number = blockIdx.y;
  const int j = split_off(number, g.size), i = split_off(number, g.size), t = split_off(number, g.targets), s = number;
  A sum = 0;
  const int pixels = g.batch * g.out_height * g.out_width;
  if (place.used)
    for (int p = blockIdx.x * place.repeats + place.lane; p < pixels; p += a.chunks * place.repeats) {
      unsigned rest = p;
      const int w = split_off(rest, g.out_width), h = split_off(rest, g.out_height), b = rest;
      const int row = h * g.stride + i * g.dilation - g.pad, column = w * g.stride + j * g.dilation - g.pad;
      if (row < 0 || row >= g.height || column < 0 || column >= g.width) continue;
      const long long at = (((long long)(s * g.batch + b) * g.height + row) * g.width + column) * g.channels + place.c;
      A value = widened(static_cast<const T*>(a.x)[at]);
      Gate(a.gate, a.x, at).close<1>(0, &value);
      sum += value * widened(static_cast<const T*>(a.y)[((long long)(s * g.targets + t) * pixels + p) * g.channels + place.c]);
    }
  sum = sum_of_lanes(sum, place, shared);
  if (place.used && place.lane == 0)
    static_cast<A*>(a.partials)[((long long)blockIdx.x * gridDim.y + blockIdx.y) * g.channels + place.c] = sum;
}

}  // namespace
}  // namespace jdarts_cuda
