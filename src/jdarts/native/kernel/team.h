// Many short phases of work, one after another, by a team of threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>

#include "parallel.h"

namespace jdarts {

// Helpers from a thread pool wait for the next phase without sleeping, so that a phase may be as short as some microseconds.
//
// As with `parallel_for`, the caller takes units too and waits only for units that another thread has started: it does not
// need a helper that the pool starts late, or never.
class Team {
 public:
  template <typename Pool>
  Team(Pool& pool, Index threads) : shared_(std::make_shared<Shared>()) {
    const Index helpers = std::min(static_cast<Index>(pool.num_threads()), threads) - 1;
    auto help = [shared = shared_] { shared->help(); };
    for (Index i = 0; i < helpers; ++i) pool.Schedule(decltype(help)(help));
  }
  Team(const Team&) = delete;
  Team& operator=(const Team&) = delete;
  ~Team() { shared_->closed.store(true, std::memory_order_release); }

  // Calls work(unit) once for each unit in [0, units), the last ones first, and returns when all are done.
  template <typename Work>
  void run(Index units, const Work& work) {
    if (units < 1) return;
    Shared& s = *shared_;
    s.call = [](const void* work, Index unit) { (*static_cast<const Work*>(work))(unit); };
    s.work = &work;
    s.done.store(0, std::memory_order_relaxed);
    s.open.store((++phase_ << 32) | static_cast<std::uint64_t>(units), std::memory_order_release);
    while (s.take()) {
    }
    for (int turns = 0; s.done.load(std::memory_order_acquire) < units; ++turns) Shared::rest(turns);
  }

 private:
  struct Shared {
    // The phase in the upper half, the units left in the lower half: a thread can take a unit only in its phase.
    std::atomic<std::uint64_t> open{0};
    std::atomic<Index> done{0};
    std::atomic<bool> closed{false};
    // Only threads that have taken a unit read these; they change only after that unit is done.
    void (*call)(const void*, Index) = nullptr;
    const void* work = nullptr;

    bool take() {
      std::uint64_t word = open.load(std::memory_order_acquire);
      while (word & 0xffffffffu) {
        if (!open.compare_exchange_weak(word, word - 1, std::memory_order_acq_rel, std::memory_order_acquire)) continue;
        call(work, static_cast<Index>(word & 0xffffffffu) - 1);
        done.fetch_add(1, std::memory_order_acq_rel);
        return true;
      }
      return false;
    }
    void help() {
      for (int turns = 0; !closed.load(std::memory_order_acquire); ++turns) take() ? void(turns = 0) : rest(turns);
    }
    // Longer waits yield the processor to other threads.
    static void rest(int turns) {
      if (turns > 2000) return std::this_thread::yield();
#if defined(__x86_64__) || defined(__i386__)
      __builtin_ia32_pause();
#endif
    }
  };
  std::shared_ptr<Shared> shared_;
  std::uint64_t phase_ = 0;
};

}  // namespace jdarts
