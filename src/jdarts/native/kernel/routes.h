// Stacks of rows, routes between them, and how rows are cut.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "vectors.h"

namespace jdarts {

// From row i of stack k to row j of stack q, as the calls' attribute lists them.
struct Route {
  int64_t from_stack, from_row, to_stack, to_row;
};
constexpr int64_t kOnes = -1;  // the stack whose rows are all ones

// Arrays [rows, …, C], alike in all but the number of rows.
template <typename T>
class Stacks {
 public:
  void add(T* data, Index rows) {
    data_.push_back(data);
    first_.push_back(first_.back() + rows);
  }
  Index count() const { return data_.size(); }
  Index size(Index stack) const { return first_[stack + 1] - first_[stack]; }
  Index total() const { return first_.back(); }
  // A row's number when the stacks are laid end to end.
  Index place(Index stack, Index row) const { return first_[stack] + row; }
  T* row(Index stack, Index row, Index length) const { return data_[stack] + row * length; }
  bool has(int64_t stack, int64_t row) const {
    return stack >= 0 && stack < count() && row >= 0 && row < size(stack);
  }

 private:
  std::vector<T*> data_;
  std::vector<Index> first_{0};
};

// A row is `count` steps of `length` values, and pixels that do not fill another step. A step is the least whole number
// of vectors that is a whole number of pixels.
template <typename T>
struct Steps {
  Steps(Index row_length, Index channels)
      : length(Phases<T>(channels).step), classes(Phases<T>(channels).count), count(row_length / length) {}
  Index per_block(Index bytes) const { return std::max<Index>(1, bytes / (length * Index(sizeof(T)))); }
  Index length, classes, count;
};

// The part of a core's cache for data that is read several times.
constexpr Index kCacheBytes = 1 << 18;

// Bytes of a row's block where `reused` rows are read several times. Long blocks suit the processor's prefetching.
inline Index block_bytes(Index reused) { return std::clamp<Index>(kCacheBytes / std::max<Index>(4, reused), 1024, 1 << 16); }

// As many threads as have 256 KiB to read or write each: less is not worth waking one.
inline Index useful_threads(Index bytes) { return 1 + (bytes >> 18); }

}  // namespace jdarts
