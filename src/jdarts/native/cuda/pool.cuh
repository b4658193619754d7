// Maxima over 3×3 windows with their places, and the two linear functions that use the places. Means over such windows, and their
// transpose.
#pragma once

#include "arguments.h"
#include "device.h"

namespace jdarts_cuda {
namespace {

struct Pixel {
  int c, w, h, image;
};

// The pixel of a thread, and its first of V channels.
template <int V>
__device__ inline Pixel pixel(int width, int height, int channels) {
  unsigned number = thread_number();
  const int c = V * split_off(number, channels / V), w = split_off(number, width), h = split_off(number, height);
  return {c, w, h, int(number)};
}

// Among equals the first place in row order wins, and a NaN wins over all before it.
template <int V>
__device__ inline void max_pool(const PoolArguments& a) {
  const auto [c, w, h, image] = pixel<V>(a.out_width, a.out_height, a.channels);
  if (image >= a.images) return;
  const T* x = static_cast<const T*>(a.from) + (long long)image * a.height * a.width * a.channels + c;
  A best[V];
  int places[V];
  bool first = true;
  for (int i = 0; i < 3; ++i)
    for (int j = 0; j < 3; ++j) {
      const int row = h * a.stride + i - 1, column = w * a.stride + j - 1;
      if (row < 0 || row >= a.height || column < 0 || column >= a.width) continue;
      A value[V];
      read<V>(x + (row * a.width + column) * a.channels, value);
#pragma unroll
      for (int v = 0; v < V; ++v)
        if (first || value[v] > best[v] || value[v] != value[v]) best[v] = value[v], places[v] = 3 * i + j;
      first = false;
    }
  const long long at = (((long long)image * a.out_height + h) * a.out_width + w) * a.channels + c;
  write<V>(best, static_cast<T*>(a.to) + at);
  for (int v = 0; v < V; ++v) a.new_places[at + v] = places[v];
}

template <int V>
__device__ inline void pool_gather(const PoolArguments& a) {
  const auto [c, w, h, image] = pixel<V>(a.out_width, a.out_height, a.channels);
  if (image >= a.images) return;
  const T* x = static_cast<const T*>(a.from) + (long long)image * a.height * a.width * a.channels + c;
  const long long at = (((long long)image * a.out_height + h) * a.out_width + w) * a.channels + c;
  A values[V];
#pragma unroll
  for (int v = 0; v < V; ++v) {
    const int place = a.places[at + v], row = h * a.stride + place / 3 - 1, column = w * a.stride + place % 3 - 1;
    const bool inside = place < 9 && row >= 0 && row < a.height && column >= 0 && column < a.width;
    values[v] = inside ? widened(x[(row * a.width + column) * a.channels + v]) : A(0);
  }
  write<V>(values, static_cast<T*>(a.to) + at);
}

template <int V>
__device__ inline void pool_scatter(const PoolArguments& a) {
  const auto [c, w, h, image] = pixel<V>(a.width, a.height, a.channels);
  if (image >= a.images) return;
  const long long base = (long long)image * a.out_height * a.out_width * a.channels + c;
  A sum[V] = {};
  for (int i = 0; i < 3; ++i) {
    const int down = h + 1 - i, row = down / a.stride;
    if (down < 0 || down % a.stride || row >= a.out_height) continue;
    for (int j = 0; j < 3; ++j) {
      const int across = w + 1 - j, column = across / a.stride;
      if (across < 0 || across % a.stride || column >= a.out_width) continue;
      const long long at = base + (row * a.out_width + column) * a.channels;
      A y[V];
      read<V>(static_cast<const T*>(a.from) + at, y);
#pragma unroll
      for (int v = 0; v < V; ++v)
        if (a.places[at + v] == 3 * i + j) sum[v] += y[v];
    }
  }
  write<V>(sum, static_cast<T*>(a.to) + (((long long)image * a.height + h) * a.width + w) * a.channels + c);
}

// Of the three rows or columns of a window, the first and the number of those inside the image.
struct Extent {
  int first, count;
  __device__ Extent(int n, int stride, int size) {
    const int begin = n * stride - 1;
    first = begin < 0 ? 0 : begin;
    count = (begin + 3 < size ? begin + 3 : size) - first;
  }
};

template <int V>
__device__ inline void avg_pool(const PoolArguments& a) {
  const auto [c, w, h, image] = pixel<V>(a.out_width, a.out_height, a.channels);
  if (image >= a.images) return;
  const Extent rows(h, a.stride, a.height), columns(w, a.stride, a.width);
  const T* x = static_cast<const T*>(a.from) + (long long)image * a.height * a.width * a.channels + c;
  A sum[V] = {};
  for (int i = 0; i < rows.count; ++i)
    for (int j = 0; j < columns.count; ++j) {
      A value[V];
      read<V>(x + ((rows.first + i) * a.width + columns.first + j) * a.channels, value);
#pragma unroll
      for (int v = 0; v < V; ++v) sum[v] += value[v];
    }
  const A share = A(1) / A(rows.count * columns.count);
#pragma unroll
  for (int v = 0; v < V; ++v) sum[v] *= share;
  write<V>(sum, static_cast<T*>(a.to) + (((long long)image * a.out_height + h) * a.out_width + w) * a.channels + c);
}

template <int V>
__device__ inline void avg_pool_back(const PoolArguments& a) {
  const auto [c, w, h, image] = pixel<V>(a.width, a.height, a.channels);
  if (image >= a.images) return;
  const T* y = static_cast<const T*>(a.from) + (long long)image * a.out_height * a.out_width * a.channels + c;
  A sum[V] = {};
  for (int i = 0; i < 3; ++i) {
    const int down = h + 1 - i, row = down / a.stride;
    if (down < 0 || down % a.stride || row >= a.out_height) continue;
    const int rows = Extent(row, a.stride, a.height).count;
    for (int j = 0; j < 3; ++j) {
      const int across = w + 1 - j, column = across / a.stride;
      if (across < 0 || across % a.stride || column >= a.out_width) continue;
      const A share = A(1) / A(rows * Extent(column, a.stride, a.width).count);
      A value[V];
      read<V>(y + (row * a.out_width + column) * a.channels, value);
#pragma unroll
      for (int v = 0; v < V; ++v) sum[v] += share * value[v];
    }
  }
  write<V>(sum, static_cast<T*>(a.to) + (((long long)image * a.height + h) * a.width + w) * a.channels + c);
}

}  // namespace
}  // namespace jdarts_cuda

