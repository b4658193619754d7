// Compares the native functions with plain loops, with arrays of exact size on the heap and a pool whose
// threads start late or never, for the sanitisers:
//   c++ -std=c++17 -O1 -g -march=native -fsanitize=address,undefined -fno-sanitize-recover=all -pthread
//     -I src/jdarts/native/kernel -I tests tests/native_harness.cc -o harness && ./harness
// and again with -fsanitize=thread.
#include <cmath>
#include <complex>
#include <cstdio>
#include <functional>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "combine.h"
#include "depthwise.h"
#include "highway.h"
#include "leaves.h"
#include "moments.h"
#include "native_harness.h"
#include "pages.h"
#include "pointwise.h"
#include "pool.h"
#include "products.h"
#include "separable.h"

namespace {

using jdarts::Geometry;
using jdarts::Index;

// Calls visit(index in x, index in kernels, index in y) for every product.
template <typename Visit>
void taps(const Geometry& g, const Visit& visit) {
  for (Index s = 0; s < g.sources; ++s)
    for (Index t = 0; t < g.targets; ++t)
      for (Index b = 0; b < g.batch; ++b)
        for (Index r = 0; r < g.out_height(); ++r)
          for (Index w = 0; w < g.out_width(); ++w)
            for (Index i = 0; i < g.size; ++i)
              for (Index j = 0; j < g.size; ++j) {
                const Index row = r * g.stride + i * g.dilation - g.pad();
                const Index column = w * g.stride + j * g.dilation - g.pad();
                if (row < 0 || row >= g.height || column < 0 || column >= g.width) continue;
                for (Index c = 0; c < g.channels; ++c)
                  visit((((s * g.batch + b) * g.height + row) * g.width + column) * g.channels + c,
                        (((s * g.targets + t) * g.size + i) * g.size + j) * g.channels + c,
                        ((((s * g.targets + t) * g.batch + b) * g.out_height() + r) * g.out_width() + w) * g.channels +
                            c);
              }
}

// The three functions, with that many terms, with a gate or without.
template <typename T>
bool check_depthwise(const Geometry& g, Index terms, bool gated, int threads, std::mt19937& generator) {
  const Index images = g.sources * g.batch, kernels = g.sources * g.targets * g.kernel(), chunks = 3;
  std::vector<Array<T>> x, k, y;
  for (Index n = 0; n < terms; ++n) {
    x.push_back(random<T>(images * g.image(), generator));
    k.push_back(random<T>(kernels, generator));
    y.push_back(random<T>(images * g.targets * g.out_image(), generator));
  }
  const auto gate = random<T>(images * g.image(), generator);
  Array<T> x_out(x[0].size), k_out(k[0].size), y_out(y[0].size), partials(chunks * k[0].size);
  std::vector<double> x_sum(x[0].size), k_sum(k[0].size), y_sum(y[0].size);
  taps(g, [&](Index xi, Index ki, Index yi) {
    const double open = !gated || gate.data[xi] > 0;
    for (Index n = 0; n < terms; ++n) {
      y_sum[yi] += open * x[n].data[xi] * k[n].data[ki];
      x_sum[xi] += open * y[n].data[yi] * k[n].data[ki];
    }
    k_sum[ki] += open * x[0].data[xi] * y[0].data[yi];
  });
  auto all = [](const std::vector<Array<T>>& arrays) {
    jdarts::Terms<T> found;
    for (const Array<T>& array : arrays) found.push_back(array.data.get());
    return found;
  };
  {
    Pool pool(threads);
    const T* open = gated ? gate.data.get() : nullptr;
    jdarts::forward<T>(g, all(x), all(k), open, y_out.data.get(), pool);
    jdarts::input_gradient<T>(g, all(y), all(k), open, x_out.data.get(), pool);
    jdarts::kernel_gradient<T>(g, x[0].data.get(), y[0].data.get(), open, k_out.data.get(), partials.data.get(), chunks,
                               pool);
    if (close(y_out, y_sum) && close(x_out, x_sum) && close(k_out, k_sum)) return true;
  }
  std::printf("wrong: S=%td T=%td B=%td H=%td W=%td C=%td k=%td stride=%td dilation=%td %td terms, gate %d, %zu bytes, "
              "%d threads\n",
              g.sources, g.targets, g.batch, g.height, g.width, g.channels, g.size, g.stride, g.dilation, terms, gated,
              sizeof(T), threads);
  return false;
}

// Both functions with several terms, which share factors, and the gradients of one term.
template <typename T>
bool check_separable(const Geometry& g, Index out, bool gated, int threads, std::mt19937& generator) {
  const std::vector<jdarts::Triple> terms{{1, 0, 0}, {0, 1, 0}, {0, 0, 1}, {1, 1, 0}}, first{{0, 0, 0}};
  const Index edges = g.sources * g.targets, pixels = g.batch * g.out_height() * g.out_width(), c = g.channels;
  const Index matrix = c * out;
  std::vector<Array<T>> x, k, w, y;
  for (int n = 0; n < 2; ++n) {
    x.push_back(random<T>(g.sources * g.batch * g.image(), generator));
    k.push_back(random<T>(edges * g.kernel(), generator));
    w.push_back(random<T>(edges * matrix, generator));
    y.push_back(random<T>(edges * pixels * out, generator));
  }
  const auto gate = random<T>(x[0].size, generator);
  const T* open = gated ? gate.data.get() : nullptr;
  const Array<T> y_out(y[0].size), x_out(x[0].size), x_single(x[0].size), k_out(k[0].size), w_out(w[0].size);
  std::vector<double> y_sum(y[0].size), x_sum(x[0].size), x_one(x[0].size), k_sum(k[0].size), w_sum(w[0].size);
  auto plain = [&](const jdarts::Triple& term, std::vector<double>* of_y, std::vector<double>* of_x, bool weights) {
    std::vector<double> middle(edges * pixels * c), back(middle.size());
    const auto &xs = x[term.image].data, &ks = k[term.kernels].data, &ws = w[term.matrix].data, &ys = y[term.image].data;
    auto passes = [&](Index xi) { return !gated || gate.data[xi] > 0; };
    taps(g, [&](Index xi, Index ki, Index mi) { middle[mi] += passes(xi) * double(xs[xi]) * ks[ki]; });
    for (Index e = 0; e < edges; ++e)
      for (Index p = e * pixels; p < (e + 1) * pixels; ++p)
        for (Index i = 0; i < c; ++i)
          for (Index n = 0; n < out; ++n) {
            const Index at = e * matrix + i * out + n;
            back[p * c + i] += double(ys[p * out + n]) * ws[at];
            if (of_y) (*of_y)[p * out + n] += middle[p * c + i] * ws[at];
            if (weights) w_sum[at] += middle[p * c + i] * ys[p * out + n];
          }
    taps(g, [&](Index xi, Index ki, Index mi) {
      (*of_x)[xi] += passes(xi) * back[mi] * ks[ki];
      if (weights) k_sum[ki] += passes(xi) * double(xs[xi]) * back[mi];
    });
  };
  for (const jdarts::Triple& term : terms) plain(term, &y_sum, &x_sum, false);
  plain(first[0], nullptr, &x_one, true);
  auto all = [](const std::vector<Array<T>>& arrays) {
    jdarts::Terms<T> found;
    for (const Array<T>& array : arrays) found.push_back(array.data.get());
    return found;
  };
  {
    Pool pool(threads);
    const Index past_bytes = threads % 2 ? 0 : jdarts::kPastCacheBytes;
    jdarts::separable<T>({g, out, terms, all(x), all(k), all(w), open}, y_out.data.get(), pool, past_bytes);
    jdarts::separable_back<T>({g, out, terms, all(y), all(k), all(w), open}, {x_out.data.get(), nullptr, nullptr, nullptr},
                              pool);
    jdarts::separable_back<T>({g, out, first, all(y), all(k), all(w), open},
                              {x_single.data.get(), x[0].data.get(), k_out.data.get(), w_out.data.get()}, pool);
    if (close(y_out, y_sum) && close(x_out, x_sum) && close(x_single, x_one) && close(k_out, k_sum) &&
        close(w_out, w_sum))
      return true;
  }
  std::printf("wrong separable: S=%td T=%td B=%td H=%td W=%td C=%td D=%td k=%td stride=%td dilation=%td gate %d, %zu bytes, "
              "%d threads\n",
              g.sources, g.targets, g.batch, g.height, g.width, c, out, g.size, g.stride, g.dilation, gated, sizeof(T),
              threads);
  return false;
}

// Stacks of random rows, or of rows to be written.
template <typename T>
struct Rows {
  Rows(const std::vector<Index>& sizes, Index length, std::mt19937* generator) : length(length) {
    for (Index size : sizes) {
      arrays.push_back(generator ? random<T>(size * length, *generator) : Array<T>(size * length));
      first.push_back(first.back() + size);
    }
  }
  template <typename Element>
  jdarts::Stacks<Element> stacks() const {
    jdarts::Stacks<Element> found;
    for (size_t k = 0; k < arrays.size(); ++k) found.add(arrays[k].data.get(), first[k + 1] - first[k]);
    return found;
  }
  double at(Index stack, Index row, Index q) const { return arrays[stack].data[row * length + q]; }
  Index length;
  std::vector<Array<T>> arrays;
  std::vector<Index> first{0};
};

template <typename T>
bool check_routes(Index channels, Index pixels, int threads, std::mt19937& generator) {
  const std::vector<Index> sizes{2, 0, 5}, out_sizes{1, 3};
  const Index length = channels * pixels, count = 25, rows = 7;
  const Rows<T> x(sizes, length, &generator), y(out_sizes, length, &generator), out(out_sizes, length, nullptr);
  const auto weights = random<T>(count * channels, generator);
  const Array<T> dots(count * channels), mean(rows * channels), variance(rows * channels);
  std::vector<jdarts::Route> routes;
  for (Index r = 0; r < count; ++r) {
    const int64_t from = r % 3 == 1 ? jdarts::kOnes : r % 3, to = generator() % 2;
    const int64_t row = from < 0 ? 0 : generator() % sizes[from];
    routes.push_back({from, row, to, to == 0 ? 0 : int64_t(generator() % 2)});  // none to the last row
  }
  std::vector<std::vector<double>> sum;
  for (Index size : out_sizes) sum.emplace_back(size * length);
  std::vector<double> dot(count * channels), average(rows * channels), spread(rows * channels);
  for (Index r = 0; r < count; ++r)
    for (Index q = 0; q < length; ++q) {
      const auto [k, i, to, j] = routes[r];
      const double value = k < 0 ? 1 : x.at(k, i, q);
      sum[to][j * length + q] += weights.data[r * channels + q % channels] * value;
      dot[r * channels + q % channels] += value * y.at(to, j, q);
    }
  for (Index k = 0, row = 0; k < 3; ++k)
    for (Index i = 0; i < sizes[k]; ++i, ++row) {
      double* m = &average[row * channels];
      double* v = &spread[row * channels];
      for (Index q = 0; q < length; ++q) m[q % channels] += x.at(k, i, q) / pixels;
      for (Index q = 0; q < length; ++q) v[q % channels] += std::pow(x.at(k, i, q) - m[q % channels], 2) / pixels;
    }
  {
    Pool pool(threads);
    const auto xs = x.template stacks<const T>(), ys = y.template stacks<const T>();
    const Index past_bytes = threads % 2 ? 0 : jdarts::kPastCacheBytes;
    jdarts::combine<T>(routes.data(), count, weights.data.get(), xs, out.template stacks<T>(), length, channels, pool,
                       past_bytes);
    jdarts::products<T>(routes.data(), count, xs, ys, dots.data.get(), length, channels, pool);
    jdarts::moments<T>(xs, mean.data.get(), variance.data.get(), length, channels, pool);
    if (close(out.arrays[0], sum[0]) && close(out.arrays[1], sum[1]) && close(dots, dot) &&
        (pixels == 0 || (close(mean, average) && close(variance, spread)))) {
      if (pixels == 0 || x.arrays[0].size == 0) return true;
      // An infinite value is the mean of its channel, which has no variance; the other channels stay.
      x.arrays[0].data[length - channels] = T(INFINITY);
      const T before = mean.data[channels - 1];
      jdarts::moments<T>(xs, mean.data.get(), variance.data.get(), length, channels, pool);
      if (mean.data[0] == T(INFINITY) && std::isnan(variance.data[0]) &&
          (channels == 1 || mean.data[channels - 1] == before))
        return true;
    }
  }
  std::printf("wrong routes: C=%td pixels=%td %zu bytes, %d threads\n", channels, pixels, sizeof(T), threads);
  return false;
}

template <typename T>
bool check_pool(const jdarts::Windows& g, int threads, std::mt19937& generator) {
  const auto x = random<T>(g.images * g.image(), generator), ct = random<T>(g.images * g.out_image(), generator);
  const Array<T> y(ct.size), gathered(ct.size), scattered(x.size);
  const Array<uint8_t> places(ct.size);
  for (Index e = 0; e < x.size; ++e) x.data[e] = std::round(x.data[e]);  // for equals
  if (g.images > 1) std::fill_n(x.data.get(), g.image(), T(-INFINITY));
  {
    Pool pool(threads);
    jdarts::max_pool<T>(g, x.data.get(), y.data.get(), places.data.get(), pool);
    jdarts::pool_gather<T>(g, x.data.get(), places.data.get(), gathered.data.get(), pool);
    jdarts::pool_scatter<T>(g, ct.data.get(), places.data.get(), scattered.data.get(), pool);
  }
  bool right = true;
  std::vector<double> sums(x.size);
  for (Index e = 0; e < ct.size; ++e) {
    const Index c = e % g.channels, w = e / g.channels % g.out_width();
    const Index r = e / g.channels / g.out_width() % g.out_height(), image = e / g.out_image();
    Index best = -1, place = -1;
    for (Index p = 0; p < 9; ++p) {
      const Index row = r * g.stride + p / 3 - 1, column = w * g.stride + p % 3 - 1;
      if (row < 0 || row >= g.height || column < 0 || column >= g.width) continue;
      const Index at = ((image * g.height + row) * g.width + column) * g.channels + c;
      if (best < 0 || x.data[at] > x.data[best]) best = at, place = p;
    }
    sums[best] += ct.data[e];
    right &= y.data[e] == x.data[best] && gathered.data[e] == x.data[best] && places.data[e] == place;
  }
  if (right && close(scattered, sums)) return true;
  std::printf("wrong pool: images=%td H=%td W=%td C=%td stride=%td %zu bytes, %d threads\n", g.images, g.height, g.width,
              g.channels, g.stride, sizeof(T), threads);
  return false;
}

// Every edge is a sum of two products, the second of which reads images with another number of channels.
template <typename T>
bool check_pointwise(Index in, Index out, Index pixels, int threads, std::mt19937& generator) {
  constexpr Index count = 3;
  const Index widths[] = {in, in / 2 + 1};
  const auto ct = random<T>(count * pixels * out, generator);
  const Array<T> y(ct.size), again(ct.size);
  std::vector<double> products(y.size);
  std::vector<jdarts::Edge<T>> plain, turned_round;
  for (Index e = 0; e < count; ++e) {
    plain.push_back({{}, y.data.get() + e * pixels * out, pixels, out});
    turned_round.push_back({{}, again.data.get() + e * pixels * out, pixels, out});
  }
  std::vector<Array<T>> kept;
  std::vector<std::vector<double>> sums;
  std::vector<jdarts::Outer<T>> outer;
  std::vector<size_t> gradients;
  for (const Index width : widths) {
    auto x = random<T>(count * pixels * width, generator), w = random<T>(count * width * out, generator);
    Array<T> turned(w.size), gradient(w.size);
    sums.emplace_back(w.size);
    for (Index e = 0; e < count; ++e) {
      for (Index k = 0; k < width; ++k)
        for (Index n = 0; n < out; ++n) {
          const Index at = (e * width + k) * out + n;
          turned.data[(e * out + n) * width + k] = w.data[at];
          for (Index p = e * pixels; p < (e + 1) * pixels; ++p) {
            products[p * out + n] += double(x.data[p * width + k]) * w.data[at];
            sums.back()[at] += double(x.data[p * width + k]) * ct.data[p * out + n];
          }
        }
      const T* of_x = x.data.get() + e * pixels * width;
      plain[e].products.push_back({of_x, w.data.get() + e * width * out, width});
      turned_round[e].products.push_back({of_x, turned.data.get() + e * width * out, width});
      outer.push_back({of_x, ct.data.get() + e * pixels * out, gradient.data.get() + e * width * out, pixels, width, out});
    }
    gradients.push_back(kept.size() + 3);
    for (Array<T>* array : {&x, &w, &turned, &gradient}) kept.push_back(std::move(*array));
  }
  {
    Pool pool(threads);
    const Index past_bytes = threads % 2 ? 0 : jdarts::kPastCacheBytes;
    jdarts::pointwise<T>(plain, false, pool, past_bytes);
    jdarts::pointwise<T>(turned_round, true, pool, past_bytes);
    jdarts::pointwise_gradient<T>(outer, pool);
    if (close(y, products) && close(again, products) && close(kept[gradients[0]], sums[0]) &&
        close(kept[gradients[1]], sums[1]))
      return true;
  }
  std::printf("wrong pointwise: %td to %td channels, %td pixels, %zu bytes, %d threads\n", in, out, pixels, sizeof(T),
              threads);
  return false;
}

// One element of a highway update with mixed activations, and its derivatives times d.
struct Update {
  using Number = std::complex<double>;
  Number out, of_weights[4], of_state, of_gate, of_candidate;

