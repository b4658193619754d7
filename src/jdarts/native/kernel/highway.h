// Sums of highway updates with mixed activations, and their first and second derivatives:
//
//   out = Σ_p [ Q s + σ(c) (M(g) − Q s) ],   M = q0 tanh + q1 relu + q2 sigmoid + q3 identity,   Q = q0 + q1 + q2 + q3.
//
// Every array is read and written once. Sums over elements are taken in blocks of a fixed size and joined in a fixed order,
// so results do not depend on the number of threads.
#pragma once

#include <algorithm>
#include <cstdint>

#include "vectors.h"

namespace jdarts {

constexpr int kActivations = 4;
constexpr Index kHighwayBlock = 2048;

template <typename T>
struct ExpTraits;
template <>
struct ExpTraits<float> {
  typedef std::int32_t Bit;
  typedef Bit Bits __attribute__((vector_size(kVectorBytes)));
  static constexpr float magic = 12582912.0f, lowest = -87.0f, high = 0.693359375f, low = -2.12194440e-4f;
  static constexpr int mantissa = 23, bias = 127, terms = 7;
};
template <>
struct ExpTraits<double> {
  typedef std::int64_t Bit;
  typedef Bit Bits __attribute__((vector_size(kVectorBytes)));
  static constexpr double magic = 6755399441055744.0, lowest = -708.0, high = 0.693145751953125,
                          low = 1.42860682030941723212e-6;
  static constexpr int mantissa = 52, bias = 1023, terms = 13;
};

// exp(x) for x ≤ 0: a power of two times a Taylor polynomial within half a factor of two. NaN stays NaN; −∞ gives next to 0.
template <typename T>
JDARTS_INLINE Vector<T> exp_below(Vector<T> x) {
  using Traits = ExpTraits<T>;
  using Bits = typename Traits::Bits;
  const Vector<T> lowest = Vector<T>{} + Traits::lowest;
  x = x < lowest ? lowest : x;
  const Vector<T> shifted = x * T(1.44269504088896340736) + Traits::magic;
  const Vector<T> power = shifted - Traits::magic;
  const Vector<T> rest = (x - power * Traits::high) - power * Traits::low;
  Vector<T> sum = Vector<T>{} + T(1);
#pragma GCC unroll 16
  for (int n = Traits::terms; n > 0; --n) sum = sum * rest * (T(1) / T(n)) + T(1);
  Bits bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  bits = (bits << Traits::mantissa) + (static_cast<typename Traits::Bit>(Traits::bias) << Traits::mantissa);
  Vector<T> scale;
  std::memcpy(&scale, &bits, sizeof scale);
  return sum * scale;
}

template <typename T>
JDARTS_INLINE Vector<T> magnitude(Vector<T> x) {
  return x < T(0) ? -x : x;
}

template <typename T>
JDARTS_INLINE Vector<T> logistic(Vector<T> x) {
  const Vector<T> u = exp_below<T>(-magnitude<T>(x)), share = T(1) / (T(1) + u);
  return x < T(0) ? u * share : share;
}

// The activations of a candidate, in order.
template <typename T>
struct Functions {
  Vector<T> value[kActivations];

