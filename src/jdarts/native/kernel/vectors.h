// Vectors as wide as the processor's registers.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <numeric>
#include <type_traits>
#include <utility>

#if defined(__AVX__)
#include <immintrin.h>
#endif

#include "parallel.h"

namespace jdarts {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
#else
constexpr int kVectorBytes = 16;
#endif
// Inlined, the fields of the structs stay in registers.
#define JDARTS_INLINE inline __attribute__((always_inline))
constexpr bool kManyRegisters = kVectorBytes == 64;
constexpr int kRegisters = kManyRegisters ? 32 : 16;

template <typename T>
struct Simd {
  typedef T Vector __attribute__((vector_size(kVectorBytes)));
  static constexpr Index lanes = kVectorBytes / sizeof(T);
};
template <typename T>
using Vector = typename Simd<T>::Vector;

template <typename T>
inline Vector<T> load(const T* p) {
  Vector<T> v;
  std::memcpy(&v, p, sizeof v);
  return v;
}

// Keeps GCC from loading a value again for each of its uses.
template <typename V>
inline V in_register(V v) {
#if defined(__AVX__) && !defined(__clang__)
  asm("" : "+v"(v));
#endif
  return v;
}

template <typename T>
inline void store(T* p, Vector<T> v) {
  std::memcpy(p, &v, sizeof v);
}

constexpr Index kLineBytes = 64;  // of the caches
// Results of this size are not in the last cache any more when they are read.
constexpr Index kPastCacheBytes = 1 << 24;

// Whether rows of `length` values, one after the other from an address on, are whole lines of the caches.
template <typename T>
bool fills_lines(const T* rows, Index length) {
  return reinterpret_cast<std::uintptr_t>(rows) % kLineBytes == 0 && length * sizeof(T) % kLineBytes == 0;
}

// Stores to an aligned place without reading what stands there, and past the caches where the processor can.
template <typename T>
JDARTS_INLINE void store_past(T* p, Vector<T> v) {
#if defined(__AVX512F__)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(p), reinterpret_cast<__m512i>(v));
#elif defined(__AVX__)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), reinterpret_cast<__m256i>(v));
#else
  store(p, v);
#endif
}

// After this other threads see what `store_past` has stored.
inline void stores_are_done() {
#if defined(__AVX__)
  _mm_sfence();
#endif
}

// 0 where the gate is 0 or below; a gate that is no number lets the value pass.
template <typename T>
JDARTS_INLINE Vector<T> gated(Vector<T> value, Vector<T> gate) {
  const Vector<T> zero = {};
  return gate <= zero ? zero : value;
}

// The gate of the values from a place on, where there is one.
template <typename T>
const T* gate_at(const T* gate, Index place) {
  return gate ? gate + place : nullptr;
}

template <typename From, typename T>
void copy_pixel(const From* __restrict from, Index channels, T* __restrict to) {
  for (Index c = 0; c < channels; ++c) to[c] = from[c];
}

// Copies values; with a gate, 0 where the gate is 0 or below. A gate that is no number lets the value pass.
template <typename From, typename T>
JDARTS_INLINE void copy_values(const From* from, const From* gate, Index count, T* __restrict to) {
  if (!gate) return copy_pixel(from, count, to);
  for (Index c = 0; c < count; ++c) to[c] = gate[c] <= From(0) ? From(0) : from[c];
}

// Stores the first `count` values of a vector.
template <typename T>
JDARTS_INLINE void store_some(T* to, Vector<T> v, Index count) {
  if (count >= Simd<T>::lanes) return store(to, v);
  T values[Simd<T>::lanes];
  store(values, v);
  std::copy_n(values, count, to);
}

// Calls run(number) for every number of a list known when it is compiled.
template <typename Run, int... kNumber>
JDARTS_INLINE void for_numbers(const Run& run, std::integer_sequence<int, kNumber...>) {
  (run(std::integral_constant<int, kNumber>()), ...);
}

// Value k of every group of kGroup lanes, in all lanes of its group.
template <typename T, int kGroup, int k, std::size_t... kLane>
JDARTS_INLINE Vector<T> spread(Vector<T> v, std::index_sequence<kLane...>) {
#if defined(__clang__)
  return __builtin_shufflevector(v, v, (int(kLane) / kGroup * kGroup + k)...);
#else
  return __builtin_shuffle(v, decltype(v <= v){(int(kLane) / kGroup * kGroup + k)...});
#endif
}

// Vectors that start at values `first`, `first + step`, … of pixels × channels begin at one channel. There are
// `count` such classes; class a starts at value a * lanes.
template <typename T>
struct Phases {
  explicit Phases(Index channels)
      : count(channels / std::gcd(channels, Simd<T>::lanes)), step(count * Simd<T>::lanes) {}
  Index count, step;
};

}  // namespace jdarts
