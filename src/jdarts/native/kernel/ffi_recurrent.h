// The kernels of recurrent networks as XLA custom calls.
#pragma once

#include "cell.h"
#include "cell_backward.h"
#include "cell_tangent.h"
#include "dropped.h"
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

// The arguments that derivatives reach from operand n on: mixture, recurrent, matrices, projected, hidden.
template <typename T>
jdarts::CellInputs<T> cell_inputs(const ffi::RemainingArgs& operands, size_t n = 0) {
  return {given<T>(operands, n), given<T>(operands, n + 1), given<T>(operands, n + 2), given<T>(operands, n + 3),
          given<T>(operands, n + 4), given<T>(operands, 5)};
}

// What is kept, from operand n on: states, products, scales.
template <typename T>
jdarts::CellKept<T, const T> cell_kept(const ffi::RemainingArgs& operands, size_t n) {
  return {given<T>(operands, n), given<T>(operands, n + 1), given<T>(operands, n + 2)};
}

// Cotangents of outputs, last, means and variances, from operand n on.
template <typename T>
jdarts::CellCotangents<T> cell_cotangents(const ffi::RemainingArgs& operands, size_t n) {
  return {given<T>(operands, n), given<T>(operands, n + 1), given<T>(operands, n + 2), given<T>(operands, n + 3)};
}

// Results: cotangents of mixture, projected and hidden; where they are asked for, of recurrent and matrices; where they are
// asked for, of the normalised states.
template <typename T>
jdarts::CellGradients<T> cell_gradients(ffi::RemainingRets& results) {
  jdarts::CellGradients<T> to = {gives<T>(results, 0), gives<T>(results, 1), gives<T>(results, 2)};
  if (results.size() > 4) to.recurrent = gives<T>(results, 3), to.matrices = gives<T>(results, 4);
  if (results.size() % 2 == 0) to.states = gives<T>(results, results.size() - 1);
  return to;
}

// Results: outputs, last, means, variances, and what is kept.
ffi::Error search_cell(ffi::ThreadPool pool, ffi::RemainingArgs operands, ffi::RemainingRets results,
                       ffi::Span<const int64_t> concat) {
  return for_type(*operands.get<AnyBuffer>(0), [&](auto zero) {
    using T = decltype(zero);
    const jdarts::CellKept<T> kept = {gives<T>(results, 4), gives<T>(results, 5), gives<T>(results, 6)};
    jdarts::search_cell<T>(cell_of(operands, concat), cell_inputs<T>(operands), gives<T>(results, 0),
                           gives<T>(results, 1), gives<T>(results, 2), gives<T>(results, 3), kept, pool);
  });
}

// Further operands: outputs, what is kept, cotangents.
ffi::Error search_cell_backward(ffi::ThreadPool pool, ffi::RemainingArgs operands, ffi::RemainingRets results,
                                ffi::Span<const int64_t> concat) {
  return for_type(*operands.get<AnyBuffer>(0), [&](auto zero) {
    using T = decltype(zero);
    jdarts::search_cell_backward<T>(cell_of(operands, concat), cell_inputs<T>(operands), given<T>(operands, 7),
                                    cell_kept<T>(operands, 8), cell_cotangents<T>(operands, 11),
                                    cell_gradients<T>(results), pool);
  });
}

// Further operands: outputs, what is kept, tangents of the arguments. Results: tangents of the results of `search_cell`.
ffi::Error search_cell_tangent(ffi::ThreadPool pool, ffi::RemainingArgs operands, ffi::RemainingRets results,
                               ffi::Span<const int64_t> concat) {
  return for_type(*operands.get<AnyBuffer>(0), [&](auto zero) {
    using T = decltype(zero);
    const jdarts::CellKept<T> kept = {gives<T>(results, 4), gives<T>(results, 5), gives<T>(results, 6)};
    jdarts::search_cell_tangent<T>(cell_of(operands, concat), cell_inputs<T>(operands), given<T>(operands, 7),
                                   cell_kept<T>(operands, 8), cell_inputs<T>(operands, 11), gives<T>(results, 0),
                                   gives<T>(results, 1), gives<T>(results, 2), gives<T>(results, 3), kept, pool);
  });
}

// Further operands than those of `search_cell_backward`: its cotangents of the normalised states; tangents of the arguments,
// outputs, what is kept, and cotangents. Results: tangents of its results but for the normalised states.
ffi::Error search_cell_backward_tangent(ffi::ThreadPool pool, ffi::RemainingArgs operands, ffi::RemainingRets results,
                                        ffi::Span<const int64_t> concat) {
  return for_type(*operands.get<AnyBuffer>(0), [&](auto zero) {
    using T = decltype(zero);
    const jdarts::CellPass<T> pass = {cell_inputs<T>(operands), given<T>(operands, 7), cell_kept<T>(operands, 8),
                                      cell_cotangents<T>(operands, 11)};
    const jdarts::CellPass<T> tangents = {cell_inputs<T>(operands, 16), given<T>(operands, 21),
                                          cell_kept<T>(operands, 22), cell_cotangents<T>(operands, 25)};
    jdarts::search_cell_backward_tangent<T>(cell_of(operands, concat), pass, given<T>(operands, 15), tangents,
                                            cell_gradients<T>(results), pool);
  });
}

// From x or y [T, B, H], the mask [B, H] and q or the result [T, B, V].
jdarts::Streams streams(AnyBuffer::Dimensions narrow, AnyBuffer::Dimensions wide) {
  return {Index(narrow[0]), Index(narrow[1]), Index(narrow[2]), Index(wide[2])};
}

