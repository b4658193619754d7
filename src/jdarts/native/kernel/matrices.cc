// The matrix products of pointwise and separable convolutions.
#include "pointwise.h"

namespace jdarts {

template void multiply<JDARTS_TYPE>(const Edge<JDARTS_TYPE>&, Index, Index, const JDARTS_TYPE*, bool);
template void add_outer<JDARTS_TYPE>(const JDARTS_TYPE*, Index, const JDARTS_TYPE*, Index, Index, JDARTS_TYPE*);

}  // namespace jdarts
