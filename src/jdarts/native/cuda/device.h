// What the device functions need of their compiler: NVRTC for a GPU, or a C++ compiler that runs the threads in turn
// (emulation.h), for tests.
#pragma once

#ifdef JDARTS_EMULATED
#include "emulation.h"
#else
#define JDARTS_KERNEL(name, Arguments) extern "C" __global__ void __launch_bounds__(256, 2) name(const Arguments a)
typedef unsigned char uint8_t;
typedef int int32_t;
typedef long long int64_t;
#endif

namespace jdarts_cuda {
namespace {

// The upper half of a float, rounded to the nearest, ties to even.
struct bfloat16 {
  unsigned short bits;
};

__device__ inline float widened(float x) { return x; }
__device__ inline double widened(double x) { return x; }
__device__ inline float widened(bfloat16 x) { return __uint_as_float(unsigned(x.bits) << 16); }

template <typename T>
struct Narrowed {
  template <typename A>
  __device__ static T of(A x) {
    return T(x);
  }
};
template <>
struct Narrowed<bfloat16> {
  __device__ static bfloat16 of(float x) {
    const unsigned bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<unsigned short>((bits >> 16) | 0x40u)};
    return {static_cast<unsigned short>((bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16)};
  }
};

template <typename T>
struct WideOf {
  typedef float type;
};
template <>
struct WideOf<double> {
  typedef double type;
};

// The type of maps, and that of sums and weights.
typedef JDARTS_TYPE T;
typedef WideOf<T>::type A;

// V neighbouring values. Four are read and written as one.
template <typename N, int V>
struct alignas(V == 1 ? alignof(N) : (V * sizeof(N) < 16 ? V * sizeof(N) : 16)) Several {
  N values[V];
};

template <int V, typename N>
__device__ inline void read(const N* from, A* to) {
  const Several<N, V> found = *reinterpret_cast<const Several<N, V>*>(from);
#pragma unroll
  for (int v = 0; v < V; ++v) to[v] = widened(found.values[v]);
}

template <int V, typename N>
__device__ inline void write(const A* from, N* to) {
  Several<N, V> stored;
#pragma unroll
  for (int v = 0; v < V; ++v) stored.values[v] = Narrowed<N>::of(from[v]);
  *reinterpret_cast<Several<N, V>*>(to) = stored;
}

// A gate of the shape of a map x, or none: x counts as 0 where the gate is 0 or below; a NaN is open. A map that is its own gate
// is read once.
struct Gate {
  const T* data;
  bool own;
  __device__ Gate(const void* gate, const void* map, long long at)
      : data(gate && gate != map ? static_cast<const T*>(gate) + at : nullptr), own(gate && gate == map) {}

  // Closes V values of x, read `at` values after the gate's first.
  template <int V>
  __device__ void close(int at, A* values) const {
    if (own) {
#pragma unroll
      for (int v = 0; v < V; ++v)
        if (values[v] <= A(0)) values[v] = A(0);
    } else if (data) {
      A gate[V];
      read<V>(data + at, gate);
#pragma unroll
      for (int v = 0; v < V; ++v)
        if (gate[v] <= A(0)) values[v] = A(0);
    }
  }
};

// The number of this thread among all of its row of blocks.
__device__ inline unsigned thread_number() { return blockIdx.x * blockDim.x + threadIdx.x; }

// Takes the remainder by `size` off a number.
__device__ inline unsigned split_off(unsigned& number, unsigned size) {
  const unsigned rest = number % size;
  number /= size;
  return rest;
}

}  // namespace
}  // namespace jdarts_cuda