JDARTS_KERNEL(max_pool_4, jdarts_cuda::PoolArguments) { jdarts_cuda::max_pool<4>(a); }
JDARTS_KERNEL(max_pool_1, jdarts_cuda::PoolArguments) { jdarts_cuda::max_pool<1>(a); }
JDARTS_KERNEL(pool_gather_4, jdarts_cuda::PoolArguments) { jdarts_cuda::pool_gather<4>(a); }
JDARTS_KERNEL(pool_gather_1, jdarts_cuda::PoolArguments) { jdarts_cuda::pool_gather<1>(a); }
JDARTS_KERNEL(pool_scatter_4, jdarts_cuda::PoolArguments) { jdarts_cuda::pool_scatter<4>(a); }
JDARTS_KERNEL(pool_scatter_1, jdarts_cuda::PoolArguments) { jdarts_cuda::pool_scatter<1>(a); }
JDARTS_KERNEL(avg_pool_4, jdarts_cuda::PoolArguments) { jdarts_cuda::avg_pool<4>(a); }
JDARTS_KERNEL(avg_pool_1, jdarts_cuda::PoolArguments) { jdarts_cuda::avg_pool<1>(a); }
JDARTS_KERNEL(avg_pool_back_4, jdarts_cuda::PoolArguments) { jdarts_cuda::avg_pool_back<4>(a); }
JDARTS_KERNEL(avg_pool_back_1, jdarts_cuda::PoolArguments) { jdarts_cuda::avg_pool_back<1>(a); }
