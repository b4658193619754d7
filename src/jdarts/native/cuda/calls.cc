// The functions of networks for images as custom calls of XLA for GPUs.
//
// With JDARTS_EMULATED the library holds the device functions themselves, and its calls are for CPUs.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "arguments.h"
#include "xla/ffi/api/ffi.h"

#ifdef JDARTS_EMULATED
#include "device.cu"
#include "separable.cu"
#else
#include "driver.h"
#endif

namespace {

namespace ffi = xla::ffi;
using namespace jdarts_cuda;
using Shape = ffi::AnyBuffer::Dimensions;

#ifdef JDARTS_EMULATED
struct Stream {};
#endif

// Operands, results and attributes of a call. The first failure ends it.
struct Call {
  Stream stream;
  ffi::RemainingArgs operands;
  ffi::RemainingRets results;
  ffi::Dictionary attributes;
  std::string failure;

  int num_operands() const { return operands.size(); }
  int num_results() const { return results.size(); }
  ffi::AnyBuffer operand(int n) const { return *operands.get<ffi::AnyBuffer>(n); }
  ffi::AnyBuffer result(int n) const { return **results.get<ffi::AnyBuffer>(n); }
  Shape shape(int n) const { return operand(n).dimensions(); }
  Shape result_shape(int n) const { return result(n).dimensions(); }
  void* data(int n) const { return operand(n).untyped_data(); }
  void* data_if_given(int n) const { return n < num_operands() ? data(n) : nullptr; }
  void* result_data(int n) const { return result(n).untyped_data(); }
  int64_t integer(std::string_view name) const { return *attributes.get<int64_t>(name); }
  ffi::Span<const int64_t> integers(std::string_view name) const { return *attributes.get<ffi::Span<const int64_t>>(name); }
};

struct Grid {
  unsigned x, y, z;
};

unsigned blocks_for(int64_t threads) { return (threads + kThreads - 1) / kThreads; }

// A block for every 32 sums of partial sums.
unsigned blocks_of_shares(int64_t sums) { return (sums + 31) / 32; }

// Blocks that have all channels side by side.
unsigned blocks_of_channels(int64_t channels) { return (channels + kThreads - 1) / kThreads; }

#ifdef JDARTS_EMULATED
#define JDARTS_LAUNCH(call, kernel, grid, arguments, has_barriers) \
  emulation::launch(kernel, {(grid).x, (grid).y, (grid).z}, kThreads, arguments, has_barriers)
#else
template <typename Arguments>
void launch(Call& call, const char* name, Grid grid, Arguments arguments) {
  if (call.failure.empty() && grid.x * grid.y * grid.z > 0)
    call.failure = Driver::get().launch(name, {grid.x, grid.y, grid.z}, kThreads, call.stream, &arguments);
}
#define JDARTS_LAUNCH(call, kernel, grid, arguments, has_barriers) launch(call, #kernel, grid, arguments)
#endif

// The kernel for channels in fours, or the one for any number.
#define JDARTS_LAUNCH_BY_CHANNELS(call, kernel, channels, grid, arguments, has_barriers)    \
  do {                                                                                     \
    if ((channels) % 4 == 0)                                                               \
      JDARTS_LAUNCH(call, kernel##_4, (grid)(4), arguments, has_barriers);                 \
    else                                                                                   \
      JDARTS_LAUNCH(call, kernel##_1, (grid)(1), arguments, has_barriers);                 \
  } while (false)

int64_t row_length(Shape shape) {
  int64_t length = 1;
  for (size_t n = 1; n < shape.size(); ++n) length *= shape[n];
  return length;
}

Geometry geometry(Shape x, Shape kernels, Shape y, const Call& call) {
  const int size = kernels[2], stride = call.integer("stride"), dilation = call.integer("dilation");
  return {int(x[0]), int(kernels[1]), int(x[1]), int(x[2]), int(x[3]), int(x[4]),
          int(y[3]), int(y[4]),       size,      stride,    dilation,  dilation * (size - 1) / 2};
}

ConvolutionArguments convolution(const Call& call, const Geometry& geometry, int terms) {
  ConvolutionArguments a{geometry, terms, {}, {}, call.data_if_given(2 * terms), call.result_data(0)};
  for (int n = 0; n < terms; ++n) a.maps[n] = call.data(n), a.kernels[n] = call.data(terms + n);
  return a;
}

// A name for size, stride and dilation.
constexpr int kind(int size, int stride, int dilation) { return 100 * size + 10 * stride + dilation; }

// The operands are images, as many kernels, and the gate if there is one.
void depthwise_forward(Call& call) {
  const int terms = call.num_operands() / 2;
  const Geometry g = geometry(call.shape(0), call.shape(terms), call.result_shape(0), call);
  const ConvolutionArguments a = convolution(call, g, terms);
  const int64_t strips = (g.out_height + kRows - 1) / kRows, images = int64_t(g.sources) * g.batch;
  if (g.channels % 4 == 0) {
    const bool two = g.targets > 1;
    const int64_t rounds = two ? (g.targets + 1) / 2 : 1;
    const Grid grid{blocks_for(images * rounds * strips * g.out_width * (g.channels / 4)), 1, 1};
#define JDARTS_CASE(size, stride, dilation)                                            \
  case kind(size, stride, dilation):                                                   \
    if (two)                                                                           \
      JDARTS_LAUNCH(call, forward_##size##_##stride##_##dilation##_2, grid, a, false); \
    else                                                                               \
      JDARTS_LAUNCH(call, forward_##size##_##stride##_##dilation##_1, grid, a, false); \
    return;
    switch (kind(g.size, g.stride, g.dilation)) { JDARTS_KINDS(JDARTS_CASE) }
#undef JDARTS_CASE
  }
  const auto grid = [&](int v) {
    return Grid{blocks_for(images * g.targets * g.out_height * g.out_width * (g.channels / v)), 1, 1};
  };
  JDARTS_LAUNCH_BY_CHANNELS(call, forward_pixel, g.channels, grid, a, false);
}

void depthwise_input_gradient(Call& call) {
  const int terms = call.num_operands() / 2;
  const Geometry g = geometry(call.result_shape(0), call.shape(terms), call.shape(0), call);
  const ConvolutionArguments a = convolution(call, g, terms);
  const int64_t strips = (g.height + kRows - 1) / kRows, images = int64_t(g.sources) * g.batch;
  if (g.channels % 4 == 0) {
    const Grid grid{blocks_for(images * strips * g.width * (g.channels / 4)), 1, 1};
    switch (kind(g.size, g.stride, g.dilation)) {
      case kind(3, 1, 1):
        JDARTS_LAUNCH(call, back_3_1, grid, a, false);
        return;
      case kind(5, 1, 1):
        JDARTS_LAUNCH(call, back_5_1, grid, a, false);
        return;
      case kind(3, 1, 2):
        JDARTS_LAUNCH(call, back_3_2, grid, a, false);
        return;
      case kind(5, 1, 2):
        JDARTS_LAUNCH(call, back_5_2, grid, a, false);
        return;
    }
  }
  const auto grid = [&](int v) { return Grid{blocks_for(images * g.height * g.width * (g.channels / v)), 1, 1}; };
  JDARTS_LAUNCH_BY_CHANNELS(call, back_pixel, g.channels, grid, a, false);
}

// Sums the chunks of the partial sums, which are a result of the call; what follows the first `first` of them is `rest`.
void add_up(Call& call, void* partials, void* out, void* rest, int chunks, int64_t length, int64_t first, bool narrow) {
  const SumArguments a{partials, out, rest, chunks, int(length), int(first), narrow};
  JDARTS_LAUNCH(call, sum_partials, (Grid{blocks_of_shares(length), 1, 1}), a, true);
}

void add_up(Call& call, void* partials, void* out, int chunks, int64_t length, bool narrow) {
  add_up(call, partials, out, nullptr, chunks, length, length, narrow);
}

// The second result holds partial sums.
void depthwise_kernel_gradient(Call& call) {
  const Geometry g = geometry(call.shape(0), call.result_shape(0), call.shape(1), call);
  const int chunks = call.result_shape(1)[0];
  const KernelGradientArguments a{g, call.data(0), call.data(1), call.data_if_given(2), call.result_data(1), chunks};
  const unsigned z = blocks_of_channels(g.channels), edges = g.sources * g.targets;
  // Two targets a block for the smaller kernels.
  const Grid grid{unsigned(chunks), unsigned(g.sources * (g.size == 3 ? (g.targets + 1) / 2 : g.targets)), z};
#define JDARTS_CASE(size, stride, dilation)                                         \
  case kind(size, stride, dilation):                                                \
    JDARTS_LAUNCH(call, kernel_sums_##size##_##stride##_##dilation, grid, a, true); \
    break;
  switch (kind(g.size, g.stride, g.dilation)) {
    JDARTS_KINDS(JDARTS_CASE)
    default:
      JDARTS_LAUNCH(call, tap_sums, (Grid{unsigned(chunks), edges * g.size * g.size, z}), a, true);
  }
#undef JDARTS_CASE
  add_up(call, call.result_data(1), call.result_data(0), chunks, int64_t(edges) * g.size * g.size * g.channels, true);
}

// y is [S·T, B, H', W', D].
Geometry separable_geometry(Shape x, Shape kernels, Shape y, const Call& call) {
  const int size = kernels[2], stride = call.integer("stride"), dilation = call.integer("dilation");
  return {int(x[0]), int(kernels[1]), int(x[1]), int(x[2]), int(x[3]), int(x[4]),
          int(y[2]), int(y[3]),       size,      stride,    dilation,  dilation * (size - 1) / 2};
}

// Operands and terms of a call: the images, the kernels, the matrices, and the gate if there is one. A term has the number of
// each of its factors.
struct Factors {
  const Call& call;
  ffi::Span<const int64_t> terms;
  int counts[3] = {};

  explicit Factors(const Call& call) : call(call), terms(call.integers("terms")) {
    for (size_t n = 0; n < terms.size(); ++n) counts[n % 3] = std::max(counts[n % 3], 1 + int(terms[n]));
  }

  SeparableArguments arguments(const Geometry& geometry, Shape y) const {
    SeparableArguments a{geometry, int(y[4]), int(terms.size() / 3)};
    for (int n = 0; n < a.terms; ++n) {
      a.images[n] = call.data(terms[3 * n]);
      a.kernels[n] = call.data(counts[0] + terms[3 * n + 1]);
      a.matrices[n] = call.data(counts[0] + counts[1] + terms[3 * n + 2]);
    }
    a.gate = call.data_if_given(counts[0] + counts[1] + counts[2]);
    a.result = call.result_data(0);
    return a;
  }
};

int64_t parts(int64_t all, int64_t size) { return (all + size - 1) / size; }

void separable(Call& call) {
  const Factors factors(call);
  const Geometry g = separable_geometry(call.shape(0), call.shape(factors.counts[0]), call.result_shape(0), call);
  SeparableArguments a = factors.arguments(g, call.result_shape(0));
  a.strips = call.integer("strips");
  a.fours = std::min(a.out / 4, kThreads / a.strips);
  const bool two = g.targets > 1 && factors.counts[2] == 1;
  const int64_t rounds = two ? parts(g.targets, 2) : g.targets, strips = g.batch * parts(g.out_height, kRows) * g.out_width;
  const Grid grid{unsigned(parts(strips, a.strips) * rounds), unsigned(g.sources), unsigned(parts(a.out / 4, a.fours))};
#define JDARTS_CASE(size, stride, dilation)                                             \
  case kind(size, stride, dilation):                                                    \
    if (two)                                                                            \
      JDARTS_LAUNCH(call, separable_##size##_##stride##_##dilation##_2, grid, a, true); \
    else                                                                                \
      JDARTS_LAUNCH(call, separable_##size##_##stride##_##dilation##_1, grid, a, true); \
    return;
  switch (kind(g.size, g.stride, g.dilation)) { JDARTS_KINDS(JDARTS_CASE) }
#undef JDARTS_CASE
}

void launch_separable_back(Call& call, SeparableArguments a) {
  const Geometry& g = a.geometry;
  a.tile_height = call.integer("tile_height");
  a.tile_width = call.integer("tile_width");
  const Grid grid{unsigned(g.batch * parts(g.height, a.tile_height) * parts(g.width, a.tile_width)), unsigned(g.sources), 1};
#define JDARTS_CASE(size, stride, dilation)                                              \
  case kind(size, stride, dilation):                                                     \
    JDARTS_LAUNCH(call, separable_back_##size##_##stride##_##dilation, grid, a, true);   \
    return;
  switch (kind(g.size, g.stride, g.dilation)) { JDARTS_KINDS(JDARTS_CASE) }
#undef JDARTS_CASE
}

void separable_back(Call& call) {
  const Factors factors(call);
  const Geometry g = separable_geometry(call.result_shape(0), call.shape(factors.counts[0]), call.shape(0), call);
  launch_separable_back(call, factors.arguments(g, call.shape(0)));
}

// The operands are x, kernels, matrices, y and the gate if there is one; the fourth result holds partial sums.
void separable_pull(Call& call) {
  const Geometry g = separable_geometry(call.shape(0), call.shape(1), call.shape(3), call);
  const int out = call.shape(3)[4], chunks = call.result_shape(3)[0], edges = g.sources * g.targets;
  void *x = call.data(0), *kernels = call.data(1), *matrices = call.data(2), *y = call.data(3), *partials = call.result_data(3);
  const void* gate = call.data_if_given(4);
  launch_separable_back(call, {g, out, 1, {y}, {kernels}, {matrices}, gate, call.result_data(0)});

  const SeparableWeightsArguments a{g, out, x, kernels, matrices, y, gate, partials, int(call.integer("strips")), chunks};
  const Grid grid{unsigned(chunks), unsigned(edges), unsigned(parts(g.channels / 4 * (out / 4), kThreads))};
#define JDARTS_CASE(size, stride, dilation)                                                     \
  case kind(size, stride, dilation):                                                            \
    JDARTS_LAUNCH(call, separable_weights_##size##_##stride##_##dilation, grid, a, true);       \
    break;
  switch (kind(g.size, g.stride, g.dilation)) { JDARTS_KINDS(JDARTS_CASE) }
#undef JDARTS_CASE
  const int64_t of_kernels = int64_t(edges) * g.size * g.size * g.channels;
  add_up(call, partials, call.result_data(1), call.result_data(2), chunks, of_kernels + int64_t(edges) * g.channels * out,
         of_kernels, true);
}

Stacks stacks_of(const Call& call, int first, int count) {
  Stacks stacks{};
  for (int n = 0; n < count; ++n) stacks.data[n] = call.data(first + n);
  return stacks;
}

// The operands are the table, the weights and the stacks.
void combine(Call& call) {
  Stacks outs{};
  int64_t rows = 0;
  for (int n = 0; n < call.num_results(); ++n) outs.data[n] = call.result_data(n), rows += call.result_shape(n)[0];
  const int channels = call.shape(1)[1];
  const int64_t length = row_length(call.result_shape(0));
  const CombineArguments a{stacks_of(call, 2, call.num_operands() - 2),
                           outs,
                           call.data(1),
                           static_cast<const int*>(call.data(0)),
                           int(rows),
                           channels,
                           length};
  const auto grid = [&](int v) { return Grid{blocks_for(length / v), unsigned(rows), 1}; };
  JDARTS_LAUNCH_BY_CHANNELS(call, combine, channels, grid, a, false);
}

// The operands are the table and the stacks; the second result holds partial sums.
void products(Call& call) {
  const int num_x = call.integer("num_x"), channels = call.result_shape(0)[1], routes = call.result_shape(0)[0];
  const int chunks = call.result_shape(1)[0];
  const ProductsArguments a{stacks_of(call, 1, num_x),
                            stacks_of(call, 1 + num_x, call.num_operands() - 1 - num_x),
                            static_cast<const int*>(call.data(0)),
                            call.result_data(1),
                            routes,
                            chunks,
                            channels,
                            row_length(call.shape(1 + num_x)) / channels};
  const auto grid = [&](int v) { return Grid{unsigned(chunks), unsigned(routes), blocks_of_channels(channels / v)}; };
  JDARTS_LAUNCH_BY_CHANNELS(call, products, channels, grid, a, true);
  add_up(call, call.result_data(1), call.result_data(0), chunks, int64_t(routes) * channels, false);
}

// The stacks are operands from `first` on; the last result holds partial moments.
void launch_moments(Call& call, int first, RunningMoments running) {
  const int last = call.num_results() - 1;
  const int rows = call.result_shape(0)[0], channels = call.result_shape(0)[1], chunks = call.result_shape(last)[0];
  const MomentsArguments a{stacks_of(call, first, call.num_operands() - first),
                           static_cast<const int*>(call.data(0)),
                           call.result_data(last),
                           call.result_data(0),
                           call.result_data(1),
                           running,
                           rows,
                           chunks,
                           channels,
                           row_length(call.shape(first)) / channels};
  const auto grid = [&](int v) { return Grid{unsigned(chunks), unsigned(rows), blocks_of_channels(channels / v)}; };
  JDARTS_LAUNCH_BY_CHANNELS(call, moments, channels, grid, a, true);
  JDARTS_LAUNCH(call, join_moments, (Grid{blocks_of_shares(int64_t(rows) * channels), 1, 1}), a, true);
}

// The operands are the table and the stacks.
void moments(Call& call) { launch_moments(call, 1, {}); }

// The operands are the table, running means and variances, and the stacks.
void running_moments(Call& call) {
  const double momentum = *call.attributes.get<double>("momentum");
  launch_moments(call, 3, {call.data(1), call.data(2), call.result_data(2), call.result_data(3), momentum});
}

PoolArguments pool(const Call& call, Shape x, Shape y) {
  return {call.data(0),  call.result_data(0), nullptr,   nullptr,   int(x[0] * x[1]), int(x[2]), int(x[3]), int(x[4]),
          int(y[2]), int(y[3]),           int(call.integer("stride"))};
}

// For V channels a thread, the blocks that compute the first result.
auto blocks_of_results(const Call& call) {
  const int64_t values = call.result(0).element_count();
  return [=](int v) { return Grid{blocks_for(values / v), 1, 1}; };
}

// The results are the maxima and their places.
void max_pool(Call& call) {
  PoolArguments a = pool(call, call.shape(0), call.result_shape(0));
  a.new_places = static_cast<uint8_t*>(call.result_data(1));
  JDARTS_LAUNCH_BY_CHANNELS(call, max_pool, a.channels, blocks_of_results(call), a, false);
}

void pool_gather(Call& call) {
  PoolArguments a = pool(call, call.shape(0), call.result_shape(0));
  a.places = static_cast<const uint8_t*>(call.data(1));
  JDARTS_LAUNCH_BY_CHANNELS(call, pool_gather, a.channels, blocks_of_results(call), a, false);
}

void pool_scatter(Call& call) {
  PoolArguments a = pool(call, call.result_shape(0), call.shape(0));
  a.places = static_cast<const uint8_t*>(call.data(1));
  JDARTS_LAUNCH_BY_CHANNELS(call, pool_scatter, a.channels, blocks_of_results(call), a, false);
}

void avg_pool(Call& call) {
  const PoolArguments a = pool(call, call.shape(0), call.result_shape(0));
  JDARTS_LAUNCH_BY_CHANNELS(call, avg_pool, a.channels, blocks_of_results(call), a, false);
}

void avg_pool_back(Call& call) {
  const PoolArguments a = pool(call, call.result_shape(0), call.shape(0));
  JDARTS_LAUNCH_BY_CHANNELS(call, avg_pool_back, a.channels, blocks_of_results(call), a, false);
}

int64_t size_of(ffi::AnyBuffer buffer, int64_t rows) { return int64_t(buffer.element_count()) / rows; }

// Copies leaves to their places in a vector, or back, as many at once as the arguments of a launch hold.
void copy_leaves(Call& call, void* vector, int count, bool joined) {
  const int64_t rows = call.integer("rows");
  const auto leaf = [&](int n) { return joined ? call.operand(n) : call.result(n); };
  int64_t total = 0;
  for (int n = 0; n < count; ++n) total += size_of(leaf(n), rows);
  int64_t begin = 0;
  for (int first = 0; first < count; first += kMostLeaves) {
    LeavesArguments a{{}, {begin}, vector, total, std::min(kMostLeaves, count - first), int(rows)};
    int64_t longest = 0;
    for (int n = 0; n < a.count; ++n) {
      const int64_t size = size_of(leaf(first + n), rows);
      a.leaves[n] = leaf(first + n).untyped_data();
      begin += size;
      a.begins[n + 1] = begin;
      longest = std::max(longest, size);
    }
    // Four values a thread: the other threads of a short leaf's row of blocks end at once.
    const Grid grid{blocks_for((longest + 3) / 4), unsigned(a.count), unsigned(rows)};
    if (joined)
      JDARTS_LAUNCH(call, join_leaves, grid, a, false);
    else
      JDARTS_LAUNCH(call, part_leaves, grid, a, false);
  }
}

void join(Call& call) { copy_leaves(call, call.result_data(0), call.num_operands(), true); }

void part(Call& call) { copy_leaves(call, call.data(0), call.num_results(), false); }

template <void (*function)(Call&)>
ffi::Error handle(Stream stream, ffi::RemainingArgs operands, ffi::RemainingRets results, ffi::Dictionary attributes) {
  Call call{stream, operands, results, attributes, ""};
  function(call);
  return call.failure.empty() ? ffi::Error::Success() : ffi::Error::Internal("jdarts: " + call.failure);
}

#ifdef JDARTS_EMULATED
template <void (*function)(Call&)>
ffi::Error handle_emulated(ffi::RemainingArgs operands, ffi::RemainingRets results, ffi::Dictionary attributes) {
  return handle<function>({}, operands, results, attributes);
}
#else
ffi::Error prepare() {
  const std::string failure = Driver::get().prepare();
  return failure.empty() ? ffi::Error::Success() : ffi::Error::Internal("jdarts: " + failure);
}
#endif

}  // namespace

#ifdef JDARTS_EMULATED
#define JDARTS_EXPORT(function)                                       \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(jdarts_##function, handle_emulated<function>, \
                                ffi::Ffi::Bind().RemainingArgs().RemainingRets().Attrs())
#else
#define JDARTS_EXPORT(function)                                                                                    \
  XLA_FFI_DEFINE_HANDLER_SYMBOL(                                                                                   \
      jdarts_##function, handle<function>,                                                                         \
      ffi::Ffi::Bind().Ctx<ffi::PlatformStream<Stream>>().RemainingArgs().RemainingRets().Attrs(),                 \
      {ffi::Traits::kCmdBufferCompatible})
XLA_FFI_DEFINE_HANDLER_SYMBOL(jdarts_prepare, prepare, ffi::Ffi::BindInitialize());

// Loads the compiled device functions. Null, or what went wrong.
extern "C" const char* jdarts_load(const void* image) {
  static thread_local std::string failure;
  failure = Driver::get().load(image);
  return failure.empty() ? nullptr : failure.c_str();
}
#endif

JDARTS_EXPORT(depthwise_forward);
JDARTS_EXPORT(depthwise_input_gradient);
JDARTS_EXPORT(depthwise_kernel_gradient);
JDARTS_EXPORT(separable);
JDARTS_EXPORT(separable_back);
JDARTS_EXPORT(separable_pull);
JDARTS_EXPORT(combine);
JDARTS_EXPORT(products);
JDARTS_EXPORT(moments);
JDARTS_EXPORT(running_moments);
JDARTS_EXPORT(max_pool);
JDARTS_EXPORT(pool_gather);
JDARTS_EXPORT(pool_scatter);
JDARTS_EXPORT(avg_pool);
JDARTS_EXPORT(avg_pool_back);
JDARTS_EXPORT(join);
JDARTS_EXPORT(part);
