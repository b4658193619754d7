// Large pages for the memory that XLA allocates in every execution: its page faults, by pages of 4 KiB, take about as
// much time as the computation of its arrays.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <iterator>
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

// The memory of this process around a range: all that is mapped without a gap, writable and not of a file; the range itself if
// none is found. The heap alone may be several mappings, between which a program's arrays lie in any order.
inline Range memory_around(Range range) {
  Range joined;
  if (std::FILE* maps = std::fopen("/proc/self/maps", "r")) {
    char line[512], rights[8];
    unsigned long from, to, file;
    while (std::fgets(line, sizeof line, maps)) {
      if (std::sscanf(line, "%lx-%lx %7s %*x %*s %lu", &from, &to, rights, &file) != 4) continue;
      if (from != joined.to && joined.holds(range)) break;
      if (file != 0 || rights[0] != 'r' || rights[1] != 'w') continue;
      joined = from == joined.to ? Range{joined.from, to} : Range{from, to};
    }
    std::fclose(maps);
  }
  return joined.holds(range) ? joined : range;
}

// Asks for large pages around a large result that is about to be written, in all the memory that it is part of: XLA keeps all
// intermediate arrays of a program together. Nothing changes if the system has no large pages.
inline void prefer_large_pages(void* start, std::size_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr std::uintptr_t kPage = 4096, kLarge = 2 << 20;
  if (bytes < kLarge) return;
  // Reading the list of mappings takes half a millisecond, so some ranges are remembered: one for each device's programs.
  static std::mutex mutex;
  static Range known[16];
  static unsigned oldest;
  const std::uintptr_t address = reinterpret_cast<std::uintptr_t>(start);
  const Range result = {address & ~(kPage - 1), (address + bytes + kPage - 1) & ~(kPage - 1)};
  std::lock_guard<std::mutex> lock(mutex);
  const Range* around = std::find_if(std::begin(known), std::end(known), [&](Range r) { return r.holds(result); });
  if (around == std::end(known)) {
    around = known + oldest++ % std::size(known);
    known[around - known] = memory_around(result);
  }
  // Repeated for every result: the next execution's memory may lie at the same addresses.
  madvise(reinterpret_cast<void*>(around->from), around->to - around->from, MADV_HUGEPAGE);
#endif
}

}  // namespace jdarts