  JDARTS_INLINE explicit Functions(Vector<T> x) {
    const Vector<T> u = exp_below<T>(-magnitude<T>(x)), share = T(1) / (T(1) + u);
    const Vector<T> tanh = (T(1) - u * u) / (T(1) + u * u);
    value[0] = x < T(0) ? -tanh : tanh;
    value[1] = x < T(0) ? Vector<T>{} : x;
    value[2] = x < T(0) ? u * share : share;
    value[3] = x;
  }
  JDARTS_INLINE Vector<T> slope(int f) const {
    const Vector<T> zero = {};
    if (f == 0) return T(1) - value[0] * value[0];
    if (f == 1) return value[3] > T(0) ? zero + T(1) : zero;
    if (f == 2) return value[2] * (T(1) - value[2]);
    return zero + T(1);
  }
  JDARTS_INLINE Vector<T> mixed(const T* q) const {
    return q[0] * value[0] + q[1] * value[1] + q[2] * value[2] + q[3] * value[3];
  }
  JDARTS_INLINE Vector<T> mixed_slope(const T* q) const {
    return q[0] * slope(0) + q[1] * slope(1) + q[2] * slope(2) + q[3];
  }
  JDARTS_INLINE Vector<T> mixed_curvature(const T* q) const {
    return q[0] * (T(-2) * value[0] * slope(0)) + q[2] * (slope(2) * (T(1) - T(2) * value[2]));
  }
};

template <typename T>
JDARTS_INLINE T total(const T* q) {
  return (q[0] + q[1]) + (q[2] + q[3]);
}

// A part of a vector, for the end of an array.
template <typename T>
JDARTS_INLINE Vector<T> load_first(const T* p, Index count) {
  if (count >= Simd<T>::lanes) return load(p);
  Vector<T> v = {};
  std::memcpy(&v, p, count * sizeof(T));
  return v;
}
template <typename T>
JDARTS_INLINE void store_first(T* p, Vector<T> v, Index count) {
  std::memcpy(p, &v, std::min<Index>(count, Simd<T>::lanes) * sizeof(T));
}

template <typename T>
JDARTS_INLINE T sum_of(Vector<T> v) {
  T values[Simd<T>::lanes];
  store(values, v);
#pragma GCC unroll 4
  for (Index half = Simd<T>::lanes / 2; half > 0; half /= 2)
#pragma GCC unroll 8
    for (Index l = 0; l < half; ++l) values[l] += values[l + half];
  return values[0];
}

// Calls work(block, begin, end) for all blocks of `length` elements.
template <typename Pool, typename Work>
void over_blocks(Index length, Pool& pool, const Work& work) {
  const Index blocks = (length + kHighwayBlock - 1) / kHighwayBlock;
  parallel_for(pool, blocks, blocks, [&](Index block) {
    work(block, block * kHighwayBlock, std::min(length, (block + 1) * kHighwayBlock));
  });
}

// Joins the blocks' sums [blocks, P, 1 + F]: the first is part of each activation's.
template <typename T>
void join_sums(const T* sums, Index blocks, Index predecessors, T* weights) {
  constexpr int columns = 1 + kActivations;
  for (Index p = 0; p < predecessors; ++p)
    for (int f = 0; f < kActivations; ++f) {
      double sum = 0;
      for (Index block = 0; block < blocks; ++block) {
        const T* row = sums + (block * predecessors + p) * columns;
        sum += double(row[0]) + double(row[1 + f]);
      }
      weights[p * kActivations + f] = T(sum);
    }
}

// weights [P, F], states, gates, candidates [P, length], out [length].
template <typename T, typename Pool>
void mixed_highway(Index predecessors, Index length, const T* weights, const T* states, const T* gates,
                   const T* candidates, T* out, Pool& pool) {
  over_blocks(length, pool, [&](Index, Index begin, Index end) {
    for (Index e = begin; e < end; e += Simd<T>::lanes) {
      const Index count = end - e;
      Vector<T> sum = {};
      for (Index p = 0; p < predecessors; ++p) {
        const T* q = weights + p * kActivations;
        const Index at = p * length + e;
        const Vector<T> kept = total(q) * load_first(states + at, count);
        const Functions<T> f(load_first(candidates + at, count));
        sum += kept + logistic<T>(load_first(gates + at, count)) * (f.mixed(q) - kept);
      }
      store_first(out + e, sum, count);
    }
  });
}

// From the cotangent d of `out`, those of all arguments.
template <typename T, typename Pool>
void mixed_highway_backward(Index predecessors, Index length, const T* weights, const T* states, const T* gates,
                            const T* candidates, const T* d, T* of_weights, T* of_states, T* of_gates,
                            T* of_candidates, Pool& pool) {
  struct Sums {};
  constexpr int columns = 1 + kActivations;
  const Index blocks = (length + kHighwayBlock - 1) / kHighwayBlock;
  T* sums = thread_buffer<T, Sums>(blocks * predecessors * columns);
  over_blocks(length, pool, [&](Index block, Index begin, Index end) {
    for (Index p = 0; p < predecessors; ++p) {
      const T* q = weights + p * kActivations;
      const T all = total(q);
      Vector<T> sum[columns] = {};
      for (Index e = begin; e < end; e += Simd<T>::lanes) {
        const Index count = end - e, at = p * length + e;
        const Vector<T> change = load_first(d + e, count), s = load_first(states + at, count);
        const Vector<T> gate = logistic<T>(load_first(gates + at, count)), open = T(1) - gate;
        const Functions<T> f(load_first(candidates + at, count));
        const Vector<T> through = change * gate, around = change * open;
        store_first(of_states + at, all * around, count);
        store_first(of_gates + at, through * open * (f.mixed(q) - all * s), count);
        store_first(of_candidates + at, through * f.mixed_slope(q), count);
        sum[0] += around * s;
        for (int k = 0; k < kActivations; ++k) sum[1 + k] += through * f.value[k];
      }
      for (int k = 0; k < columns; ++k) sums[(block * predecessors + p) * columns + k] = sum_of<T>(sum[k]);
    }
  });
  join_sums(sums, blocks, predecessors, of_weights);
}

// From cotangents of the results of `mixed_highway_backward`, those of its arguments; `d` is its cotangent argument, `t_…` are
// the cotangents of its results, `of_…` the results here.
template <typename T, typename Pool>
void mixed_highway_second(Index predecessors, Index length, const T* weights, const T* states, const T* gates,
                          const T* candidates, const T* d, const T* t_weights, const T* t_states, const T* t_gates,
                          const T* t_candidates, T* of_weights, T* of_states, T* of_gates, T* of_candidates, T* of_d,
                          Pool& pool) {
  struct Sums {};
  constexpr int columns = 1 + kActivations;
  const Index blocks = (length + kHighwayBlock - 1) / kHighwayBlock;
  T* sums = thread_buffer<T, Sums>(blocks * predecessors * columns);
  over_blocks(length, pool, [&](Index block, Index begin, Index end) {
    std::fill(of_d + begin, of_d + end, T(0));
    for (Index p = 0; p < predecessors; ++p) {
      const T *q = weights + p * kActivations, *tq = t_weights + p * kActivations;
      const T all = total(q), t_all = total(tq);
      Vector<T> sum[columns] = {};
      for (Index e = begin; e < end; e += Simd<T>::lanes) {
        const Index count = end - e, at = p * length + e;
        const Vector<T> change = load_first(d + e, count), s = load_first(states + at, count);
        const Vector<T> ts = load_first(t_states + at, count), tc = load_first(t_gates + at, count);
        const Vector<T> tg = load_first(t_candidates + at, count);
        const Vector<T> gate = logistic<T>(load_first(gates + at, count)), open = T(1) - gate, both = gate * open;
        const Functions<T> f(load_first(candidates + at, count));
        const Vector<T> apart = f.mixed(q) - all * s, slope = f.mixed_slope(q);
        const Vector<T> direction = f.mixed(tq), kept = all * ts + t_all * s;
        store_first(of_d + e,
                   load_first(of_d + e, count) + open * kept + tc * both * apart + gate * (tg * slope + direction), count);
        store_first(of_states + at, change * open * (t_all - all * tc * gate), count);
        store_first(of_gates + at,
                   change * both * (tc * apart * (T(1) - T(2) * gate) + tg * slope + direction - kept), count);
        store_first(of_candidates + at,
                   change * gate * (tc * open * slope + tg * f.mixed_curvature(q) + f.mixed_slope(tq)), count);
        const Vector<T> through = change * gate, turned = through * open * tc, moved = through * tg;
        sum[0] += change * open * ts - turned * s;
        for (int k = 0; k < kActivations; ++k) sum[1 + k] += turned * f.value[k] + moved * f.slope(k);
      }
      for (int k = 0; k < columns; ++k) sums[(block * predecessors + p) * columns + k] = sum_of<T>(sum[k]);
    }
  });
  join_sums(sums, blocks, predecessors, of_weights);
}

}  // namespace jdarts
