// A depthwise convolution and the 1×1 convolution after it, the gradient in the images, and that in kernels and matrices.
//
// What lies between the two convolutions stays in shared memory. A thread multiplies four pixels by four columns of a matrix,
// whose numbers come from the first cache. Channels are multiples of four.
#pragma once

#include "arguments.h"
#include "depthwise.cuh"
#include "device.h"

namespace jdarts_cuda {
namespace {

// Numbers that a block keeps of one map: 16 KiB.
constexpr int kValues = 16384 / sizeof(A);
// Strips of x that a thread adds up.
constexpr int kStrips = 2;

// A strip of y. One past the last has no rows.
struct Strip {
  int b, h, w, rows;

  __device__ static Strip of(unsigned number, const Geometry& g) {
    const unsigned strips = (g.out_height + kRows - 1) / kRows;
    const int w = split_off(number, g.out_width), h = kRows * split_off(number, strips), b = number;
    const int rows = g.out_height - h < kRows ? g.out_height - h : kRows;
    return {b, h, w, b < g.batch ? rows : 0};
  }

  // The number of its first pixel among those of y.
  __device__ long long pixel(const Geometry& g, int edge) const {
    return (((long long)edge * g.batch + b) * g.out_height + h) * g.out_width + w;
  }
};

// sums[r] += four pixels times four columns of a matrix [inner, row].
__device__ inline void add_products(const A* values, int step, const T* matrix, int inner, int row, A (&sums)[kRows][4]) {
  for (int k = 0; k < inner; k += 4) {
    A weights[4][4];
#pragma unroll
    for (int n = 0; n < 4; ++n) read<4>(matrix + (k + n) * row, weights[n]);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      A own[4];
      read<4>(values + r * step + k, own);
#pragma unroll
      for (int n = 0; n < 4; ++n)
#pragma unroll
        for (int v = 0; v < 4; ++v) sums[r][v] += own[n] * weights[n][v];
    }
  }
}

// sums[r] += four pixels times four rows of a matrix [rows, inner]; a pixel without data counts as 0.
__device__ inline void add_transposed(const T* const (&pixels)[kRows], const T* matrix, int inner, A (&sums)[kRows][4]) {
  for (int k = 0; k < inner; k += 4) {
    A weights[4][4];
#pragma unroll
    for (int v = 0; v < 4; ++v) read<4>(matrix + v * inner + k, weights[v]);
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      if (!pixels[r]) continue;
      A own[4];
      read<4>(pixels[r] + k, own);
#pragma unroll
      for (int v = 0; v < 4; ++v)
#pragma unroll
        for (int n = 0; n < 4; ++n) sums[r][v] += own[n] * weights[v][n];
    }
  }
}

// A block has some strips of y, kTargets targets and some fours of outputs. Two targets read an image once; they are for terms that
// share a matrix, so that no sums of products take registers while the first convolution is computed.
template <int kSize, int kStride, int kDilation, int kTargets>
__device__ inline void separable_strips(const SeparableArguments& a) {
  const Geometry& g = a.geometry;
  alignas(16) __shared__ A middle[kTargets * kValues];
  const int groups = g.channels / 4, rounds = (g.targets + kTargets - 1) / kTargets;
  unsigned number = blockIdx.x;
  const int t = kTargets * split_off(number, rounds), first = number * a.strips, s = blockIdx.y;
  const int targets = g.targets - t < kTargets ? g.targets - t : kTargets;
  const int own = threadIdx.x / a.fours, d = 4 * (blockIdx.z * a.fours + threadIdx.x % a.fours);
  const bool used = own < a.strips && d < a.out;
  const auto convolve = [&](int begin, int end) {
    __syncthreads();
    for (int item = threadIdx.x; item < a.strips * groups; item += kThreads) {
      const int n = item / groups, c = 4 * (item % groups);
      const Strip strip = Strip::of(first + n, g);
      if (strip.rows == 0) continue;
      A values[kRows][kTargets][4] = {};
      add_strip<kSize, kStride, kDilation, kTargets>(g, a.images + begin, a.kernels + begin, a.gate, end - begin,
                                                     {s, t, targets, strip.b, strip.h, strip.w, c}, values);
#pragma unroll
      for (int m = 0; m < kTargets; ++m)
#pragma unroll
        for (int r = 0; r < kRows; ++r)
          write<4>(values[r][m], middle + m * kValues + (r * a.strips + n) * g.channels + c);
    }
    __syncthreads();
  };
  A sums[kTargets][kRows][4] = {};
  const auto multiply = [&](int begin) {
    const T* matrix = static_cast<const T*>(a.matrices[begin]) + (long long)(s * g.targets + t) * g.channels * a.out + d;
#pragma unroll
    for (int m = 0; m < kTargets; ++m)
      if (used && m < targets)
        add_products(middle + m * kValues + own * g.channels, a.strips * g.channels, matrix + m * g.channels * a.out,
                     g.channels, a.out, sums[m]);
  };
  if constexpr (kTargets == 1) {
    for (int begin = 0, end; begin < a.terms; begin = end) {
      for (end = begin + 1; end < a.terms && a.matrices[end] == a.matrices[begin];) ++end;
      convolve(begin, end);
      multiply(begin);
    }
  } else {
    convolve(0, a.terms);
    multiply(0);
  }
  const Strip strip = Strip::of(first + own, g);
  if (!used) return;
#pragma unroll
  for (int m = 0; m < kTargets; ++m)
#pragma unroll
    for (int r = 0; r < kRows; ++r)
      if (m < targets && r < strip.rows)
        write<4>(sums[m][r], static_cast<T*>(a.result) +
                                 (strip.pixel(g, s * g.targets + t + m) + r * g.out_width) * a.out + d);
}

