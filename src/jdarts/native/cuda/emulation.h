// Runs device functions on a CPU, for tests: the threads of a block in turn, each until its end or the next barrier. The last one
// is first in every other turn, and in every other block, so that a barrier that is missing shows.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

#define __device__
#define __shared__ static thread_local
#define JDARTS_KERNEL(name, Arguments) void name(const Arguments a)

namespace jdarts_cuda::emulation {
namespace {

struct Index3 {
  unsigned x, y, z;
};

// Where a thread or the scheduler goes on. A jump there is no call of the system, as a change of the context is.
struct Place {
  jmp_buf registers;
};

// The threads of the block that runs; each goes on to the next block, on the same stack.
struct Block {
  Place scheduler;
  std::vector<Place> threads;
  std::vector<std::unique_ptr<char[]>> stacks;
  std::vector<char> ended;
  unsigned running = 0;
  unsigned count = 0;  // of blocks so far
};

thread_local Block* block = nullptr;

}  // namespace
}  // namespace jdarts_cuda::emulation

static thread_local jdarts_cuda::emulation::Index3 blockIdx, threadIdx, blockDim, gridDim;

static void __syncthreads() {
  auto* block = jdarts_cuda::emulation::block;
  if (_setjmp(block->threads[block->running].registers) == 0) _longjmp(block->scheduler.registers, 1);
}

static float __uint_as_float(unsigned bits) {
  float x;
  std::memcpy(&x, &bits, sizeof(x));
  return x;
}

static unsigned __float_as_uint(float x) {
  unsigned bits;
  std::memcpy(&bits, &x, sizeof(bits));
  return bits;
}

namespace jdarts_cuda::emulation {
namespace {

// What the threads of a launch run, behind a type that makecontext can pass.
struct Work {
  virtual void run() = 0;
  virtual ~Work() = default;
};
thread_local Work* work = nullptr;

inline void run_thread() {
  while (true) {
    work->run();
    block->ended[block->running] = 1;
    __syncthreads();
  }
}

// Runs a thread of the block until its end or the next barrier.
inline void resume(unsigned n) {
  constexpr size_t kStack = 1 << 16;
  if (_setjmp(block->scheduler.registers) != 0) return;
  if (block->stacks[n]) _longjmp(block->threads[n].registers, 1);
  block->stacks[n].reset(new char[kStack]);
  ucontext_t first;
  getcontext(&first);
  first.uc_stack.ss_sp = block->stacks[n].get();
  first.uc_stack.ss_size = kStack;
  first.uc_link = nullptr;
  makecontext(&first, run_thread, 0);
  setcontext(&first);
}

inline void run_with_barriers(unsigned count) {
  static thread_local Block own;
  block = &own;
  if (own.threads.size() < count) {
    own.threads.resize(count);
    own.stacks.resize(count);
  }
  own.ended.assign(count, 0);
  bool backwards = ++own.count % 2, some = true;
  for (; some; backwards = !backwards) {
    some = false;
    for (unsigned turn = 0; turn < count; ++turn) {
      const unsigned n = backwards ? count - 1 - turn : turn;
      if (own.ended[n]) continue;
      some = true;
      own.running = n;
      threadIdx = {n, 0, 0};
      resume(n);
    }
  }
}

template <typename Arguments>
void launch(void (*kernel)(Arguments), Index3 grid, unsigned threads, const Arguments& arguments, bool has_barriers) {
  struct Call : Work {
    void (*kernel)(Arguments);
    const Arguments* arguments;
    void run() override { kernel(*arguments); }
  } call;
  call.kernel = kernel;
  call.arguments = &arguments;
  work = &call;
  blockDim = {threads, 1, 1};
  gridDim = grid;
  for (unsigned z = 0; z < grid.z; ++z)
    for (unsigned y = 0; y < grid.y; ++y)
      for (unsigned x = 0; x < grid.x; ++x) {
        blockIdx = {x, y, z};
        if (has_barriers) {
          run_with_barriers(threads);
        } else {
          for (unsigned n = 0; n < threads; ++n) {
            threadIdx = {n, 0, 0};
            kernel(arguments);
          }
        }
      }
}

}  // namespace
}  // namespace jdarts_cuda::emulation
