// Sums along routes: out[q][j] = Σ weights[r] · x[k][i] over the routes r = (k, i, q, j), with one weight per channel.
//
// A row of a stack is read as one flat array of pixels × channels. Work is cut into blocks of that array: while a block of
// the rows that several routes read is in the cache, every route is served. Results too large for any cache bypass the caches.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "routes.h"

namespace jdarts {

// The term of one route: x times a weight per channel.
template <typename T>
struct Term {
  const T* x;
  const T* weights;
};

// One row of a result: its constant per channel and its range of terms.
template <typename T>
struct Sum {
  T* data;
  T* constant;
  Index begin, end;
};

// How a sum is stored: written, written past the caches, or added to the values there.
enum class Write { kOver, kPast, kOnto };

// out = constant + Σ of kTerms terms, or out += Σ, over whole vectors. With kOnePhase every vector begins at the same
// channel, so that the weights stay in registers.
template <typename T, Write kWrite, bool kOnePhase, int kTerms>
void add_terms(const Term<T>* terms, const T* constant, T* out, Index offset, Index length, Index channels) {
  constexpr Index lanes = Simd<T>::lanes;
  const T* x[kTerms + 1];
  const T* w[kTerms + 1];
  for (int n = 0; n < kTerms; ++n) x[n] = terms[n].x + offset, w[n] = terms[n].weights;
  out += offset;
  const Index advance = lanes % channels;
  Vector<T> weight[kTerms + 1];
  if constexpr (kOnePhase)
    for (int n = 0; n < kTerms; ++n) weight[n] = load(w[n]);
  for (Index q = 0, phase = 0; q < length; q += lanes) {
    Vector<T> sum = kWrite == Write::kOnto ? load(out + q) : load(constant + phase);
#pragma GCC unroll 8
    for (int n = 0; n < kTerms; ++n) sum += load(x[n] + q) * (kOnePhase ? weight[n] : load(w[n] + phase));
    if constexpr (kWrite == Write::kPast)
      store_past(out + q, sum);
    else
      store(out + q, sum);
    if constexpr (!kOnePhase) {
      phase += advance;
      if (phase >= channels) phase -= channels;
    }
  }
}

// The same for min(count, kTerms) terms; returns how many.
template <typename T, Write kWrite, bool kOnePhase, int kTerms>
Index add_some(const Term<T>* terms, Index count, const T* constant, T* out, Index offset, Index length,
               Index channels) {
  if constexpr (kTerms > 0)
    if (count < kTerms)
      return add_some<T, kWrite, kOnePhase, kTerms - 1>(terms, count, constant, out, offset, length, channels);
  add_terms<T, kWrite, kOnePhase, kTerms>(terms, constant, out, offset, length, channels);
  return kTerms;
}

// One block of one row of a result.
template <typename T, bool kOnePhase>
void add_up(const Sum<T>& sum, const Term<T>* terms, Index offset, Index length, Index channels, bool past) {
  constexpr int kMost = kManyRegisters ? 8 : 4;
  Index n = sum.begin;
  const bool written_once = sum.end - n <= kMost;
  const bool aligned = reinterpret_cast<uintptr_t>(sum.data + offset) % kVectorBytes == 0;
  const auto first = past && written_once && aligned ? add_some<T, Write::kPast, kOnePhase, kMost>
                                                     : add_some<T, Write::kOver, kOnePhase, kMost>;
  n += first(terms + n, sum.end - n, sum.constant, sum.data, offset, length, channels);
  while (n < sum.end)
    n += add_some<T, Write::kOnto, kOnePhase, kMost>(terms + n, sum.end - n, sum.constant, sum.data, offset, length,
                                                     channels);
}

template <typename T>
void add_up_pixels(const Sum<T>& sum, const Term<T>* terms, Index begin, Index end, Index channels) {
  for (Index p = begin; p < end; p += channels) {
    std::copy_n(sum.constant, channels, sum.data + p);
    for (Index n = sum.begin; n < sum.end; ++n)
      for (Index c = 0; c < channels; ++c) sum.data[p + c] += terms[n].x[p + c] * terms[n].weights[c];
  }
}

// weights [R, C]; the rows of all stacks have `length` values. Results of `past_bytes` together pass by the caches.
template <typename T, typename Pool>
void combine(const Route* routes, Index count, const T* weights, const Stacks<const T>& xs, const Stacks<T>& outs,
             Index length, Index channels, Pool& pool, Index past_bytes = kPastCacheBytes) {
  if (length == 0) return;
  struct Weights {};
  const Steps<T> steps(length, channels);
  const Index sums = outs.total(), period = channels + Simd<T>::lanes;
  T* periodic = thread_buffer<T, Weights>((count + sums) * period);
  std::vector<Sum<T>> table;
  std::vector<Term<T>> terms(count);
  for (Index q = 0; q < outs.count(); ++q)
    for (Index j = 0; j < outs.size(q); ++j, periodic += period) {
      std::fill_n(periodic, period, T(0));
      table.push_back({outs.row(q, j, length), periodic, 0, 0});
    }
  auto sum_of = [&](Index r) -> Sum<T>& { return table[outs.place(routes[r].to_stack, routes[r].to_row)]; };
  for (Index r = 0; r < count; ++r) sum_of(r).end += routes[r].from_stack != kOnes;
  for (Index s = 0, n = 0; s < sums; ++s) table[s].begin = n, n += table[s].end, table[s].end = table[s].begin;
  for (Index r = 0; r < count; ++r, periodic += period) {
    const T* weight = weights + r * channels;
    Sum<T>& sum = sum_of(r);
    if (routes[r].from_stack == kOnes) {
      for (Index c = 0; c < period; ++c) sum.constant[c] += weight[c % channels];
    } else {
      for (Index c = 0; c < period; ++c) periodic[c] = weight[c % channels];
      terms[sum.end++] = {xs.row(routes[r].from_stack, routes[r].from_row, length), periodic};
    }
  }

  std::vector<Index> uses(xs.total());
  for (Index r = 0; r < count; ++r)
    if (routes[r].from_stack != kOnes) ++uses[xs.place(routes[r].from_stack, routes[r].from_row)];
  const Index reused = std::count_if(uses.begin(), uses.end(), [](Index n) { return n > 1; });
  const Index bytes = length * Index(sizeof(T)), threads = useful_threads((xs.total() + sums) * bytes);
  // Every thread has two blocks or more.
  const Index share = bytes / (2 * std::clamp<Index>(pool.num_threads(), 1, threads));
  const Index block = steps.per_block(std::min(block_bytes(reused), std::max<Index>(share, 1024)));
  const bool past = sums * bytes >= past_bytes;
  const bool one_phase = Simd<T>::lanes % channels == 0;
  const Index blocks = (steps.count + block - 1) / block, tail = steps.count * steps.length;
  parallel_for(pool, threads, std::max<Index>(blocks, 1), [&](Index unit) {
    const Index begin = unit * block, end = std::min(begin + block, steps.count);
    for (const Sum<T>& sum : table) {
      const Index offset = begin * steps.length, values = (end - begin) * steps.length;
      if (one_phase)
        add_up<T, true>(sum, terms.data(), offset, values, channels, past);
      else
        add_up<T, false>(sum, terms.data(), offset, values, channels, past);
      if (end == steps.count) add_up_pixels(sum, terms.data(), tail, length, channels);
    }
    if (past) stores_are_done();
  });
}

}  // namespace jdarts