ffi::Error dropped_product(ffi::ThreadPool pool, AnyBuffer x, AnyBuffer matrix, AnyBuffer mask, Result y) {
  return for_type(x, [&](auto zero) {
    using T = decltype(zero);
    jdarts::dropped_product<T>(streams(x.dimensions(), y->dimensions()), x.reinterpret_data<T>(),
                               mask.reinterpret_data<T>(), matrix.reinterpret_data<T>(), written<T>(y), pool);
  });
}

ffi::Error dropped_pull(ffi::ThreadPool pool, AnyBuffer q, AnyBuffer matrix, AnyBuffer mask, Result y) {
  return for_type(q, [&](auto zero) {
    using T = decltype(zero);
    jdarts::dropped_pull<T>(streams(y->dimensions(), q.dimensions()), q.reinterpret_data<T>(),
                            mask.reinterpret_data<T>(), matrix.reinterpret_data<T>(), written<T>(y), pool);
  });
}

ffi::Error dropped_outer(ffi::ThreadPool pool, AnyBuffer q, AnyBuffer x, AnyBuffer mask, Result matrix) {
  return for_type(q, [&](auto zero) {
    using T = decltype(zero);
    jdarts::dropped_outer<T>(streams(x.dimensions(), q.dimensions()), q.reinterpret_data<T>(), x.reinterpret_data<T>(),
                             mask.reinterpret_data<T>(), written<T>(matrix), pool);
  });
}

ffi::Error word_losses(ffi::ThreadPool pool, AnyBuffer logits, AnyBuffer bias, ffi::Buffer<ffi::S32> targets,
                       Result losses, Result probabilities) {
  return for_type(logits, [&](auto zero) {
    using T = decltype(zero);
    jdarts::word_losses<T>(targets.element_count(), bias.dimensions()[0], logits.reinterpret_data<T>(),
                           bias.reinterpret_data<T>(), targets.typed_data(), written<T>(losses),
                           written<T>(probabilities), pool);
  });
}

ffi::Error word_losses_tangent(ffi::ThreadPool pool, AnyBuffer logits, AnyBuffer bias, AnyBuffer probabilities,
                               ffi::Buffer<ffi::S32> targets, Result losses, Result changes) {
  return for_type(logits, [&](auto zero) {
    using T = decltype(zero);
    jdarts::word_losses_tangent<T>(targets.element_count(), bias.dimensions()[0], logits.reinterpret_data<T>(),
                                   bias.reinterpret_data<T>(), probabilities.reinterpret_data<T>(),
                                   targets.typed_data(), written<T>(losses), written<T>(changes), pool);
  });
}

ffi::Error word_losses_pull(ffi::ThreadPool pool, AnyBuffer probabilities, AnyBuffer cotangents,
                            ffi::Buffer<ffi::S32> targets, Result logits, Result bias) {
  return for_type(probabilities, [&](auto zero) {
    using T = decltype(zero);
    jdarts::word_losses_pull<T>(targets.element_count(), bias->dimensions()[0], probabilities.reinterpret_data<T>(),
                                targets.typed_data(), cotangents.reinterpret_data<T>(), written<T>(logits),
                                written<T>(bias), pool);
  });
}

auto three_operands() {
  return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<AnyBuffer>().Arg<AnyBuffer>().Arg<AnyBuffer>();
}

auto of_losses() {
  return ffi::Ffi::Bind()
      .Ctx<ffi::ThreadPool>()
      .Arg<AnyBuffer>()
      .Arg<AnyBuffer>()
      .Arg<ffi::Buffer<ffi::S32>>()
      .Ret<AnyBuffer>()
      .Ret<AnyBuffer>();
}

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(jdarts_mixed_highway, mixed_highway, all_operands());
XLA_FFI_DEFINE_HANDLER_SYMBOL(jdarts_mixed_highway_backward, mixed_highway_backward, all_operands());
XLA_FFI_DEFINE_HANDLER_SYMBOL(jdarts_mixed_highway_second, mixed_highway_second, all_operands());

XLA_FFI_DEFINE_HANDLER_SYMBOL(jdarts_search_cell, search_cell,
                              all_operands().Attr<ffi::Span<const int64_t>>("concat"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(jdarts_search_cell_backward, search_cell_backward,
                              all_operands().Attr<ffi::Span<const int64_t>>("concat"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(jdarts_search_cell_tangent, search_cell_tangent,
                              all_operands().Attr<ffi::Span<const int64_t>>("concat"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(jdarts_search_cell_backward_tangent, search_cell_backward_tangent,
                              all_operands().Attr<ffi::Span<const int64_t>>("concat"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(jdarts_dropped_product, dropped_product, three_operands().Ret<AnyBuffer>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(jdarts_dropped_pull, dropped_pull, three_operands().Ret<AnyBuffer>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(jdarts_dropped_outer, dropped_outer, three_operands().Ret<AnyBuffer>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(jdarts_word_losses, word_losses, of_losses());
XLA_FFI_DEFINE_HANDLER_SYMBOL(jdarts_word_losses_tangent, word_losses_tangent,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<AnyBuffer>()
                                  .Arg<AnyBuffer>()
                                  .Arg<AnyBuffer>()
                                  .Arg<ffi::Buffer<ffi::S32>>()
                                  .Ret<AnyBuffer>()
                                  .Ret<AnyBuffer>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(jdarts_word_losses_pull, word_losses_pull, of_losses());
