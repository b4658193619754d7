// The device functions of separable convolutions, which only some programs call, for one type of maps.
#include "separable.cuh"

#define JDARTS_SEPARABLE(size, stride, dilation)                                                       \
  JDARTS_KERNEL(separable_##size##_##stride##_##dilation##_1, jdarts_cuda::SeparableArguments) {      \
    jdarts_cuda::separable_strips<size, stride, dilation, 1>(a);                                       \
  }                                                                                                    \
  JDARTS_KERNEL(separable_##size##_##stride##_##dilation##_2, jdarts_cuda::SeparableArguments) {      \
    jdarts_cuda::separable_strips<size, stride, dilation, 2>(a);                                       \
  }                                                                                                    \
  JDARTS_KERNEL(separable_back_##size##_##stride##_##dilation, jdarts_cuda::SeparableArguments) {     \
    jdarts_cuda::separable_back_tile<size, stride, dilation>(a);                                       \
  }                                                                                                    \
  JDARTS_KERNEL(separable_weights_##size##_##stride##_##dilation, jdarts_cuda::SeparableWeightsArguments) { \
    jdarts_cuda::separable_weights<size, stride, dilation>(a);                                         \
  }
JDARTS_KINDS(JDARTS_SEPARABLE)