  Update(const Number* q, Number s, Number c, Number g, Number d) {
    const Number one = 1, gate = one / (one + std::exp(-c)), logistic = one / (one + std::exp(-g)), tanh = std::tanh(g);
    const bool positive = g.real() > 0;
    const Number values[] = {tanh, positive ? g : 0, logistic, g};
    const Number slopes[] = {one - tanh * tanh, positive ? 1 : 0, logistic * (one - logistic), one};
    Number mixed = 0, slope = 0, all = 0;
    for (int f = 0; f < 4; ++f) {
      mixed += q[f] * values[f], slope += q[f] * slopes[f], all += q[f];
      of_weights[f] = d * (s + gate * (values[f] - s));
    }
    out = all * s + gate * (mixed - all * s);
    of_state = d * all * (one - gate);
    of_gate = d * gate * (one - gate) * (mixed - all * s);
    of_candidate = d * gate * slope;
  }
};

// Second derivatives are imaginary parts: the first ones, a tiny imaginary step along the cotangents away.
template <typename T>
bool check_highway(Index predecessors, Index length, int threads, std::mt19937& generator) {
  const Index all = predecessors * length, mixtures = 4 * predecessors;
  const auto q = random<T>(mixtures, generator), tq = random<T>(mixtures, generator);
  const auto s = random<T>(all, generator), c = random<T>(all, generator), g = random<T>(all, generator);
  const auto ts = random<T>(all, generator), tc = random<T>(all, generator), tg = random<T>(all, generator);
  const auto d = random<T>(length, generator);
  for (Index e = 0; e < all; e += 7) c.data[e] *= 100, g.data[all - 1 - e] *= 100;
  const Array<T> out(length), of_d(length), of_q(mixtures), of_s(all), of_c(all), of_g(all);
  const Array<T> second_q(mixtures), second_s(all), second_c(all), second_g(all);
  std::vector<double> outs(length), turned_d(length), weights(mixtures), turned_q(mixtures);
  std::vector<double> states(all), gates(all), candidates(all), turned_s(all), turned_c(all), turned_g(all);
  const double step = 1e-100;
  for (Index p = 0; p < predecessors; ++p)
    for (Index e = 0; e < length; ++e) {
      Update::Number mixture[4];
      for (int f = 0; f < 4; ++f) mixture[f] = {double(q.data[4 * p + f]), step * tq.data[4 * p + f]};
      const Index at = p * length + e;
      const Update update(mixture, {double(s.data[at]), step * ts.data[at]}, {double(c.data[at]), step * tc.data[at]},
                          {double(g.data[at]), step * tg.data[at]}, double(d.data[e]));
      outs[e] += update.out.real(), turned_d[e] += update.out.imag() / step;
      states[at] = update.of_state.real(), turned_s[at] = update.of_state.imag() / step;
      gates[at] = update.of_gate.real(), turned_c[at] = update.of_gate.imag() / step;
      candidates[at] = update.of_candidate.real(), turned_g[at] = update.of_candidate.imag() / step;
      for (int f = 0; f < 4; ++f) {
        weights[4 * p + f] += update.of_weights[f].real();
        turned_q[4 * p + f] += update.of_weights[f].imag() / step;
      }
    }
  {
    Pool pool(threads);
    jdarts::mixed_highway<T>(predecessors, length, q.data.get(), s.data.get(), c.data.get(), g.data.get(),
                             out.data.get(), pool);
    jdarts::mixed_highway_backward<T>(predecessors, length, q.data.get(), s.data.get(), c.data.get(), g.data.get(),
                                      d.data.get(), of_q.data.get(), of_s.data.get(), of_c.data.get(), of_g.data.get(),
                                      pool);
    jdarts::mixed_highway_second<T>(predecessors, length, q.data.get(), s.data.get(), c.data.get(), g.data.get(),
                                    d.data.get(), tq.data.get(), ts.data.get(), tc.data.get(), tg.data.get(),
                                    second_q.data.get(), second_s.data.get(), second_c.data.get(), second_g.data.get(),
                                    of_d.data.get(), pool);
    if (close(out, outs) && close(of_q, weights) && close(of_s, states) && close(of_c, gates) &&
        close(of_g, candidates) && close(of_d, turned_d) && close(second_q, turned_q) && close(second_s, turned_s) &&
        close(second_c, turned_c) && close(second_g, turned_g))
      return true;
  }
  std::printf("wrong highway: %td predecessors, %td numbers, %zu bytes, %d threads\n", predecessors, length, sizeof(T),
              threads);
  return false;
}

// Large pages may be asked for anywhere: in one's own memory, in a small piece of it, at any address, again.
void ask_for_large_pages() {
  Array<char> large(5 << 20);
  for (Index offset : {0, 1, 4095, 1 << 20}) jdarts::prefer_large_pages(large.data.get() + offset, (3 << 20) + offset % 7);
  jdarts::prefer_large_pages(large.data.get(), 100);
  jdarts::prefer_large_pages(nullptr, 0);
}

// Rows of matrices side by side, and taken apart again.
template <typename T>
bool check_join(const std::vector<Index>& lengths, Index lanes, int threads, std::mt19937& generator) {
  std::vector<Array<T>> rows, again;
  std::vector<jdarts::Part> parts, parts_again;
  Index row = 0;
  for (Index length : lengths) {
    rows.push_back(random<T>(lanes * length, generator));
    again.push_back(Array<T>(lanes * length));
    parts.push_back({reinterpret_cast<char*>(rows.back().data.get()), Index(length * sizeof(T))});
    parts_again.push_back({reinterpret_cast<char*>(again.back().data.get()), Index(length * sizeof(T))});
    row += length;
  }
  Array<T> whole(lanes * row);
  Pool pool(threads);
  jdarts::join(parts, reinterpret_cast<char*>(whole.data.get()), lanes, false, pool);
  jdarts::join(parts_again, reinterpret_cast<char*>(whole.data.get()), lanes, true, pool);
  bool right = true;
  Index place = 0;
  for (size_t n = 0; n < lengths.size(); place += lengths[n++])
    for (Index lane = 0; lane < lanes; ++lane)
      for (Index i = 0; i < lengths[n]; ++i) {
        const T expected = rows[n].data[lane * lengths[n] + i];
        right &= whole.data[lane * row + place + i] == expected && again[n].data[lane * lengths[n] + i] == expected;
      }
  return right;
}

}  // namespace

