// What every custom call does with XLA's buffers.
#pragma once

#include "pages.h"
#include "parallel.h"
#include "xla/ffi/api/ffi.h"

namespace {

namespace ffi = xla::ffi;
using ffi::AnyBuffer;
using jdarts::Index;
using Result = ffi::Result<AnyBuffer>;

// Calls run(zero) with a zero of the buffer's element type.
template <typename Run>
ffi::Error for_type(const AnyBuffer& buffer, const Run& run) {
  switch (buffer.element_type()) {
    case ffi::F32: run(float(0)); return ffi::Error::Success();
    case ffi::F64: run(double(0)); return ffi::Error::Success();
    default: return ffi::Error(ffi::ErrorCode::kInvalidArgument, "the kernels are for float32 and float64");
  }
}

// Where a result goes.
template <typename T>
T* written(Result& buffer) {
  jdarts::prefer_large_pages(buffer->untyped_data(), buffer->size_bytes());
  return buffer->reinterpret_data<T>();
}

// The product of all dimensions but the first: the values of one row.
inline Index row_length(AnyBuffer::Dimensions dimensions) {
  Index length = 1;
  for (size_t n = 1; n < dimensions.size(); ++n) length *= dimensions[n];
  return length;
}

inline auto all_operands() { return ffi::Ffi::Bind().Ctx<ffi::ThreadPool>().RemainingArgs().RemainingRets(); }

}  // namespace
