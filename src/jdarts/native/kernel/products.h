// Products along routes: out[r] = Σ_pixels x[k][i] · y[q][j], per channel.
//
// Rows are cut into a fixed number of chunks, whatever the threads, and chunks into blocks, of which the shared factors stay in
// the cache while every route is served. A block's products are summed in T, blocks and chunks in double and in order.
#pragma once

#include <algorithm>
#include <array>
#include <map>
#include <vector>

#include "routes.h"

namespace jdarts {

template <typename T>
struct Factor {
  const T* data;
  bool moves;  // whether it has pixels; a block of ones has not
  const T* at(Index offset) const { return moves ? data + offset : data; }
};

// Products of one factor with up to kGroup others, which belong to the given routes.
constexpr int kGroup = 4;
template <typename T>
struct Group {
  Factor<T> shared;
  Factor<T> others[kGroup];
  Index routes[kGroup];
  int count;
};

// Adds to sums[route] the products of one block: kClasses vectors, `lanes` apart, in each of `steps` steps.
template <typename T, int kClasses, int kCount>
void multiply(const Group<T>& group, Index offset, Index first, Index steps, Index step, double* sums) {
  constexpr Index lanes = Simd<T>::lanes;
  constexpr int kRepeats = kClasses == 1 ? 2 : 1;  // independent sums hide the latency of the addition
  const T* shared = group.shared.at(offset) + first;
  const T* others[kCount];
  for (int n = 0; n < kCount; ++n) others[n] = group.others[n].at(offset) + first;
  Vector<T> sum[kCount][kClasses * kRepeats] = {};
  Index s = 0, q = 0;
  for (; s + kRepeats <= steps; s += kRepeats, q += kRepeats * step)
#pragma GCC unroll 8
    for (int v = 0; v < kClasses * kRepeats; ++v) {
      const Index at = q + v % kClasses * lanes + v / kClasses * step;
      const Vector<T> value = in_register(load(shared + at));
#pragma GCC unroll 8
      for (int n = 0; n < kCount; ++n) sum[n][v] += value * load(others[n] + at);
    }
  for (; s < steps; ++s, q += step)
#pragma GCC unroll 8
    for (int v = 0; v < kClasses; ++v)
#pragma GCC unroll 8
      for (int n = 0; n < kCount; ++n) sum[n][v] += load(shared + q + v * lanes) * load(others[n] + q + v * lanes);
  for (int n = 0; n < kCount; ++n)
    for (int v = 0; v < kClasses * kRepeats; ++v) {
      double* to = sums + group.routes[n] * step + first + v % kClasses * lanes;
      for (Index l = 0; l < lanes; ++l) to[l] += double(sum[n][v][l]);
    }
}

template <typename T, int kClasses, int kCount = kGroup>
void multiply_group(const Group<T>& group, Index offset, Index first, Index steps, Index step, double* sums) {
  if constexpr (kCount > 1)
    if (group.count < kCount)
      return multiply_group<T, kClasses, kCount - 1>(group, offset, first, steps, step, sums);
  multiply<T, kClasses, kCount>(group, offset, first, steps, step, sums);
}

// The routes in groups that share the x, or the y, whichever has fewer different rows.
template <typename T>
std::vector<Group<T>> grouped(const Route* routes, Index count, const Stacks<const T>& xs, const Stacks<const T>& ys,
                              Index length, const T* ones) {
  std::vector<Index> x(count), y(count), order(count);
  for (Index r = 0; r < count; ++r) {
    x[r] = routes[r].from_stack == kOnes ? -1 : xs.place(routes[r].from_stack, routes[r].from_row);
    y[r] = ys.place(routes[r].to_stack, routes[r].to_row);
    order[r] = r;
  }
  auto different = [](std::vector<Index> rows) {
    std::sort(rows.begin(), rows.end());
    return std::unique(rows.begin(), rows.end()) - rows.begin();
  };
  const bool share_y = different(y) <= different(x);
  const std::vector<Index>& shared = share_y ? y : x;
  std::stable_sort(order.begin(), order.end(), [&](Index a, Index b) { return shared[a] < shared[b]; });
  std::vector<Group<T>> groups;
  for (Index n = 0; n < count; ++n) {
    const Index r = order[n];
    const Route& route = routes[r];
    const Factor<T> of_y{ys.row(route.to_stack, route.to_row, length), true};
    const Factor<T> of_x = x[r] < 0 ? Factor<T>{ones, false}
                                    : Factor<T>{xs.row(route.from_stack, route.from_row, length), true};
    if (n == 0 || shared[order[n - 1]] != shared[r] || groups.back().count == kGroup)
      groups.push_back({share_y ? of_y : of_x, {}, {}, 0});
    Group<T>& group = groups.back();
    group.others[group.count] = share_y ? of_x : of_y;
    group.routes[group.count++] = r;
  }
  return groups;
}

// out [R, C] for routes that all differ; the rows of all stacks have `length` values.
template <typename T, typename Pool>
void distinct_products(const Route* routes, Index count, const Stacks<const T>& xs, const Stacks<const T>& ys, T* out,
              Index length, Index channels, Pool& pool) {
  struct Ones {};
  struct Chunks {};
  struct Lanes {};
  const Steps<T> steps(length, channels);
  const Index rows = xs.total() + ys.total(), step = steps.length;
  // Not too long: a block is summed in T.
  const Index block = steps.per_block(std::min<Index>(block_bytes(std::min(xs.total(), ys.total())), 1 << 14));
  const Index chunks = std::clamp<Index>(length / channels / 128, 1, 32), all = count * channels;
  T* ones = thread_buffer<T, Ones>(std::max(block, Index(1)) * step);
  std::fill_n(ones, block * step, T(1));
  const std::vector<Group<T>> groups = grouped(routes, count, xs, ys, length, ones);
  double* partials = thread_buffer<double, Chunks>(chunks * all);

  parallel_for(pool, useful_threads(rows * length * sizeof(T)), chunks, [&](Index chunk) {
    double* sums = thread_buffer<double, Lanes>(count * step);
    std::fill_n(sums, count * step, 0.0);
    const Index end = (chunk + 1) * steps.count / chunks;
    for (Index begin = chunk * steps.count / chunks; begin < end; begin += block) {
      const Index size = std::min(block, end - begin);
      for (const Group<T>& group : groups) {
        Index a = 0;
        if constexpr (kManyRegisters)
          for (; a + 4 <= steps.classes; a += 4)
            multiply_group<T, 4>(group, begin * step, a * Simd<T>::lanes, size, step, sums);
        for (; a + 2 <= steps.classes; a += 2)
          multiply_group<T, 2>(group, begin * step, a * Simd<T>::lanes, size, step, sums);
        for (; a < steps.classes; ++a)
          multiply_group<T, 1>(group, begin * step, a * Simd<T>::lanes, size, step, sums);
      }
    }
    double* partial = partials + chunk * all;
    std::fill_n(partial, all, 0.0);
    for (Index r = 0; r < count; ++r)
      for (Index p = 0; p < step; p += channels)
        for (Index c = 0; c < channels; ++c) partial[r * channels + c] += sums[r * step + p + c];
    if (chunk + 1 < chunks) return;
    for (const Group<T>& group : groups)
      for (int n = 0; n < group.count; ++n)
        for (Index p = steps.count * step; p < length; p += channels) {
          const T* a = group.shared.at(p);
          const T* b = group.others[n].at(p);
          for (Index c = 0; c < channels; ++c) partial[group.routes[n] * channels + c] += double(a[c]) * double(b[c]);
        }
  });

  for (Index chunk = 1; chunk < chunks; ++chunk)
    for (Index e = 0; e < all; ++e) partials[e] += partials[chunk * all + e];
  for (Index e = 0; e < all; ++e) out[e] = T(partials[e]);
}

// out [R, C]; a route that is there several times is computed once.
template <typename T, typename Pool>
void products(const Route* routes, Index count, const Stacks<const T>& xs, const Stacks<const T>& ys, T* out,
              Index length, Index channels, Pool& pool) {
  struct Distinct {};
  std::map<std::array<int64_t, 4>, Index> places;
  std::vector<Route> distinct;
  std::vector<Index> place(count);
  for (Index r = 0; r < count; ++r) {
    const Route& route = routes[r];
    const auto found = places.try_emplace({route.from_stack, route.from_row, route.to_stack, route.to_row},
                                          Index(distinct.size()));
    if (found.second) distinct.push_back(route);
    place[r] = found.first->second;
  }
  const Index size = distinct.size();
  if (size == count) return distinct_products(routes, count, xs, ys, out, length, channels, pool);
  T* sums = thread_buffer<T, Distinct>(std::max<Index>(1, size * channels));
  distinct_products(distinct.data(), size, xs, ys, sums, length, channels, pool);
  for (Index r = 0; r < count; ++r) std::copy_n(sums + place[r] * channels, channels, out + r * channels);
}

}  // namespace jdarts
