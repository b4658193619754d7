// The kernels of recurrent networks as XLA custom calls.
#pragma once

#include "cell.h"
#include "ffi_buffers.h"
#include "highway.h"

namespace {

// Arrays of the highway kernels: the second operand is [P, …].
struct Arrays {
  explicit Arrays(const ffi::RemainingArgs& operands, ffi::RemainingRets& results) : operands(operands), results(results) {
    const AnyBuffer states = *operands.get<AnyBuffer>(1);
    predecessors = states.dimensions()[0];
    length = row_length(states.dimensions());
  }
  template <typename T>
  const T* in(size_t n) const {
    return (*operands.get<AnyBuffer>(n)).reinterpret_data<T>();
  }
  template <typename T>
  T* out(size_t n) const {
    return (*results.get<AnyBuffer>(n))->reinterpret_data<T>();
  }
  const ffi::RemainingArgs& operands;
  ffi::RemainingRets& results;
  Index predecessors, length;
};

ffi::Error mixed_highway(ffi::ThreadPool pool, ffi::RemainingArgs operands, ffi::RemainingRets results) {
  const Arrays a(operands, results);
  return for_type(*operands.get<AnyBuffer>(0), [&](auto zero) {
    using T = decltype(zero);
    jdarts::mixed_highway<T>(a.predecessors, a.length, a.in<T>(0), a.in<T>(1), a.in<T>(2), a.in<T>(3), a.out<T>(0),
                             pool);
  });
}

ffi::Error mixed_highway_backward(ffi::ThreadPool pool, ffi::RemainingArgs operands, ffi::RemainingRets results) {
  const Arrays a(operands, results);
  return for_type(*operands.get<AnyBuffer>(0), [&](auto zero) {
    using T = decltype(zero);
    jdarts::mixed_highway_backward<T>(a.predecessors, a.length, a.in<T>(0), a.in<T>(1), a.in<T>(2), a.in<T>(3),
                                      a.in<T>(4), a.out<T>(0), a.out<T>(1), a.out<T>(2), a.out<T>(3), pool);
  });
}

ffi::Error mixed_highway_second(ffi::ThreadPool pool, ffi::RemainingArgs operands, ffi::RemainingRets results) {
  const Arrays a(operands, results);
  return for_type(*operands.get<AnyBuffer>(0), [&](auto zero) {
    using T = decltype(zero);
    jdarts::mixed_highway_second<T>(a.predecessors, a.length, a.in<T>(0), a.in<T>(1), a.in<T>(2), a.in<T>(3),
                                    a.in<T>(4), a.in<T>(5), a.in<T>(6), a.in<T>(7), a.in<T>(8), a.out<T>(0),
                                    a.out<T>(1), a.out<T>(2), a.out<T>(3), a.out<T>(4), pool);
  });
}

template <typename T>
const T* given(const ffi::RemainingArgs& operands, size_t n) {
  return (*operands.get<AnyBuffer>(n)).reinterpret_data<T>();
}

// Where result n goes.
template <typename T>
T* gives(ffi::RemainingRets& results, size_t n) {
  Result buffer = *results.get<AnyBuffer>(n);
  return written<T>(buffer);
}

// The first operands of the cell's functions: mixture, recurrent, matrices, projected, hidden, mask, length.
jdarts::Cell cell_of(const ffi::RemainingArgs& operands, ffi::Span<const int64_t> concat) {
  const auto matrices = (*operands.get<AnyBuffer>(2)).dimensions();
  const auto projected = (*operands.get<AnyBuffer>(3)).dimensions();
  const Index length = given<int32_t>(operands, 6)[0];
  return {Index(projected[0]), Index(projected[1]), Index(projected[2]) / 2, Index(matrices[0]),
          length, concat.begin(), Index(concat.size())};
}

template <typename T>
jdarts::CellInputs<T> cell_inputs(const ffi::RemainingArgs& operands) {
  return {given<T>(operands, 0), given<T>(operands, 1), given<T>(operands, 2),
          given<T>(operands, 3), given<T>(operands, 4), given<T>(operands, 5)};
}

// Results: outputs, last, means, variances, and what is kept: states, products, scales.
ffi::Error search_cell(ffi::ThreadPool pool, ffi::RemainingArgs operands, ffi::RemainingRets results,
                       ffi::Span<const int64_t> concat) {
  return for_type(*operands.get<AnyBuffer>(0), [&](auto zero) {
    using T = decltype(zero);
    const jdarts::CellKept<T> kept = {gives<T>(results, 4), gives<T>(results, 5), gives<T>(results, 6)};
    jdarts::search_cell<T>(cell_of(operands, concat), cell_inputs<T>(operands), gives<T>(results, 0),
                           gives<T>(results, 1), gives<T>(results, 2), gives<T>(results, 3), kept, pool);
  });
}

// Further operands: outputs, what is kept, cotangents of outputs, last, means, variances. Results: cotangents of mixture,
// projected and hidden, and, where there are as many results, of recurrent and matrices.
ffi::Error search_cell_backward(ffi::ThreadPool pool, ffi::RemainingArgs operands, ffi::RemainingRets results,
                                ffi::Span<const int64_t> concat) {
  return for_type(*operands.get<AnyBuffer>(0), [&](auto zero) {
    using T = decltype(zero);
    const jdarts::CellKept<T, const T> kept = {given<T>(operands, 8), given<T>(operands, 9), given<T>(operands, 10)};
    const jdarts::CellCotangents<T> of = {given<T>(operands, 11), given<T>(operands, 12), given<T>(operands, 13),
                                          given<T>(operands, 14)};
    jdarts::CellGradients<T> to = {gives<T>(results, 0), gives<T>(results, 1), gives<T>(results, 2)};
    if (results.size() > 3) to.recurrent = gives<T>(results, 3), to.matrices = gives<T>(results, 4);
    jdarts::search_cell_backward<T>(cell_of(operands, concat), cell_inputs<T>(operands), given<T>(operands, 7), kept, of,
                                    to, pool);
  });
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(jdarts_mixed_highway, mixed_highway, all_operands());
XLA_FFI_DEFINE_HANDLER_SYMBOL(jdarts_mixed_highway_backward, mixed_highway_backward, all_operands());
XLA_FFI_DEFINE_HANDLER_SYMBOL(jdarts_mixed_highway_second, mixed_highway_second, all_operands());

XLA_FFI_DEFINE_HANDLER_SYMBOL(jdarts_search_cell, search_cell,
                              all_operands().Attr<ffi::Span<const int64_t>>("concat"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(jdarts_search_cell_backward, search_cell_backward,
                              all_operands().Attr<ffi::Span<const int64_t>>("concat"));
