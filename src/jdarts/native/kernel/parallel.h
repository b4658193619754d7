// Work shared between the calling thread and a thread pool that may be busy, or may never run its tasks.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <new>

namespace jdarts {

using Index = std::ptrdiff_t;

// Memory of a thread that grows to the largest request and that the next call reuses.
// Each Purpose (a tag type) has a separate buffer.
template <typename T, typename Purpose>
T* thread_buffer(Index count) {
  struct Free {
    void operator()(T* p) const { ::operator delete[](p, std::align_val_t(64)); }
  };
  thread_local std::unique_ptr<T, Free> buffer;
  thread_local Index capacity = 0;
  if (capacity < count) {
    buffer.reset();
    capacity = 0;
    buffer.reset(static_cast<T*>(::operator new[](count * sizeof(T), std::align_val_t(64))));
    capacity = count;
  }
  return buffer.get();
}

// `parallel_for` with its work as a function and its argument, so that the code of the work is compiled once, and not once for
// each place that calls it.
template <typename Pool>
void share_out(Pool& pool, Index threads, Index units, void (*call)(const void*, Index), const void* work) {
  struct Shared {
    std::atomic<Index> next{0};
    std::atomic<Index> open;
    std::mutex mutex;
    std::condition_variable finished;
  };
  const Index helpers = std::min({static_cast<Index>(pool.num_threads()), threads, units}) - 1;
  if (helpers < 1) {
    for (Index unit = 0; unit < units; ++unit) call(work, unit);
    return;
  }
  auto shared = std::make_shared<Shared>();
  shared->open = units;
  auto help = [shared, units, call, work] {
    Index unit;
    while ((unit = shared->next.fetch_add(1)) < units) {
      call(work, unit);
      if (shared->open.fetch_sub(1) == 1) {
        std::lock_guard<std::mutex> lock(shared->mutex);
        shared->finished.notify_all();
      }
    }
  };
  for (Index i = 0; i < helpers; ++i) pool.Schedule(decltype(help)(help));
  help();
  std::unique_lock<std::mutex> lock(shared->mutex);
  shared->finished.wait(lock, [&] { return shared->open.load() == 0; });
}

// Calls work(unit) once for each unit in [0, units), in any order, on at most `threads` threads, and returns when all
// are done.
//
// The caller takes units too, and waits only for units that another thread has started. A helper that the pool starts
// late finds nothing left and touches only the shared counters, so the pool may run it at any time or block.
template <typename Pool, typename Work>
void parallel_for(Pool& pool, Index threads, Index units, const Work& work) {
  share_out(pool, threads, units, [](const void* work, Index unit) { (*static_cast<const Work*>(work))(unit); }, &work);
}

}  // namespace jdarts
