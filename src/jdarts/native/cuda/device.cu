// The device functions that every program may call, for one type of maps.
#include "depthwise.cuh"
#include "leaves.cuh"
#include "pool.cuh"
#include "routes.cuh"

#define JDARTS_FORWARD(size, stride, dilation)                                                    \
  JDARTS_KERNEL(forward_##size##_##stride##_##dilation##_1, jdarts_cuda::ConvolutionArguments) { \
    jdarts_cuda::forward_strip<size, stride, dilation, 1>(a);                                     \
  }                                                                                               \
  JDARTS_KERNEL(forward_##size##_##stride##_##dilation##_2, jdarts_cuda::ConvolutionArguments) { \
    jdarts_cuda::forward_strip<size, stride, dilation, 2>(a);                                     \
  }
JDARTS_KINDS(JDARTS_FORWARD)
JDARTS_KERNEL(back_3_1, jdarts_cuda::ConvolutionArguments) { jdarts_cuda::back_strip<3, 1>(a); }
JDARTS_KERNEL(back_5_1, jdarts_cuda::ConvolutionArguments) { jdarts_cuda::back_strip<5, 1>(a); }
JDARTS_KERNEL(back_3_2, jdarts_cuda::ConvolutionArguments) { jdarts_cuda::back_strip<3, 2>(a); }
JDARTS_KERNEL(back_5_2, jdarts_cuda::ConvolutionArguments) { jdarts_cuda::back_strip<5, 2>(a); }
JDARTS_KERNEL(forward_pixel_4, jdarts_cuda::ConvolutionArguments) { jdarts_cuda::forward_pixel<4>(a); }
JDARTS_KERNEL(forward_pixel_1, jdarts_cuda::ConvolutionArguments) { jdarts_cuda::forward_pixel<1>(a); }
JDARTS_KERNEL(back_pixel_4, jdarts_cuda::ConvolutionArguments) { jdarts_cuda::back_pixel<4>(a); }
JDARTS_KERNEL(back_pixel_1, jdarts_cuda::ConvolutionArguments) { jdarts_cuda::back_pixel<1>(a); }
// Two targets for the smaller kernels: of the larger ones, the sums of one take all registers.
#define JDARTS_KERNEL_SUMS(size, stride, dilation)                                                    \
  JDARTS_KERNEL(kernel_sums_##size##_##stride##_##dilation, jdarts_cuda::KernelGradientArguments) {  \
    jdarts_cuda::kernel_sums<size, stride, dilation, size == 3 ? 2 : 1>(a);                           \
  }
JDARTS_KINDS(JDARTS_KERNEL_SUMS)
JDARTS_KERNEL(tap_sums, jdarts_cuda::KernelGradientArguments) { jdarts_cuda::tap_sums(a); }
