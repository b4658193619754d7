// The functions of networks for images as custom calls.
#include "combine.h"
#include "call.h"
#include "compiled_once.h"
#include "depthwise.h"
#include "moments.h"
#include "pointwise.h"
#include "pool.h"
#include "products.h"
#include "separable.h"

namespace {

using jdarts::Geometry;

Geometry geometry(Shape x, Shape kernels, const Call& call) {
  return {x[0], kernels[1], x[1], x[2], x[3], x[4], kernels[2], call.integer("stride"), call.integer("dilation")};
}

// `count` of the operands, from `first` on.
jdarts::Terms<T> terms_of(const Call& call, Index first, Index count) {
  jdarts::Terms<T> terms;
  for (Index n = first; n < first + count; ++n) terms.push_back(call.read(n));
  return terms;
}

// The operands are images, as many kernels, and the gate if there is one.
void depthwise_forward(Call& call) {
  const Index terms = call.num_operands() / 2;
  jdarts::forward<T>(geometry(call.shape(0), call.shape(terms), call), terms_of(call, 0, terms),
                     terms_of(call, terms, terms), call.read_if_given(2 * terms), call.written(0), call.pool);
}

void depthwise_input_gradient(Call& call) {
  const Index terms = call.num_operands() / 2;
  jdarts::input_gradient<T>(geometry(call.result_shape(0), call.shape(terms), call), terms_of(call, 0, terms),
                            terms_of(call, terms, terms), call.read_if_given(2 * terms), call.written(0), call.pool);
}

// The second result holds partial sums.
void depthwise_kernel_gradient(Call& call) {
  jdarts::kernel_gradient<T>(geometry(call.shape(0), call.result_shape(0), call), call.read(0), call.read(1),
                             call.read_if_given(2), call.written(0), call.written(1), call.result_shape(1)[0], call.pool);
}

// `count` of the operands, from `first` on, as stacks.
jdarts::Stacks<const T> stacks_of(const Call& call, Index first, Index count) {
  jdarts::Stacks<const T> stacks;
  for (Index n = first; n < first + count; ++n) stacks.add(call.read(n), call.shape(n)[0]);
  return stacks;
}

const jdarts::Route* routes_of(Integers routes) { return reinterpret_cast<const jdarts::Route*>(routes.begin()); }

// The operands are weights and stacks.
void combine(Call& call) {
  jdarts::Stacks<T> outs;
  for (Index n = 0; n < call.num_results(); ++n) outs.add(call.written(n), call.result_shape(n)[0]);
  const Index length = call.num_results() ? row_length(call.result_shape(0)) : 0;
  const Integers routes = call.integers("routes");
  jdarts::combine<T>(routes_of(routes), routes.size() / 4, call.read(0), stacks_of(call, 1, call.num_operands() - 1), outs,
                     length, call.shape(0)[1], call.pool);
}

void products(Call& call) {
  const Index num_x = call.integer("num_x");
  const Integers routes = call.integers("routes");
  jdarts::products<T>(routes_of(routes), routes.size() / 4, stacks_of(call, 0, num_x),
                      stacks_of(call, num_x, call.num_operands() - num_x), call.written(0), row_length(call.shape(num_x)),
                      call.result_shape(0)[1], call.pool);
}

// The results are mean and variance.
void moments(Call& call) {
  jdarts::moments<T>(stacks_of(call, 0, call.num_operands()), call.written(0), call.written(1), row_length(call.shape(0)),
                     call.result_shape(0)[1], call.pool);
}

// The pixels of an edge's images [edges, …, channels].
Index pixels_of(Shape images) { return images.back() ? row_length(images) / images.back() : 0; }

// One edge's row of a stack.
const T* row_of(const Call& call, Index operand, Index edge) {
  return call.read(operand) + edge * row_length(call.shape(operand));
}

// The operands are images and as many matrices; sums[k] is the result that product k is added to.
void pointwise(Call& call) {
  const Integers sums = call.integers("sums");
  std::vector<jdarts::Edge<T>> edges;
  for (Index q = 0; q < call.num_results(); ++q) {
    const Shape y = call.result_shape(q);
    T* data = call.written(q);
    for (Index e = 0; e < Index(y[0]); ++e) {
      edges.push_back({{}, data + e * row_length(y), pixels_of(y), y.back()});
      for (Index k = 0; k < Index(sums.size()); ++k)
        if (sums[k] == int64_t(q))
          edges.back().products.push_back({row_of(call, k, e), row_of(call, sums.size() + k, e), call.shape(k).back()});
    }
  }
  jdarts::pointwise<T>(edges, call.integer("transposed"), call.pool);
}

// The operands are x and as many y.
void pointwise_gradient(Call& call) {
  std::vector<jdarts::Outer<T>> edges;
  for (Index k = 0; k < call.num_results(); ++k) {
    const Shape x = call.shape(k), y = call.shape(call.num_results() + k), w = call.result_shape(k);
    T* data = call.written(k);
    for (Index e = 0; e < Index(w[0]); ++e)
      edges.push_back({row_of(call, k, e), row_of(call, call.num_results() + k, e), data + e * row_length(w), pixels_of(x),
                       x.back(), y.back()});
  }
  jdarts::pointwise_gradient<T>(edges, call.pool);
}

// The operands are images, kernels and matrices, as many as the terms use, and the gate if there is one.
jdarts::Separable<T> separable_of(const Call& call, Shape x) {
  const Integers numbers = call.integers("terms");
  const auto* first = reinterpret_cast<const jdarts::Triple*>(numbers.begin());
  const std::vector<jdarts::Triple> terms(first, first + numbers.size() / 3);
  Index images = 0, kernels = 0, matrices = 0;
  for (const jdarts::Triple& term : terms) {
    images = std::max<Index>(images, term.image + 1);
    kernels = std::max<Index>(kernels, term.kernels + 1);
    matrices = std::max<Index>(matrices, term.matrix + 1);
  }
  return {geometry(x, call.shape(images), call),
          call.shape(images + kernels).back(),
          terms,
          terms_of(call, 0, images),
          terms_of(call, images, kernels),
          terms_of(call, images + kernels, matrices),
          call.read_if_given(images + kernels + matrices)};
}

void separable(Call& call) {
  jdarts::separable<T>(separable_of(call, call.shape(0)), call.written(0), call.pool);
}

void separable_back(Call& call) {
  jdarts::separable_back<T>(separable_of(call, call.result_shape(0)), {call.written(0), nullptr, nullptr, nullptr},
                            call.pool);
}

// The operands are x, kernels, matrices, y and the gate if there is one.
void separable_pull(Call& call) {
  jdarts::separable_back<T>({geometry(call.shape(0), call.shape(1), call), call.shape(2).back(), {{0, 0, 0}},
                             terms_of(call, 3, 1), terms_of(call, 1, 1), terms_of(call, 2, 1), call.read_if_given(4)},
                            {call.written(0), call.read(0), call.written(1), call.written(2)}, call.pool);
}

jdarts::Windows windows(Shape x, const Call& call) { return {x[0] * x[1], x[2], x[3], x[4], call.integer("stride")}; }

// The results are the maxima and their places.
void max_pool(Call& call) {
  jdarts::max_pool<T>(windows(call.shape(0), call), call.read(0), call.written(0), call.written<uint8_t>(1), call.pool);
}

void pool_gather(Call& call) {
  jdarts::pool_gather<T>(windows(call.shape(0), call), call.read(0), call.read<uint8_t>(1), call.written(0), call.pool);
}

void pool_scatter(Call& call) {
  jdarts::pool_scatter<T>(windows(call.result_shape(0), call), call.read(0), call.read<uint8_t>(1), call.written(0),
                          call.pool);
}

}  // namespace

JDARTS_EXPORT(depthwise_forward);
JDARTS_EXPORT(depthwise_input_gradient);
JDARTS_EXPORT(depthwise_kernel_gradient);
JDARTS_EXPORT(combine);
JDARTS_EXPORT(products);
JDARTS_EXPORT(moments);
JDARTS_EXPORT(pointwise);
JDARTS_EXPORT(pointwise_gradient);
JDARTS_EXPORT(separable);
JDARTS_EXPORT(separable_back);
JDARTS_EXPORT(separable_pull);
JDARTS_EXPORT(max_pool);
JDARTS_EXPORT(pool_gather);
JDARTS_EXPORT(pool_scatter);
