// The leaves of a pytree as one vector, and back.
#pragma once

#include "arguments.h"
#include "device.h"

namespace jdarts_cuda {
namespace {

// Row blockIdx.z, leaf blockIdx.y.
__device__ inline void copy_leaf(const LeavesArguments& a, bool joined) {
  const int n = blockIdx.y;
  const long long size = a.begins[n + 1] - a.begins[n];
  T* leaf = static_cast<T*>(a.leaves[n]) + blockIdx.z * size;
  T* place = static_cast<T*>(a.vector) + blockIdx.z * a.total + a.begins[n];
  for (long long at = thread_number(); at < size; at += (long long)gridDim.x * kThreads)
    if (joined)
      place[at] = leaf[at];
    else
      leaf[at] = place[at];
}

}  // namespace
}  // namespace jdarts_cuda

JDARTS_KERNEL(join_leaves, jdarts_cuda::LeavesArguments) { jdarts_cuda::copy_leaf(a, true); }
JDARTS_KERNEL(part_leaves, jdarts_cuda::LeavesArguments) { jdarts_cuda::copy_leaf(a, false); }
