// What the harnesses of the native functions share: a pool, arrays of exact size, comparison.
#pragma once

#include <cmath>
#include <functional>
#include <memory>
#include <new>
#include <random>
#include <thread>
#include <vector>

#include "parallel.h"

namespace {

using jdarts::Index;

// Runs two of three tasks on threads of their own, and keeps every third until the end.
class Pool {
 public:
  explicit Pool(int threads) : threads_(threads) {}
  ~Pool() {
    for (auto& late : late_) late();
    for (auto& thread : running_) thread.join();
  }
  int num_threads() const { return threads_; }
  template <typename F>
  void Schedule(F&& task) {
    if (++scheduled_ % 3 == 0)
      late_.emplace_back(task);
    else
      running_.emplace_back(task);
  }

 private:
  int threads_, scheduled_ = 0;
  std::vector<std::function<void()>> late_;
  std::vector<std::thread> running_;
};

template <typename T>
struct Array {
  // Where a line of the caches begins, as XLA's arrays do.
  struct Free {
    void operator()(T* p) const { ::operator delete[](p, std::align_val_t(64)); }
  };
  explicit Array(Index size)
      : data(static_cast<T*>(::operator new[](size * sizeof(T), std::align_val_t(64)))), size(size) {
    std::fill_n(data.get(), size, T(NAN));
  }
  std::unique_ptr<T[], Free> data;
  Index size;
};

template <typename T>
Array<T> random(Index size, std::mt19937& generator) {
  Array<T> a(size);
  std::normal_distribution<double> normal;
  for (Index i = 0; i < size; ++i) a.data[i] = T(normal(generator));
  return a;
}

template <typename T>
bool close(const Array<T>& a, const std::vector<double>& expected) {
  for (Index i = 0; i < a.size; ++i)
    if (!(std::abs(a.data[i] - expected[i]) <= (sizeof(T) == 4 ? 1e-5 : 1e-13) * (20 + std::abs(expected[i]))))
      return false;
  return true;
}

}  // namespace
