// The arguments of the device functions, as host and device see them.
#pragma once

// The kernels with functions of their sizes: each(size, stride, dilation).
#define JDARTS_KINDS(each)                                    \
  each(3, 1, 1) each(5, 1, 1) each(3, 1, 2) each(5, 1, 2)     \
  each(3, 2, 1) each(5, 2, 1) each(3, 2, 2) each(5, 2, 2)

namespace jdarts_cuda {
namespace {

constexpr int kThreads = 256;  // of a block
constexpr int kRows = 4;       // of a strip
constexpr int kMostStacks = 32;
constexpr int kMostTerms = 8;
constexpr int kMostLeaves = 128;

// x [S, B, H, W, C], kernels [S, T, k, k, C], y [S, T, B, H', W', C].
struct Geometry {
  int sources, targets, batch, height, width, channels, out_height, out_width, size, stride, dilation, pad;
};

// result = Σ over terms. `maps` are x for the convolution and y for the gradient of images.
struct ConvolutionArguments {
  Geometry geometry;
  int terms;
  const void* maps[kMostTerms];
  const void* kernels[kMostTerms];
  const void* gate;
  void* result;
};

struct KernelGradientArguments {
  Geometry geometry;
  const void* x;
  const void* y;
  const void* gate;
  void* partials;  // [chunks, S, T, k, k, C] of the wide type
  int chunks;
};

// Two results from the sums over the chunks of `partials` [chunks, length], of which the first `first` numbers are those of `out`.
struct SumArguments {
  const void* partials;
  void* out;
  void* rest;
  int chunks;
  int length;
  int first;
  int narrow;  // whether the results have the type of maps
};

// Maps of D channels y [S, T, B, H', W', D], matrices [S, T, C, D]; result = Σ over terms. `images` are x for the convolution and
// y for the gradient of images. Terms that share a matrix follow each other for the convolution; for the gradient, those that
// share kernels.
struct SeparableArguments {
  Geometry geometry;
  int out;  // D
  int terms;
  const void* images[kMostTerms];
  const void* kernels[kMostTerms];
  const void* matrices[kMostTerms];
  const void* gate;
  void* result;
  int strips, fours;      // of the convolution: strips of a block, and fours of outputs
  int tile_height, tile_width;  // of the gradient: pixels of x of a block
};

struct SeparableWeightsArguments {
  Geometry geometry;
  int out;
  const void* x;
  const void* kernels;
  const void* matrices;
  const void* y;
  const void* gate;
  void* partials;  // [chunks, S·T·k·k·C + S·T·C·D] of the wide type
  int strips, chunks;
};

// Stacks [rows, length] with C channels.
struct Stacks {
  const void* data[kMostStacks];
};

// The table has (stack, row, begin, end) of each row of results, and after those (stack, row, row of weights) of each term.
// Stack −1 is all ones.
struct CombineArguments {
  Stacks xs;
  Stacks outs;
  const void* weights;
  const int* table;
  int rows;
  int channels;
  long long length;
};

// The table has (stack of x, row, stack of y, row) of each route.
struct ProductsArguments {
  Stacks xs;
  Stacks ys;
  const int* table;
  void* partials;  // [chunks, routes, C] of the wide type
  int routes, chunks, channels;
  long long pixels;
};

// Running statistics [rows, C] before and after a batch, of which it has the share `momentum`. Null for none.
struct RunningMoments {
  const void* mean;
  const void* variance;
  void* moved_mean;
  void* moved_variance;
  double momentum;
};

// The table has (stack, row) of each row.
struct MomentsArguments {
  Stacks xs;
  const int* table;
  void* partials;  // [chunks, rows, C, 2]: mean and sum of squared deviations of each chunk
  void* mean;
  void* variance;
  RunningMoments running;
  int rows, chunks, channels;
  long long pixels;
};

// x [images, H, W, C], y and places [images, H', W', C].
struct PoolArguments {
  const void* from;
  void* to;
  const unsigned char* places;
  unsigned char* new_places;
  int images, height, width, channels, out_height, out_width, stride;
};

// Some of the leaves of a vector [rows, total]: leaf n is [rows, size of it] and begins at begins[n].
struct LeavesArguments {
  void* leaves[kMostLeaves];
  long long begins[kMostLeaves + 1];
  void* vector;
  long long total;
  int count, rows;
};

}  // namespace
}  // namespace jdarts_cuda
