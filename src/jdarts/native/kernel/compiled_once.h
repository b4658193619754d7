// The innermost loops that several functions share are compiled once: tiles.cc and matrices.cc hold them.
#pragma once

#include "pointwise.h"
#include "tiles.h"

namespace jdarts {

extern template Tile<JDARTS_TYPE> tile_for<JDARTS_TYPE, 1>(Index);
extern template Tile<JDARTS_TYPE> tile_for<JDARTS_TYPE, 2>(Index);
extern template Gather<JDARTS_TYPE> gather_for<JDARTS_TYPE, 1>(Index);
extern template Gather<JDARTS_TYPE> gather_for<JDARTS_TYPE, 2>(Index);
extern template void multiply<JDARTS_TYPE>(const Edge<JDARTS_TYPE>&, Index, Index, const JDARTS_TYPE*, bool);
extern template void add_outer<JDARTS_TYPE>(const JDARTS_TYPE*, Index, const JDARTS_TYPE*, Index, Index, JDARTS_TYPE*);

}  // namespace jdarts
