// The tiles of depthwise and separable convolutions.
#include "tiles.h"

namespace jdarts {

template Tile<JDARTS_TYPE> tile_for<JDARTS_TYPE, 1>(Index);
template Tile<JDARTS_TYPE> tile_for<JDARTS_TYPE, 2>(Index);
template Gather<JDARTS_TYPE> gather_for<JDARTS_TYPE, 1>(Index);
template Gather<JDARTS_TYPE> gather_for<JDARTS_TYPE, 2>(Index);

}  // namespace jdarts