// The rows, or columns, of y whose pixels reach `count` ones of x.
struct Reaching {
  int begin, size;
  __device__ Reaching(int first, int count, int in_size, int out_size, const Geometry& g) {
    const int last = (first + count < in_size ? first + count : in_size) - 1 + g.pad, from = first - g.pad;
    const int end = last / g.stride + 1 < out_size ? last / g.stride + 1 : out_size;
    begin = from > 0 ? (from + g.stride - 1) / g.stride : 0;
    size = end > begin ? end - begin : 0;
  }
};

// sums[r] += Σ over the taps that reach a strip of x at (h, w), of y · matrixᵀ at rows and columns.
template <int kSize, int kStride, int kDilation>
__device__ inline void add_back(const Geometry& g, const A* mixed, const Reaching& rows, const Reaching& columns,
                                const T* kernel, int h, int w, A (&sums)[kRows][1][4]) {
  const int row_step = columns.size * g.channels;
  if constexpr (kStride == 1) {
#pragma unroll 1
    for (int j = 0; j < kSize; ++j) {
      const int column = w + j * kDilation - g.pad - columns.begin;
      if (column < 0 || column >= columns.size) continue;
      A taps[1][kSize][4];
      read_taps<kSize, 1>(kernel + (kSize * kSize - 1 - j) * g.channels, -kSize * g.channels, 0, taps, 1);
      add_column<kSize, 1, kDilation, 1>(mixed, Gate(nullptr, nullptr, 0), column * g.channels, row_step,
                                         h - g.pad - rows.begin, rows.size, taps, sums);
    }
  } else {
#pragma unroll 1
    for (int j = 0; j < kSize; ++j) {
      const int across = w + g.pad - j * kDilation, column = across / kStride - columns.begin;
      if (across < 0 || across % kStride || column >= columns.size) continue;
#pragma unroll 1
      for (int i = 0; i < kSize; ++i) {
        A tap[4];
        read<4>(kernel + (i * kSize + j) * g.channels, tap);
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
          const int down = h + r + g.pad - i * kDilation, row = down / kStride - rows.begin;
          if (down < 0 || down % kStride || row < 0 || row >= rows.size) continue;
          A from[4];
          read<4>(mixed + row * row_step + column * g.channels, from);
#pragma unroll
          for (int v = 0; v < 4; ++v) sums[r][0][v] += from[v] * tap[v];
        }
      }
    }
  }
}