int main() {
  std::mt19937 generator(0);
  bool right = true;
  int cases = 0;
  const Index images[][2] = {{1, 1}, {5, 4}, {4, 9}, {13, 6}, {17, 3}};
  for (Index size : {1, 3, 5, 7, 9})
    for (Index stride : {1, 2})
      for (Index dilation : {1, 2})
        for (auto [height, width] : images)
          for (Index channels : {1, 3, 4, 16, 17, 32}) {
            const Geometry g{2, 1 + cases % 3, 2, height, width, channels, size, stride, dilation};
            right &= check_depthwise<float>(g, 1 + cases % 2, cases % 3, 1 + cases % 4, generator) &&
                     check_depthwise<double>(g, 1 + cases % 3, cases % 2, 1 + cases % 4, generator);
            ++cases;
          }
  for (Index size : {1, 3, 5, 7})
    for (Index stride : {1, 2})
      for (Index dilation : {1, 2})
        for (auto [height, width] : images)
          for (auto [channels, out] : {std::pair<Index, Index>{1, 3}, {3, 16}, {16, 16}, {17, 5}, {32, 48}}) {
            const Geometry g{1 + cases % 2, 1 + cases % 5, 2, height, width, channels, size, stride, dilation};
            right &= check_separable<float>(g, out, cases % 3, 1 + cases % 4, generator) &&
                     check_separable<double>(g, out, cases % 2, 1 + cases % 4, generator);
            ++cases;
          }
  right &= check_separable<double>({1, 3, 2, 64, 40, 48, 5, 1, 2}, 48, true, 4, generator);
  right &= check_separable<double>({1, 3, 2, 64, 40, 48, 5, 2, 1}, 32, true, 4, generator);
  right &= check_separable<double>({2, 1, 0, 8, 8, 4, 3, 1, 1}, 4, true, 4, generator);
  right &= check_separable<double>({2, 0, 2, 8, 8, 4, 3, 1, 1}, 4, true, 4, generator);
  // Enough work for several threads, and more than one band an image.
  right &= check_depthwise<float>({1, 3, 2, 64, 40, 48, 5, 1, 2}, 2, true, 4, generator);
  right &= check_depthwise<float>({1, 3, 2, 64, 40, 48, 5, 2, 1}, 2, true, 4, generator);
  right &= check_depthwise<double>({2, 1, 0, 8, 8, 4, 3, 1, 1}, 2, true, 4, generator);
  for (Index channels : {1, 3, 4, 8, 16, 17, 32, 40, 64, 100})
    for (Index pixels : {0, 1, 2, 7, 16, 50, 513, 3000}) {
      right &= check_routes<float>(channels, pixels, 1 + cases % 4, generator) &&
               check_routes<double>(channels, pixels, 1 + cases % 4, generator);
      ++cases;
    }
  for (auto [in, out] : {std::pair<Index, Index>{1, 1}, {3, 5}, {16, 16}, {17, 8}, {36, 36}, {48, 80}, {64, 130}})
    for (Index pixels : {0, 1, 7, 13, 300, 1500}) {
      right &= check_pointwise<float>(in, out, pixels, 1 + cases % 4, generator) &&
               check_pointwise<double>(in, out, pixels, 1 + cases % 4, generator);
      ++cases;
    }
  for (Index predecessors : {0, 1, 2, 5, 8})
    for (Index length : {0, 1, 3, 16, 17, 33, 1000, 2048, 2049, 6145}) {
      right &= check_highway<float>(predecessors, length, 1 + cases % 4, generator) &&
               check_highway<double>(predecessors, length, 1 + cases % 4, generator);
      ++cases;
    }
  for (const auto& lengths : std::vector<std::vector<Index>>{{5}, {0, 3, 1, 0}, {700, 1, 16, 0, 33}})
    for (Index lanes : {0, 1, 3}) {
      right &= check_join<float>(lengths, lanes, 1 + cases % 4, generator) &&
               check_join<double>(lengths, lanes, 1 + cases % 4, generator);
      ++cases;
    }
  ask_for_large_pages();
  for (Index stride : {1, 2})
    for (auto [height, width] : images)
      for (Index channels : {1, 3, 8, 16, 17, 33}) {
        right &= check_pool<float>({3, height, width, channels, stride}, 1 + cases % 4, generator) &&
                 check_pool<double>({1, height, width, channels, stride}, 1 + cases % 4, generator);
        ++cases;
      }
  right &= check_pool<float>({6, 65, 63, 24, 2}, 4, generator) && check_pool<float>({6, 64, 64, 16, 1}, 4, generator);
  std::printf("%d cases %s\n", cases + 9, right ? "right" : "WRONG");
  return right ? 0 : 1;
}
