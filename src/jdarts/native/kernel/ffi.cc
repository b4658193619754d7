// The kernels as XLA custom calls for CPUs, in float32 and float64.
#include "combine.h"
#include "depthwise.h"
#include "ffi_buffers.h"
#include "ffi_recurrent.h"
#include "leaves.h"
#include "moments.h"
#include "pointwise.h"
#include "pool.h"
#include "products.h"
#include "separable.h"

namespace {

using jdarts::Geometry;

Geometry geometry(AnyBuffer::Dimensions x, AnyBuffer::Dimensions kernels, int64_t stride, int64_t dilation) {
  return {x[0], kernels[1], x[1], x[2], x[3], x[4], kernels[2], stride, dilation};
}

// `count` of the operands, from `first` on.
template <typename T>
jdarts::Terms<T> terms_of(const ffi::RemainingArgs& operands, Index first, Index count) {
  jdarts::Terms<T> terms;
  for (Index n = first; n < first + count; ++n) terms.push_back((*operands.get<AnyBuffer>(n)).reinterpret_data<T>());
  return terms;
}

// The gate: the operand at `place`, if there are so many.
template <typename T>
const T* gate_of(const ffi::RemainingArgs& operands, Index place) {
  return place < Index(operands.size()) ? (*operands.get<AnyBuffer>(place)).reinterpret_data<T>() : nullptr;
}

// The operands are images, as many kernels, and the gate where there is one.
ffi::Error forward(ffi::ThreadPool pool, ffi::RemainingArgs operands, Result y, int64_t stride, int64_t dilation) {
  const Index terms = operands.size() / 2;
  const AnyBuffer x = *operands.get<AnyBuffer>(0);
  const Geometry g = geometry(x.dimensions(), (*operands.get<AnyBuffer>(terms)).dimensions(), stride, dilation);
  return for_type(x, [&](auto zero) {
    using T = decltype(zero);
    jdarts::forward<T>(g, terms_of<T>(operands, 0, terms), terms_of<T>(operands, terms, terms),
                       gate_of<T>(operands, 2 * terms), written<T>(y), pool);
  });
}

ffi::Error input_gradient(ffi::ThreadPool pool, ffi::RemainingArgs operands, Result x, int64_t stride,
                          int64_t dilation) {
  const Index terms = operands.size() / 2;
  const Geometry g = geometry(x->dimensions(), (*operands.get<AnyBuffer>(terms)).dimensions(), stride, dilation);
  return for_type(*x, [&](auto zero) {
    using T = decltype(zero);
    jdarts::input_gradient<T>(g, terms_of<T>(operands, 0, terms), terms_of<T>(operands, terms, terms),
                              gate_of<T>(operands, 2 * terms), written<T>(x), pool);
  });
}

ffi::Error kernel_gradient(ffi::ThreadPool pool, ffi::RemainingArgs operands, Result kernels, Result partials,
                           int64_t stride, int64_t dilation) {
  const AnyBuffer x = *operands.get<AnyBuffer>(0);
  const Geometry g = geometry(x.dimensions(), kernels->dimensions(), stride, dilation);
  return for_type(x, [&](auto zero) {
    using T = decltype(zero);
    jdarts::kernel_gradient<T>(g, x.reinterpret_data<T>(), (*operands.get<AnyBuffer>(1)).reinterpret_data<T>(),
                               gate_of<T>(operands, 2), written<T>(kernels), written<T>(partials),
                               partials->dimensions()[0], pool);
  });
}

// `count` of the operands, from `first` on, as stacks.
template <typename T>
jdarts::Stacks<const T> stacks_of(const ffi::RemainingArgs& operands, Index first, Index count) {
  jdarts::Stacks<const T> stacks;
  for (Index n = first; n < first + count; ++n) {
    const AnyBuffer buffer = *operands.get<AnyBuffer>(n);
    stacks.add(buffer.reinterpret_data<T>(), buffer.dimensions()[0]);
  }
  return stacks;
}

const jdarts::Route* routes_of(ffi::Span<const int64_t> routes) {
  return reinterpret_cast<const jdarts::Route*>(routes.begin());
}

ffi::Error combine(ffi::ThreadPool pool, AnyBuffer weights, ffi::RemainingArgs operands, ffi::RemainingRets results,
                   ffi::Span<const int64_t> routes) {
  return for_type(weights, [&](auto zero) {
    using T = decltype(zero);
    jdarts::Stacks<T> outs;
    Index length = 0;
    for (size_t n = 0; n < results.size(); ++n) {
      Result buffer = *results.get<AnyBuffer>(n);
      outs.add(written<T>(buffer), buffer->dimensions()[0]);
      length = row_length(buffer->dimensions());
    }
    jdarts::combine<T>(routes_of(routes), routes.size() / 4, weights.reinterpret_data<T>(),
                       stacks_of<T>(operands, 0, operands.size()), outs, length, weights.dimensions()[1], pool);
  });
}

ffi::Error products(ffi::ThreadPool pool, ffi::RemainingArgs operands, Result out, ffi::Span<const int64_t> routes,
                    int64_t num_x) {
  return for_type(*out, [&](auto zero) {
    using T = decltype(zero);
    const Index length = row_length((*operands.get<AnyBuffer>(num_x)).dimensions());
    jdarts::products<T>(routes_of(routes), routes.size() / 4, stacks_of<T>(operands, 0, num_x),
                        stacks_of<T>(operands, num_x, operands.size() - num_x), written<T>(out), length,
                        out->dimensions()[1], pool);
  });
}

ffi::Error moments(ffi::ThreadPool pool, ffi::RemainingArgs operands, Result mean, Result variance) {
  return for_type(*mean, [&](auto zero) {
    using T = decltype(zero);
    const Index length = row_length((*operands.get<AnyBuffer>(0)).dimensions());
    jdarts::moments<T>(stacks_of<T>(operands, 0, operands.size()), written<T>(mean),
                       written<T>(variance), length, mean->dimensions()[1], pool);
  });
}

// One row of a matrix [lanes, n].
jdarts::Part part_of(const AnyBuffer& buffer) {
  const Index lanes = buffer.dimensions()[0];
  return {static_cast<char*>(buffer.untyped_data()), lanes ? Index(buffer.size_bytes()) / lanes : 0};
}

ffi::Error join(ffi::ThreadPool pool, ffi::RemainingArgs operands, Result out) {
  std::vector<jdarts::Part> parts;
  for (size_t n = 0; n < operands.size(); ++n) parts.push_back(part_of(*operands.get<AnyBuffer>(n)));
  jdarts::join(parts, static_cast<char*>(out->untyped_data()), out->dimensions()[0], false, pool);
  return ffi::Error::Success();
}

ffi::Error part(ffi::ThreadPool pool, AnyBuffer whole, ffi::RemainingRets results) {
  std::vector<jdarts::Part> parts;
  for (size_t n = 0; n < results.size(); ++n) parts.push_back(part_of(**results.get<AnyBuffer>(n)));
  jdarts::join(parts, static_cast<char*>(whole.untyped_data()), whole.dimensions()[0], true, pool);
  return ffi::Error::Success();
}

Index channels_of(const AnyBuffer& buffer) { return buffer.dimensions().back(); }

// The pixels of an edge's images [edges, …, channels].
Index pixels_of(const AnyBuffer& images) {
  return channels_of(images) ? row_length(images.dimensions()) / channels_of(images) : 0;
}

// One edge's row of stacked arrays.
template <typename T>
const T* row_of(const AnyBuffer& stack, Index edge) {
  return stack.reinterpret_data<T>() + edge * row_length(stack.dimensions());
}

// The operands are images and as many matrices; sums[k] is the result that product k is added to.
ffi::Error pointwise(ffi::ThreadPool pool, ffi::RemainingArgs operands, ffi::RemainingRets results,
                     ffi::Span<const int64_t> sums, int64_t transposed) {
  return for_type(*operands.get<AnyBuffer>(0), [&](auto zero) {
    using T = decltype(zero);
    std::vector<jdarts::Edge<T>> edges;
    for (size_t q = 0; q < results.size(); ++q) {
      Result y = *results.get<AnyBuffer>(q);
      T* data = written<T>(y);
      for (Index e = 0; e < Index(y->dimensions()[0]); ++e) {
        edges.push_back({{}, data + e * row_length(y->dimensions()), pixels_of(*y), channels_of(*y)});
        for (size_t k = 0; k < sums.size(); ++k) {
          if (sums[k] != int64_t(q)) continue;
          const AnyBuffer x = *operands.get<AnyBuffer>(k), w = *operands.get<AnyBuffer>(sums.size() + k);
          edges.back().products.push_back({row_of<T>(x, e), row_of<T>(w, e), channels_of(x)});
        }
      }
    }
    jdarts::pointwise<T>(edges, transposed, pool);
  });
}

ffi::Error pointwise_gradient(ffi::ThreadPool pool, ffi::RemainingArgs operands, ffi::RemainingRets results) {
  return for_type(*operands.get<AnyBuffer>(0), [&](auto zero) {
    using T = decltype(zero);
    std::vector<jdarts::Outer<T>> edges;
    for (size_t k = 0; k < results.size(); ++k) {
      const AnyBuffer x = *operands.get<AnyBuffer>(k), y = *operands.get<AnyBuffer>(results.size() + k);
      Result w = *results.get<AnyBuffer>(k);
      T* data = written<T>(w);
      for (Index e = 0; e < Index(w->dimensions()[0]); ++e)
        edges.push_back({row_of<T>(x, e), row_of<T>(y, e), data + e * row_length(w->dimensions()), pixels_of(x),
                         channels_of(x), channels_of(y)});
    }
    jdarts::pointwise_gradient<T>(edges, pool);
  });
}

// The operands are images, kernels and matrices, as many as the terms name, and the gate where there is one.
template <typename T>
jdarts::Separable<T> separable_of(const ffi::RemainingArgs& operands, ffi::Span<const int64_t> numbers,
                                  AnyBuffer::Dimensions x, int64_t stride, int64_t dilation) {
  const auto* first = reinterpret_cast<const jdarts::Triple*>(numbers.begin());
  const std::vector<jdarts::Triple> terms(first, first + numbers.size() / 3);
  Index images = 0, kernels = 0, matrices = 0;
  for (const jdarts::Triple& term : terms) {
    images = std::max<Index>(images, term.image + 1);
    kernels = std::max<Index>(kernels, term.kernels + 1);
    matrices = std::max<Index>(matrices, term.matrix + 1);
  }
  const Geometry g = geometry(x, (*operands.get<AnyBuffer>(images)).dimensions(), stride, dilation);
  return {g,
          channels_of(*operands.get<AnyBuffer>(images + kernels)),
          terms,
          terms_of<T>(operands, 0, images),
          terms_of<T>(operands, images, kernels),
          terms_of<T>(operands, images + kernels, matrices),
          gate_of<T>(operands, images + kernels + matrices)};
}

ffi::Error separable(ffi::ThreadPool pool, ffi::RemainingArgs operands, Result y, ffi::Span<const int64_t> terms,
                     int64_t stride, int64_t dilation) {
  const AnyBuffer x = *operands.get<AnyBuffer>(0);
  return for_type(x, [&](auto zero) {
    using T = decltype(zero);
    jdarts::separable<T>(separable_of<T>(operands, terms, x.dimensions(), stride, dilation), written<T>(y), pool);
  });
}

ffi::Error separable_back(ffi::ThreadPool pool, ffi::RemainingArgs operands, Result x, ffi::Span<const int64_t> terms,
                          int64_t stride, int64_t dilation) {
  return for_type(*x, [&](auto zero) {
    using T = decltype(zero);
    jdarts::separable_back<T>(separable_of<T>(operands, terms, x->dimensions(), stride, dilation),
                              {written<T>(x), nullptr, nullptr, nullptr}, pool);
  });
}

// The operands are x, kernels, matrices, y and the gate where there is one.
ffi::Error separable_pull(ffi::ThreadPool pool, ffi::RemainingArgs operands, ffi::RemainingRets results, int64_t stride,
                          int64_t dilation) {
  const AnyBuffer x = *operands.get<AnyBuffer>(0), matrices = *operands.get<AnyBuffer>(2);
  const Geometry g = geometry(x.dimensions(), (*operands.get<AnyBuffer>(1)).dimensions(), stride, dilation);
  return for_type(x, [&](auto zero) {
    using T = decltype(zero);
    jdarts::separable_back<T>({g, channels_of(matrices), {{0, 0, 0}}, terms_of<T>(operands, 3, 1),
                               terms_of<T>(operands, 1, 1), terms_of<T>(operands, 2, 1), gate_of<T>(operands, 4)},
                              {gives<T>(results, 0), x.reinterpret_data<T>(), gives<T>(results, 1), gives<T>(results, 2)},
                              pool);
  });
}

using Places = ffi::Buffer<ffi::U8>;

jdarts::Windows windows(AnyBuffer::Dimensions x, int64_t stride) { return {x[0] * x[1], x[2], x[3], x[4], stride}; }

ffi::Error max_pool(ffi::ThreadPool pool, AnyBuffer x, Result y, ffi::Result<Places> places, int64_t stride) {
  return for_type(x, [&](auto zero) {
    using T = decltype(zero);
    jdarts::max_pool<T>(windows(x.dimensions(), stride), x.reinterpret_data<T>(), written<T>(y),
                        places->typed_data(), pool);
  });
}

ffi::Error pool_gather(ffi::ThreadPool pool, AnyBuffer x, Places places, Result y, int64_t stride) {
  return for_type(x, [&](auto zero) {
    using T = decltype(zero);
    jdarts::pool_gather<T>(windows(x.dimensions(), stride), x.reinterpret_data<T>(), places.typed_data(),
                           written<T>(y), pool);
  });
}

ffi::Error pool_scatter(ffi::ThreadPool pool, AnyBuffer y, Places places, Result x, int64_t stride) {
  return for_type(y, [&](auto zero) {
    using T = decltype(zero);
    jdarts::pool_scatter<T>(windows(x->dimensions(), stride), y.reinterpret_data<T>(), places.typed_data(),
                            written<T>(x), pool);
  });
}

auto any_operands() { return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().RemainingArgs().Ret<AnyBuffer>(); }

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    jdarts_depthwise_forward, forward,
    any_operands().Attr<int64_t>("stride").Attr<int64_t>("dilation"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    jdarts_depthwise_input_gradient, input_gradient,
    any_operands().Attr<int64_t>("stride").Attr<int64_t>("dilation"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    jdarts_depthwise_kernel_gradient, kernel_gradient,
    any_operands().Ret<AnyBuffer>().Attr<int64_t>("stride").Attr<int64_t>("dilation"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(jdarts_combine, combine,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<AnyBuffer>()
                                  .RemainingArgs()
                                  .RemainingRets()
                                  .Attr<ffi::Span<const int64_t>>("routes"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(jdarts_products, products,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .RemainingArgs()
                                  .Ret<AnyBuffer>()
                                  .Attr<ffi::Span<const int64_t>>("routes")
                                  .Attr<int64_t>("num_x"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    jdarts_join, join, ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().RemainingArgs().Ret<AnyBuffer>());
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    jdarts_part, part, ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<AnyBuffer>().RemainingRets());

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    jdarts_moments, moments,
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().RemainingArgs().Ret<AnyBuffer>().Ret<AnyBuffer>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    jdarts_pointwise, pointwise,
    all_operands().Attr<ffi::Span<const int64_t>>("sums").Attr<int64_t>("transposed"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    jdarts_pointwise_gradient, pointwise_gradient, all_operands());

XLA_FFI_DEFINE_HANDLER_SYMBOL(jdarts_separable, separable,
                              any_operands()
                                  .Attr<ffi::Span<const int64_t>>("terms")
                                  .Attr<int64_t>("stride")
                                  .Attr<int64_t>("dilation"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(jdarts_separable_back, separable_back,
                              any_operands()
                                  .Attr<ffi::Span<const int64_t>>("terms")
                                  .Attr<int64_t>("stride")
                                  .Attr<int64_t>("dilation"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    jdarts_separable_pull, separable_pull, all_operands().Attr<int64_t>("stride").Attr<int64_t>("dilation"));

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    jdarts_max_pool, max_pool,
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<AnyBuffer>().Ret<AnyBuffer>().Ret<Places>().Attr<int64_t>("stride"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    jdarts_pool_gather, pool_gather,
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<AnyBuffer>().Arg<Places>().Ret<AnyBuffer>().Attr<int64_t>("stride"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    jdarts_pool_scatter, pool_scatter,
    ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<AnyBuffer>().Arg<Places>().Ret<AnyBuffer>().Attr<int64_t>("stride"));
