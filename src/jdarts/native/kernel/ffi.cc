// The three functions as XLA custom calls for CPUs, in float32 and float64.
#include "depthwise.h"
#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;
using ffi::AnyBuffer;
using jdarts::Geometry;
using jdarts::Index;
using Result = ffi::Result<AnyBuffer>;

Geometry geometry(AnyBuffer::Dimensions x, AnyBuffer::Dimensions kernels, int64_t stride, int64_t dilation) {
  return {x[0], kernels[1], x[1], x[2], x[3], x[4], kernels[2], stride, dilation};
}

// Calls run(zero) with a zero of the buffer's element type.
template <typename Run>
ffi::Error for_type(const AnyBuffer& buffer, const Run& run) {
  switch (buffer.element_type()) {
    case ffi::F32: run(float(0)); return ffi::Error::Success();
    case ffi::F64: run(double(0)); return ffi::Error::Success();
    default: return ffi::Error(ffi::ErrorCode::kInvalidArgument, "depthwise kernels are for float32 and float64");
  }
}

ffi::Error forward(ffi::ThreadPool pool, AnyBuffer x, AnyBuffer kernels, Result y, int64_t stride, int64_t dilation) {
  const Geometry g = geometry(x.dimensions(), kernels.dimensions(), stride, dilation);
  return for_type(x, [&](auto zero) {
    using T = decltype(zero);
    jdarts::forward<T>(g, x.reinterpret_data<T>(), kernels.reinterpret_data<T>(), y->reinterpret_data<T>(), pool);
  });
}

ffi::Error input_gradient(ffi::ThreadPool pool, AnyBuffer y, AnyBuffer kernels, Result x, int64_t stride,
                          int64_t dilation) {
  const Geometry g = geometry(x->dimensions(), kernels.dimensions(), stride, dilation);
  return for_type(y, [&](auto zero) {
    using T = decltype(zero);
    jdarts::input_gradient<T>(g, y.reinterpret_data<T>(), kernels.reinterpret_data<T>(), x->reinterpret_data<T>(),
                              pool);
  });
}

ffi::Error kernel_gradient(ffi::ThreadPool pool, AnyBuffer x, AnyBuffer y, Result kernels, Result partials,
                           int64_t stride, int64_t dilation) {
  const Geometry g = geometry(x.dimensions(), kernels->dimensions(), stride, dilation);
  return for_type(x, [&](auto zero) {
    using T = decltype(zero);
    jdarts::kernel_gradient<T>(g, x.reinterpret_data<T>(), y.reinterpret_data<T>(), kernels->reinterpret_data<T>(),
                               partials->reinterpret_data<T>(), partials->dimensions()[0], pool);
  });
}

auto two_operands() { return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().Arg<AnyBuffer>().Arg<AnyBuffer>(); }

}  // namespace

XLA_FFI_DEFINE_HANDLER_SYMBOL(
    jdarts_depthwise_forward, forward,
    two_operands().Ret<AnyBuffer>().Attr<int64_t>("stride").Attr<int64_t>("dilation"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    jdarts_depthwise_input_gradient, input_gradient,
    two_operands().Ret<AnyBuffer>().Attr<int64_t>("stride").Attr<int64_t>("dilation"));
XLA_FFI_DEFINE_HANDLER_SYMBOL(
    jdarts_depthwise_kernel_gradient, kernel_gradient,
    two_operands().Ret<AnyBuffer>().Ret<AnyBuffer>().Attr<int64_t>("stride").Attr<int64_t>("dilation"));
