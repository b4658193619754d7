// Custom calls of XLA for CPUs, as the functions of the library get them.
#pragma once

#include <string_view>

#include "pages.h"
#include "parallel.h"
#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;
using jdarts::Index;

// The type of all numbers: float or double. Each has a separate library.
using T = JDARTS_TYPE;
using Shape = ffi::AnyBuffer::Dimensions;
using Integers = ffi::Span<const int64_t>;

// The product of all dimensions but the first: the number of values in a row.
inline Index row_length(Shape shape) {
  Index length = 1;
  for (size_t n = 1; n < shape.size(); ++n) length *= shape[n];
  return length;
}

// Operands, results and attributes of a call. The rules in Python set those that each function reads.
struct Call {
  ffi::ThreadPool pool;
  ffi::RemainingArgs operands;
  ffi::RemainingRets results;
  ffi::Dictionary attributes;

  Index num_operands() const { return operands.size(); }
  Index num_results() const { return results.size(); }
  ffi::AnyBuffer operand(Index n) const { return *operands.get<ffi::AnyBuffer>(n); }
  ffi::AnyBuffer result(Index n) const { return **results.get<ffi::AnyBuffer>(n); }
  Shape shape(Index n) const { return operand(n).dimensions(); }
  Shape result_shape(Index n) const { return result(n).dimensions(); }

  template <typename V = T>
  const V* read(Index n) const {
    return operand(n).reinterpret_data<V>();
  }
  // Operand n; null if there are fewer operands.
  const T* read_if_given(Index n) const { return n < num_operands() ? read(n) : nullptr; }
  // The memory of result n.
  template <typename V = T>
  V* written(Index n) const {
    ffi::AnyBuffer buffer = result(n);
    jdarts::prefer_large_pages(buffer.untyped_data(), buffer.size_bytes());
    return buffer.reinterpret_data<V>();
  }

  int64_t integer(std::string_view name) const { return *attributes.get<int64_t>(name); }
  Integers integers(std::string_view name) const { return *attributes.get<Integers>(name); }
};

template <void (*function)(Call&)>
ffi::Error handle(ffi::ThreadPool pool, ffi::RemainingArgs operands, ffi::RemainingRets results,
                  ffi::Dictionary attributes) {
  Call call{pool, operands, results, attributes};
  function(call);
  return ffi::Error::Success();
}

inline auto all_of_a_call() { return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().RemainingArgs().RemainingRets().Attrs(); }

}  // namespace

// Exports a function of a `Call&` as the custom call jdarts_<function>.
#define JDARTS_EXPORT(function) XLA_FFI_DEFINE_HANDLER_SYMBOL(jdarts_##function, handle<function>, all_of_a_call())