// A block has a tile of x, and in turn the pixels of y · matrixᵀ that reach it, for every target and for all terms that share
// kernels.
template <int kSize, int kStride, int kDilation>
__device__ inline void separable_back_tile(const SeparableArguments& a) {
  const Geometry& g = a.geometry;
  alignas(16) __shared__ A mixed[3 * kValues];
  const int groups = g.channels / 4, s = blockIdx.y;
  unsigned number = blockIdx.x;
  const int left = a.tile_width * split_off(number, (g.width + a.tile_width - 1) / a.tile_width);
  const int top = a.tile_height * split_off(number, (g.height + a.tile_height - 1) / a.tile_height), b = number;
  const Reaching rows(top, a.tile_height, g.height, g.out_height, g), columns(left, a.tile_width, g.width, g.out_width, g);
  const int pixels = rows.size * columns.size, of_tile = a.tile_height / kRows * a.tile_width * groups;
  A sums[kStrips][kRows][1][4] = {};
  for (int edge = s * g.targets; edge < (s + 1) * g.targets; ++edge)
    for (int begin = 0, end; begin < a.terms; begin = end) {
      for (end = begin + 1; end < a.terms && a.kernels[end] == a.kernels[begin];) ++end;
      __syncthreads();
      for (int item = threadIdx.x; item < (pixels + kRows - 1) / kRows * groups; item += kThreads) {
        const int first = item / groups * kRows, c = 4 * (item % groups);
        A values[kRows][4] = {};
        for (int n = begin; n < end; ++n) {
          const T* y = static_cast<const T*>(a.images[n]) +
                       ((long long)edge * g.batch + b) * g.out_height * g.out_width * a.out;
          const T* from[kRows];
#pragma unroll
          for (int r = 0; r < kRows; ++r) {
            const int row = rows.begin + (first + r) / columns.size, column = columns.begin + (first + r) % columns.size;
            from[r] = first + r < pixels ? y + (row * g.out_width + column) * a.out : nullptr;
          }
          add_transposed(from, static_cast<const T*>(a.matrices[n]) + ((long long)edge * g.channels + c) * a.out, a.out,
                         values);
        }
#pragma unroll
        for (int r = 0; r < kRows; ++r)
          if (first + r < pixels) write<4>(values[r], mixed + (first + r) * g.channels + c);
      }
      __syncthreads();
      const T* kernel = static_cast<const T*>(a.kernels[begin]) + (long long)edge * kSize * kSize * g.channels;
#pragma unroll
      for (int n = 0; n < kStrips; ++n) {
        const int item = threadIdx.x + n * kThreads, c = 4 * (item % groups), strip = item / groups;
        if (item < of_tile)
          add_back<kSize, kStride, kDilation>(g, mixed + c, rows, columns, kernel + c, top + strip / a.tile_width * kRows,
                                              left + strip % a.tile_width, sums[n]);
      }
    }
#pragma unroll
  for (int n = 0; n < kStrips; ++n) {
    const int item = threadIdx.x + n * kThreads, c = 4 * (item % groups), strip = item / groups;
    const int h = top + strip / a.tile_width * kRows, w = left + strip % a.tile_width;
    if (item >= of_tile || w >= g.width) continue;
    const long long at = (((long long)(s * g.batch + b) * g.height + h) * g.width + w) * g.channels + c;
#pragma unroll
    for (int r = 0; r < kRows; ++r)
      if (h + r < g.height) {
        Gate(a.gate, nullptr, at).close<4>(r * g.width * g.channels, sums[n][r][0]);
        write<4>(sums[n][r][0], static_cast<T*>(a.result) + at + r * g.width * g.channels);
      }
  }
}

// The sums of four channels for the kernels' taps of one column: y · matrixᵀ of a strip times the x below it.
template <int kSize, int kStride, int kDilation>
__device__ inline void add_taps(const Geometry& g, const T* x, const Gate& gate, const Strip& strip, int j, const A* mixed,
                                int step, A (&sums)[kSize][4]) {
  constexpr int kRead = (kRows - 1) * kStride + (kSize - 1) * kDilation + 1;
  const int column = strip.w * kStride + j * kDilation - g.pad;
  if (column < 0 || column >= g.width) return;
  A values[kRows][4];
#pragma unroll
  for (int r = 0; r < kRows; ++r) read<4>(mixed + r * step, values[r]);
#pragma unroll
  for (int n = 0; n < kRead; ++n) {
    bool used = false;
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int i = 0; i < kSize; ++i) used |= r * kStride + i * kDilation == n;
    const int row = strip.h * kStride - g.pad + n;
    if (!used || row < 0 || row >= g.height) continue;
    A below[4];
    read<4>(x + (row * g.width + column) * g.channels, below);
    gate.close<4>((row * g.width + column) * g.channels, below);
#pragma unroll
    for (int r = 0; r < kRows; ++r)
#pragma unroll
      for (int i = 0; i < kSize; ++i)
        if (r * kStride + i * kDilation == n)
#pragma unroll
          for (int v = 0; v < 4; ++v) sums[i][v] += below[v] * values[r][v];
  }
}

