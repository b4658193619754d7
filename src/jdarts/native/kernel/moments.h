// Mean and variance of every row of stacks, per channel.
//
// Within a block, sums of the deviations from the block's first pixels and of their squares, in T; blocks and chunks are
// joined in double and in a fixed order (Chan, Golub and LeVeque's pairwise update). So nothing cancels where the mean is
// much larger than the deviation.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "routes.h"

namespace jdarts {

struct Moments {
  double count = 0, mean = 0, squares = 0;  // squares: of the deviations from the mean, summed

  void join(const Moments& other) {
    if (other.count == 0) return;
    const double all = count + other.count, apart = other.mean - mean;
    squares += other.squares + apart * apart * (count * other.count / all);
    mean += apart * (other.count / all);
    count = all;
  }
};

// Joins kClasses vectors of `steps` steps to the moments of `count` steps before them, lane by lane.
template <typename T, int kClasses>
void join_block(const T* x, Index steps, Index step, Index count, double* mean, double* squares) {
  constexpr Index lanes = Simd<T>::lanes;
  constexpr int kSums = 4, kRepeats = kSums / kClasses;  // independent sums hide the latency of the addition
  Vector<T> shift[kClasses], sum[kSums] = {}, square[kSums] = {};
  for (int k = 0; k < kClasses; ++k) shift[k] = load(x + k * lanes);
  Index s = 0;
  const T* p = x;
  for (; s + kRepeats <= steps; s += kRepeats, p += kRepeats * step)
#pragma GCC unroll 8
    for (int v = 0; v < kSums; ++v) {
      const Vector<T> apart = load(p + v % kClasses * lanes + v / kClasses * step) - shift[v % kClasses];
      sum[v] += apart;
      square[v] += apart * apart;
    }
  for (; s < steps; ++s, p += step)
#pragma GCC unroll 8
    for (int k = 0; k < kClasses; ++k) {
      const Vector<T> apart = load(p + k * lanes) - shift[k];
      sum[k] += apart;
      square[k] += apart * apart;
    }
  const double n = steps, share = n / (count + n), weight = count * share;
  for (int k = 0; k < kClasses; ++k) {
    for (int v = k + kClasses; v < kSums; v += kClasses) sum[k] += sum[v], square[k] += square[v];
    for (Index l = 0; l < lanes; ++l) {
      const double total = sum[k][l], centre = double(shift[k][l]) + total / n;
      double& m = mean[k * lanes + l];
      const double apart = centre - m;
      squares[k * lanes + l] += std::max(double(square[k][l]) - total * (total / n), 0.0) + apart * apart * weight;
      m += apart * share;
    }
  }
}

// Of one channel, in two plain passes: infinite values give the mean that they have, and NaN for the variance.
template <typename T>
Moments plain_moments(const T* x, Index length, Index channels) {
  Moments all;
  all.count = double(length / channels);
  double sum = 0;
  for (Index e = 0; e < length && !std::isnan(sum); e += channels) sum += x[e];
  all.mean = sum / all.count;
  for (Index e = 0; e < length && !std::isnan(all.squares); e += channels) {
    const double apart = x[e] - all.mean;
    all.squares += apart * apart;
  }
  return all;
}

// mean, variance [rows, C]; the rows of all stacks have `length` values.
template <typename T, typename Pool>
void moments(const Stacks<const T>& xs, T* mean, T* variance, Index length, Index channels, Pool& pool) {
  struct Chunks {};
  struct Lanes {};
  const Steps<T> steps(length, channels);
  const Index rows = xs.total(), step = steps.length, block = 128;
  if (rows == 0) return;
  const Index chunks = std::clamp<Index>(std::min((64 + rows - 1) / rows, length / channels / 512), 1, 64);
  std::vector<const T*> data;
  for (Index k = 0; k < xs.count(); ++k)
    for (Index i = 0; i < xs.size(k); ++i) data.push_back(xs.row(k, i, length));
  Moments* partials = thread_buffer<Moments, Chunks>(rows * chunks * channels);

  parallel_for(pool, useful_threads(rows * length * sizeof(T)), rows * chunks, [&](Index unit) {
    constexpr Index lanes = Simd<T>::lanes;
    const Index chunk = unit % chunks, first = chunk * steps.count / chunks, end = (chunk + 1) * steps.count / chunks;
    const T* x = data[unit / chunks];
    double* means = thread_buffer<double, Lanes>(2 * step);
    double* squares = means + step;
    std::fill_n(means, 2 * step, 0.0);
    for (Index begin = first; begin < end; begin += block) {
      const Index size = std::min(block, end - begin);
      const T* from = x + begin * step;
      Index a = 0;
      for (; a + 4 <= steps.classes; a += 4)
        join_block<T, 4>(from + a * lanes, size, step, begin - first, means + a * lanes, squares + a * lanes);
      for (; a + 2 <= steps.classes; a += 2)
        join_block<T, 2>(from + a * lanes, size, step, begin - first, means + a * lanes, squares + a * lanes);
      for (; a < steps.classes; ++a)
        join_block<T, 1>(from + a * lanes, size, step, begin - first, means + a * lanes, squares + a * lanes);
    }
    Moments* partial = partials + unit * channels;
    std::fill_n(partial, channels, Moments());
    for (Index e = 0; e < step; ++e) partial[e % channels].join({double(end - first), means[e], squares[e]});
    if (chunk + 1 == chunks)
      for (Index e = steps.count * step; e < length; ++e) partial[e % channels].join({1, double(x[e]), 0});
  });

  for (Index row = 0; row < rows; ++row)
    for (Index c = 0; c < channels; ++c) {
      Moments all;
      for (Index chunk = 0; chunk < chunks; ++chunk) all.join(partials[(row * chunks + chunk) * channels + c]);
      if (!std::isfinite(all.mean) || !std::isfinite(all.squares)) all = plain_moments(data[row] + c, length, channels);
      mean[row * channels + c] = T(all.count ? all.mean : NAN);
      variance[row * channels + c] = T(all.count ? all.squares / all.count : NAN);
    }
}

}  // namespace jdarts
