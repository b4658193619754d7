// All device functions, for one type of maps.
#include "depthwise.cuh"
#include "leaves.cuh"
#include "pool.cuh"
#include "routes.cuh"