// The sums for kernels and matrices of an edge over a chunk of its tiles, of some strips each. A thread has four by four numbers
// of the matrix, and four channels of a column of taps.
template <int kSize, int kStride, int kDilation>
__device__ inline void separable_weights(const SeparableWeightsArguments& a) {
  const Geometry& g = a.geometry;
  // The result of the first convolution and y · matrixᵀ; at the end, sums of the threads.
  alignas(16) __shared__ A values[2 * kValues];
  __shared__ Strip strips[kThreads];
  A *middle = values, *mixed = values + kValues;
  const int groups = g.channels / 4, fours = a.out / 4, edge = blockIdx.y, s = edge / g.targets, t = edge % g.targets;
  const bool for_kernels = blockIdx.z == 0;
  const int pairs = groups * fours < kThreads ? groups * fours : kThreads, repeats = kThreads / pairs;
  const int pair = blockIdx.z * kThreads + threadIdx.x % pairs, lane = threadIdx.x / pairs;
  const int of_column = kSize * groups, tap_repeats = kThreads / of_column;
  const int tap = threadIdx.x % of_column, tap_lane = threadIdx.x / of_column;
  const T* matrix = static_cast<const T*>(a.matrices) + (long long)edge * g.channels * a.out;
  A of_matrix[4][4] = {}, of_kernel[kSize][4] = {};

  const int all = g.batch * ((g.out_height + kRows - 1) / kRows) * g.out_width;
  for (int first = blockIdx.x * a.strips; first < all; first += a.chunks * a.strips) {
    __syncthreads();
    if (threadIdx.x < a.strips) strips[threadIdx.x] = Strip::of(first + threadIdx.x, g);
    __syncthreads();
    for (int item = threadIdx.x; item < a.strips * groups; item += kThreads) {
      const int n = item / groups, c = 4 * (item % groups);
      const Strip strip = strips[n];
      if (strip.rows == 0) continue;
      A sums[kRows][1][4] = {};
      add_strip<kSize, kStride, kDilation, 1>(g, &a.x, &a.kernels, a.gate, 1, {s, t, 1, strip.b, strip.h, strip.w, c}, sums);
#pragma unroll
      for (int r = 0; r < kRows; ++r) write<4>(sums[r][0], middle + (r * a.strips + n) * g.channels + c);
      if (!for_kernels) continue;
      const T* from[kRows];
#pragma unroll
      for (int r = 0; r < kRows; ++r)
        from[r] = r < strip.rows ? static_cast<const T*>(a.y) + (strip.pixel(g, edge) + r * g.out_width) * a.out : nullptr;
      A back[kRows][4] = {};
      add_transposed(from, matrix + c * a.out, a.out, back);
#pragma unroll
      for (int r = 0; r < kRows; ++r) write<4>(back[r], mixed + (r * a.strips + n) * g.channels + c);
    }
    __syncthreads();
    if (lane < repeats && pair < groups * fours)
      for (int n = lane; n < a.strips; n += repeats) {
        const Strip strip = strips[n];
        const T* y = static_cast<const T*>(a.y) + strip.pixel(g, edge) * a.out + 4 * (pair % fours);
        for (int r = 0; r < strip.rows; ++r) {
          A one[4], other[4];
          read<4>(middle + (r * a.strips + n) * g.channels + 4 * (pair / fours), one);
          read<4>(y + r * g.out_width * a.out, other);
#pragma unroll
          for (int v = 0; v < 4; ++v)
#pragma unroll
            for (int w = 0; w < 4; ++w) of_matrix[v][w] += one[v] * other[w];
        }
      }
    if (for_kernels && tap_lane < tap_repeats)
      for (int n = tap_lane; n < a.strips; n += tap_repeats) {
        const Strip strip = strips[n];
        if (strip.rows == 0) continue;
        const int c = 4 * (tap % groups);
        const long long at = (long long)(s * g.batch + strip.b) * g.height * g.width * g.channels + c;
        add_taps<kSize, kStride, kDilation>(g, static_cast<const T*>(a.x) + at, Gate(a.gate, a.x, at), strip, tap / groups,
                                            mixed + n * g.channels + c, a.strips * g.channels, of_kernel);
      }
  }

  // Over the lanes. A row of taps at a time.
  const int edges = g.sources * g.targets, kernel = kSize * kSize * g.channels;
  A* partials = static_cast<A*>(a.partials) + (long long)blockIdx.x * edges * (kernel + g.channels * a.out);
  __syncthreads();
  if (lane < repeats)
#pragma unroll
    for (int v = 0; v < 4; ++v) write<4>(of_matrix[v], values + threadIdx.x * 16 + 4 * v);
  __syncthreads();
  for (int n = threadIdx.x; n < 16 * pairs; n += kThreads) {
    const int own = blockIdx.z * kThreads + n / 16, c = 4 * (own / fours) + n % 16 / 4, d = 4 * (own % fours) + n % 4;
    if (own >= groups * fours) continue;
    A sum = 0;
    for (int m = 0; m < repeats; ++m) sum += values[m * 16 * pairs + n];
    partials[(long long)edges * kernel + ((long long)edge * g.channels + c) * a.out + d] = sum;
  }
  if (!for_kernels) return;
#pragma unroll
  for (int i = 0; i < kSize; ++i) {
    __syncthreads();
    if (tap_lane < tap_repeats) write<4>(of_kernel[i], values + 4 * threadIdx.x);
    __syncthreads();
    for (int n = threadIdx.x; n < 4 * of_column; n += kThreads) {
      const int j = n / 4 / groups, c = n % (4 * groups);
      A sum = 0;
      for (int m = 0; m < tap_repeats; ++m) sum += values[m * 4 * of_column + n];
      partials[(long long)edge * kernel + (i * kSize + j) * g.channels + c] = sum;
    }
  }
}

}  // namespace
}  // namespace jdarts_cuda
