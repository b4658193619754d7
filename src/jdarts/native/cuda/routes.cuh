// Sums along routes, products along routes, and moments.
#pragma once

#include "arguments.h"
#include "depthwise.cuh"
#include "device.h"

namespace jdarts_cuda {
namespace {

__device__ inline const T* row_of(const Stacks& stacks, int stack, int row, long long length) {
  return static_cast<const T*>(stacks.data[stack]) + row * length;
}

// A row of blocks computes a row of a result.
template <int V>
__device__ inline void combined(const CombineArguments& a) {
  const A* weights = static_cast<const A*>(a.weights);
  const int* sum = a.table + 4 * blockIdx.y;
  const int* terms = a.table + 4 * a.rows;
  const int begin = sum[2], end = sum[3];
  T* out = static_cast<T*>(const_cast<void*>(a.outs.data[sum[0]])) + sum[1] * a.length;
  for (long long at = (long long)thread_number() * V; at < a.length; at += (long long)gridDim.x * kThreads * V) {
    const int c = at % a.channels;
    A total[V] = {};
    for (int n = begin; n < end; ++n) {
      const int stack = terms[3 * n];
      A weight[V];
      read<V>(weights + terms[3 * n + 2] * a.channels + c, weight);
      if (stack < 0) {
#pragma unroll
        for (int v = 0; v < V; ++v) total[v] += weight[v];
      } else {
        A x[V];
        read<V>(row_of(a.xs, stack, terms[3 * n + 1], a.length) + at, x);
#pragma unroll
        for (int v = 0; v < V; ++v) total[v] += weight[v] * x[v];
      }
    }
    write<V>(total, out + at);
  }
}

// A block has V·lanes channels side by side and a chunk of the pixels.
template <int V>
struct Chunk {
  Lane place;
  int c;
  long long first, end;
  __device__ Chunk(int channels, int chunks, long long pixels) : place(channels / V), c(V * place.c) {
    first = pixels * blockIdx.x / chunks;
    end = pixels * (blockIdx.x + 1) / chunks;
  }
};

template <int V>
__device__ inline void products(const ProductsArguments& a) {
  __shared__ A shared[kThreads];
  const Chunk<V> chunk(a.channels, a.chunks, a.pixels);
  const int* route = a.table + 4 * blockIdx.y;
  const long long length = a.pixels * a.channels;
  A sum[V] = {};
  if (chunk.place.used) {
    const T* y = row_of(a.ys, route[2], route[3], length) + chunk.c;
    const T* x = route[0] < 0 ? nullptr : row_of(a.xs, route[0], route[1], length) + chunk.c;
    for (long long p = chunk.first + chunk.place.lane; p < chunk.end; p += chunk.place.repeats) {
      A one[V], other[V];
      read<V>(y + p * a.channels, one);
      if (x) read<V>(x + p * a.channels, other);
#pragma unroll
      for (int v = 0; v < V; ++v) sum[v] += x ? one[v] * other[v] : one[v];
    }
  }
#pragma unroll
  for (int v = 0; v < V; ++v) {
    const A all = sum_of_lanes(sum[v], chunk.place, shared);
    if (chunk.place.used && chunk.place.lane == 0)
      static_cast<A*>(a.partials)[((long long)blockIdx.x * a.routes + blockIdx.y) * a.channels + chunk.c + v] = all;
  }
}

// Deviations from the chunk's first pixel, so that nothing cancels where the mean is much larger than the deviation.
template <int V>
__device__ inline void moments(const MomentsArguments& a) {
  __shared__ A shared[kThreads];
  const Chunk<V> chunk(a.channels, a.chunks, a.pixels);
  const int* row = a.table + 2 * blockIdx.y;
  A pivot[V] = {}, sum[V] = {}, squares[V] = {};
  if (chunk.place.used && chunk.first < chunk.end) {
    const T* x = row_of(a.xs, row[0], row[1], a.pixels * a.channels) + chunk.c;
    read<V>(x + chunk.first * a.channels, pivot);
    for (long long p = chunk.first + chunk.place.lane; p < chunk.end; p += chunk.place.repeats) {
      A value[V];
      read<V>(x + p * a.channels, value);
#pragma unroll
      for (int v = 0; v < V; ++v) {
        const A apart = value[v] - pivot[v];
        sum[v] += apart;
        squares[v] += apart * apart;
      }
    }
  }
  const A count = chunk.end - chunk.first;
#pragma unroll
  for (int v = 0; v < V; ++v) {
    const A total = sum_of_lanes(sum[v], chunk.place, shared), square = sum_of_lanes(squares[v], chunk.place, shared);
    if (chunk.place.used && chunk.place.lane == 0) {
      A* partial = static_cast<A*>(a.partials) + 2 * (((long long)blockIdx.x * a.rows + blockIdx.y) * a.channels + chunk.c + v);
      partial[0] = count > 0 ? pivot[v] + total / count : A(0);
      partial[1] = count > 0 ? square - total * (total / count) : A(0);
    }
  }
}

// A block adds up the chunks of 32 numbers: eight threads a number, each every eighth chunk.
struct Share {
  int n, lane;
  __device__ Share() : n(blockIdx.x * 32 + threadIdx.x % 32), lane(threadIdx.x / 32) {}
};
constexpr int kShares = kThreads / 32;

// The sum over the shares of a number, for each of its threads.
__device__ inline double sum_of_shares(double value, double* shared) {
  shared[threadIdx.x] = value;
  __syncthreads();
  double sum = 0;
  for (int n = 0; n < kShares; ++n) sum += shared[threadIdx.x % 32 + 32 * n];
  __syncthreads();
  return sum;
}

// Mean and variance from those of the chunks.
__device__ inline void joined_moments(const MomentsArguments& a) {
  __shared__ double shared[kThreads];
  const Share share;
  const int length = a.rows * a.channels;
  const A* partials = static_cast<const A*>(a.partials);
  const auto own = [&](int k) { return double(a.pixels * (k + 1) / a.chunks - a.pixels * k / a.chunks); };
  double sum = 0, squares = 0;
  if (share.n < length)
    for (int k = share.lane; k < a.chunks; k += kShares) sum += own(k) * double(partials[2 * ((long long)k * length + share.n)]);
  const double mean = sum_of_shares(sum, shared) / double(a.pixels);
  if (share.n < length)
    for (int k = share.lane; k < a.chunks; k += kShares) {
      const A* partial = partials + 2 * ((long long)k * length + share.n);
      const double apart = double(partial[0]) - mean;
      squares += double(partial[1]) + own(k) * apart * apart;
    }
  squares = sum_of_shares(squares, shared);
  if (share.n >= length || share.lane) return;
  const A variance = A((squares < 0 ? 0 : squares) / double(a.pixels));
  static_cast<A*>(a.mean)[share.n] = A(mean);
  static_cast<A*>(a.variance)[share.n] = variance;
  if (!a.running.mean) return;
  const A part = A(a.running.momentum), kept = A(1 - a.running.momentum);
  const A unbiased = variance * A(double(a.pixels) / double(a.pixels > 1 ? a.pixels - 1 : 1));
  const auto moved = [&](const void* before, A batch) { return kept * static_cast<const A*>(before)[share.n] + part * batch; };
  static_cast<A*>(a.running.moved_mean)[share.n] = moved(a.running.mean, A(mean));
  static_cast<A*>(a.running.moved_variance)[share.n] = moved(a.running.variance, unbiased);
}

__device__ inline void summed(const SumArguments& a) {
  __shared__ double shared[kThreads];
  const Share share;
  double sum = 0;
  if (share.n < a.length)
    for (int k = share.lane; k < a.chunks; k += kShares)
      sum += double(static_cast<const A*>(a.partials)[(long long)k * a.length + share.n]);
  sum = sum_of_shares(sum, shared);
  if (share.n >= a.length || share.lane) return;
  void* out = share.n < a.first ? a.out : a.rest;
  const int n = share.n < a.first ? share.n : share.n - a.first;
  if (a.narrow)
    static_cast<T*>(out)[n] = Narrowed<T>::of(A(sum));
  else
    static_cast<A*>(out)[n] = A(sum);
}

}  // namespace
}  // namespace jdarts_cuda

JDARTS_KERNEL(combine_4, jdarts_cuda::CombineArguments) { jdarts_cuda::combined<4>(a); }
JDARTS_KERNEL(combine_1, jdarts_cuda::CombineArguments) { jdarts_cuda::combined<1>(a); }
JDARTS_KERNEL(products_4, jdarts_cuda::ProductsArguments) { jdarts_cuda::products<4>(a); }
JDARTS_KERNEL(products_1, jdarts_cuda::ProductsArguments) { jdarts_cuda::products<1>(a); }
JDARTS_KERNEL(moments_4, jdarts_cuda::MomentsArguments) { jdarts_cuda::moments<4>(a); }
JDARTS_KERNEL(moments_1, jdarts_cuda::MomentsArguments) { jdarts_cuda::moments<1>(a); }
JDARTS_KERNEL(join_moments, jdarts_cuda::MomentsArguments) { jdarts_cuda::joined_moments(a); }
JDARTS_KERNEL(sum_partials, jdarts_cuda::SumArguments) { jdarts_cuda::summed(a); }
