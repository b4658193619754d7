// Large pages for the memory that XLA takes anew in every execution: to fault it in by pages of 4 KiB costs about as
// much time as to compute what goes there.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <mutex>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace jdarts {

// A range of addresses.
struct Range {
  std::uintptr_t from = 0, to = 0;
  bool holds(Range other) const { return from <= other.from && other.to <= to; }
};

// The mapping of this process that holds a range; the range itself where none is found.
inline Range mapping_of(Range range) {
  Range found = range;
  if (std::FILE* maps = std::fopen("/proc/self/maps", "r")) {
    char line[512];
    unsigned long from, to;
    while (std::fgets(line, sizeof line, maps)) {
      if (std::sscanf(line, "%lx-%lx", &from, &to) == 2 && Range{from, to}.holds(range)) {
        found = {from, to};
        break;
      }
    }
    std::fclose(maps);
  }
  return found;
}

// Asks for large pages around a large result that is about to be written, in the whole mapping that it is part of: XLA
// keeps all intermediate arrays of a program in one. Nothing changes where the system has no large pages to give.
inline void prefer_large_pages(void* start, std::size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr std::uintptr_t kPage = 4096, kLarge = 2 << 20;
  if (bytes < kLarge) return;
  static std::mutex mutex;
  static Range last;
  const std::uintptr_t address = reinterpret_cast<std::uintptr_t>(start);
  const Range result = {address & ~(kPage - 1), (address + bytes + kPage - 1) & ~(kPage - 1)};
  std::lock_guard<std::mutex> lock(mutex);
  if (!last.holds(result)) last = mapping_of(result);
  // Said again for every result: the next execution's mapping may lie at the same addresses.
  madvise(reinterpret_cast<void*>(last.from), last.to - last.from, MADV_HUGEPAGE);
#endif
}

}  // namespace jdarts
