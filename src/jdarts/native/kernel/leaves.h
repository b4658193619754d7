// Rows of several matrices side by side as the rows of one, and back.
#pragma once

#include <cstring>
#include <vector>

#include "parallel.h"

namespace jdarts {

// One of the matrices: its memory, and the bytes of one of its rows.
struct Part {
  char* data;
  Index bytes;
};

// Copies the parts' rows into a matrix of `lanes` rows, one after the other; out of it where `back` is true.
template <typename Pool>
void join(const std::vector<Part>& parts, char* whole, Index lanes, bool back, Pool& pool) {
  std::vector<Index> places;
  Index row = 0;
  for (const Part& part : parts) {
    places.push_back(row);
    row += part.bytes;
  }
  parallel_for(pool, pool.num_threads(), parts.size(), [&](Index n) {
    for (Index lane = 0; lane < lanes; ++lane) {
      char* here = parts[n].data + lane * parts[n].bytes;
      char* there = whole + lane * row + places[n];
      if (parts[n].bytes) std::memcpy(back ? here : there, back ? there : here, parts[n].bytes);
    }
  });
}

}  // namespace jdarts
