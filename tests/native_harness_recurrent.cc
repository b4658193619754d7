// The native functions of recurrent networks beside plain loops and finite differences, for the sanitisers: commands as in
// native_harness.cc.
#include <cstdio>

#include "cell.h"
#include "cell_backward.h"
#include "cell_tangent.h"
#include "dropped.h"
#include "native_harness.h"

namespace {

using Values = std::vector<double>;

double logistic(double x) { return 1 / (1 + std::exp(-x)); }

template <typename T>
Values doubles(const Array<T>& a) {
  return Values(a.data.get(), a.data.get() + a.size);
}

template <typename T>
Array<T> as(const Values& values) {
  Array<T> a(values.size());
  for (Index i = 0; i < a.size; ++i) a.data[i] = T(values[i]);
  return a;
}

Values normal(Index size, double scale, std::mt19937& generator) {
  std::normal_distribution<double> distribution;
  Values values(size);
  for (double& value : values) value = scale * distribution(generator);
  return values;
}

// Arguments of the cell in order: mixture, recurrent, matrices, projected, hidden, mask.
struct Case {
  Index steps, batch, width, nodes, length;
  std::vector<std::int64_t> concat;
  std::vector<Values> inputs;

  Case(Index steps, Index batch, Index width, Index nodes, Index length, std::mt19937& generator)
      : steps(steps), batch(batch), width(width), nodes(nodes), length(length) {
    for (Index n = nodes; n > nodes / 2; --n) concat.push_back(n);
    inputs = {normal(nodes * (nodes + 1) / 2 * 4, 1, generator),       normal(width * 2 * width, 0.5, generator),
              normal(nodes * width * 2 * width, 0.5, generator),       normal(steps * batch * 2 * width, 1, generator),
              normal(batch * width, 1, generator),                     normal(batch * width, 1, generator)};
    for (size_t n = 0; n < inputs[5].size(); n += 3) inputs[5][n] = 0;
  }
  jdarts::Cell cell() const { return {steps, batch, width, nodes, length, concat.data(), Index(concat.size())}; }

  // Outputs, last, means, variances.
  std::vector<Values> plain(const std::vector<Values>& in) const {
    const Index B = batch, H = width;
    std::vector<Values> out(4);
    Values hidden = in[4];
    for (Index t = 0; t < steps; ++t) {
      std::vector<Values> states;
      for (Index i = 0; i <= nodes; ++i) {
        Values raw(B * H, 0.0);
        const Index predecessors = std::max<Index>(i, 1);
        for (Index p = 0; p < predecessors; ++p) {
          const Values& from = i == 0 ? hidden : states[p];
          const double* matrix = i == 0 ? in[1].data() : in[2].data() + (i - 1) * H * 2 * H;
          const double* q = in[0].data() + (i * (i - 1) / 2 + p) * 4;
          for (Index b = 0; b < B; ++b)
            for (Index h = 0; h < H; ++h) {
              double c = i ? 0 : in[3][(t * B + b) * 2 * H + h], g = i ? 0 : in[3][(t * B + b) * 2 * H + H + h];
              for (Index k = 0; k < H; ++k) {
                const double x = from[b * H + k] * in[5][b * H + k];
                c += x * matrix[k * 2 * H + h];
                g += x * matrix[k * 2 * H + H + h];
              }
              const double s = from[b * H + h], f[] = {std::tanh(g), std::max(g, 0.0), logistic(g), g};
              if (i == 0) raw[b * H + h] = s + logistic(c) * (f[0] - s);
              for (int k = 0; i && k < 4; ++k) raw[b * H + h] += q[k] * (s + logistic(c) * (f[k] - s));
            }
        }
        for (Index h = 0; h < H; ++h) {
          double mean = 0, variance = 0;
          for (Index b = 0; b < B; ++b) mean += raw[b * H + h] / B;
          for (Index b = 0; b < B; ++b) variance += (raw[b * H + h] - mean) * (raw[b * H + h] - mean) / B;
          for (Index b = 0; b < B; ++b) raw[b * H + h] = (raw[b * H + h] - mean) / std::sqrt(variance + 1e-5);
          out[2].push_back(mean);
          out[3].push_back(variance);
        }
        states.push_back(raw);
      }
      Values output(B * H, 0.0);
      for (auto state : concat)
        for (Index n = 0; n < B * H; ++n) output[n] += states[state][n] / concat.size();
      out[0].insert(out[0].end(), output.begin(), output.end());
      if (t < length) hidden = output;
    }
    out[1] = hidden;
    return out;
  }
};

template <typename T>
bool near(const Array<T>& a, const Values& expected, double tolerance) {
  for (Index i = 0; i < a.size; ++i)
    if (!(std::abs(a.data[i] - expected[i]) <= tolerance * (1 + std::abs(expected[i])))) return false;
  return a.size == Index(expected.size());
}

// What the cell's functions give at some inputs and cotangents: results, then cotangents of the inputs.
template <typename T>
struct Passes {
  std::vector<Array<T>> in, of, out, kept, found;
  Array<T> states;
  jdarts::CellKept<T> writes;

  Passes(const Case& c, const std::vector<Values>& inputs, const std::vector<Values>& cotangents) : states(sizes(c)[0]) {
    for (const Values& values : inputs) in.push_back(as<T>(values));
    for (const Values& values : cotangents) of.push_back(as<T>(values)), out.emplace_back(values.size());
    for (int n = 0; n < 5; ++n) found.emplace_back(inputs[n].size());
    for (Index size : sizes(c)) kept.emplace_back(size);
    writes = {kept[0].data.get(), kept[1].data.get(), kept[2].data.get()};
  }
  static std::vector<Index> sizes(const Case& c) {
    const Index W = jdarts::filled<T>(c.width), norms = c.steps * (c.nodes + 1);
    return {norms * c.batch * W, c.steps * c.cell().rows() * 2 * W, norms * W};
  }
  jdarts::CellPass<T> pass() const {
    return {{in[0].data.get(), in[1].data.get(), in[2].data.get(), in[3].data.get(), in[4].data.get(), in[5].data.get()},
            out[0].data.get(),
            {writes.states, writes.products, writes.scales},
            {of[0].data.get(), of[1].data.get(), of[2].data.get(), of[3].data.get()}};
  }
  jdarts::CellGradients<T> gradients(bool matrices) {
    jdarts::CellGradients<T> to = {found[0].data.get(), found[3].data.get(), found[4].data.get()};
    if (matrices) to.recurrent = found[1].data.get(), to.matrices = found[2].data.get();
    return to;
  }
  void run(const Case& c, Pool& pool) {
    const jdarts::CellPass<T> x = pass();
    jdarts::search_cell<T>(c.cell(), x.in, out[0].data.get(), out[1].data.get(), out[2].data.get(), out[3].data.get(),
                           writes, pool);
    jdarts::CellGradients<T> to = gradients(true);
    to.states = states.data.get();
    jdarts::search_cell_backward<T>(c.cell(), x.in, x.outputs, x.kept, x.of, to, pool);
  }
};

// Tangents beside central differences in double: those of results, and of gradients with the matrices' and without.
template <typename T>
bool check_tangents(const Case& c, int threads, std::mt19937& generator) {
  // A longer step would meet the kink of a ReLU.
  const double step = 1e-8, tolerance = sizeof(T) == 4 ? 1e-2 : 1e-5;
  std::vector<Values> cotangents, d_inputs, d_cotangents;
  for (const Values& values : c.plain(c.inputs)) cotangents.push_back(normal(values.size(), 1, generator));
  for (const Values& values : c.inputs) d_inputs.push_back(normal(values.size(), 1, generator));
  for (const Values& values : cotangents) d_cotangents.push_back(normal(values.size(), 1, generator));
  std::fill(d_inputs[5].begin(), d_inputs[5].end(), 0.0);
  Pool pool(threads);
  Passes<T> here(c, c.inputs, cotangents), tangents(c, d_inputs, d_cotangents);
  here.run(c, pool);
  const auto moved = [&](double sign) {
    std::vector<Values> inputs = c.inputs, of = cotangents;
    for (size_t n = 0; n < inputs.size(); ++n)
      for (size_t i = 0; i < inputs[n].size(); ++i) inputs[n][i] += sign * step * d_inputs[n][i];
    for (size_t n = 0; n < of.size(); ++n)
      for (size_t i = 0; i < of[n].size(); ++i) of[n][i] += sign * step * d_cotangents[n][i];
    Passes<double> there(c, inputs, of);
    there.run(c, pool);
    return there;
  };
  const Passes<double> plus = moved(1), minus = moved(-1);
  const auto agrees = [&](const std::vector<Array<T>>& found, const std::vector<Array<double>>& a,
                          const std::vector<Array<double>>& b, bool all) {
    for (size_t n = 0; n < found.size(); ++n) {
      if (!all && (n == 1 || n == 2)) continue;
      double size = 1;
      for (Index i = 0; i < a[n].size; ++i) size = std::max(size, std::abs(a[n].data[i] - b[n].data[i]) / (2 * step));
      for (Index i = 0; i < a[n].size; ++i)
        if (!(std::abs(found[n].data[i] - (a[n].data[i] - b[n].data[i]) / (2 * step)) <= tolerance * size)) return false;
    }
    return true;
  };
  const jdarts::CellPass<T> x = here.pass(), dx = tangents.pass();
  jdarts::search_cell_tangent<T>(c.cell(), x.in, x.outputs, x.kept, {dx.in.mixture, dx.in.recurrent, dx.in.matrices,
                                 dx.in.projected, dx.in.hidden, x.in.mask}, tangents.out[0].data.get(),
                                 tangents.out[1].data.get(), tangents.out[2].data.get(), tangents.out[3].data.get(),
                                 tangents.writes, pool);
  bool right = agrees(tangents.out, plus.out, minus.out, true);
  for (bool matrices : {false, true}) {
    jdarts::search_cell_backward_tangent<T>(c.cell(), x, here.states.data.get(), dx, tangents.gradients(matrices), pool);
    right &= agrees(tangents.found, plus.found, minus.found, matrices);
  }
  if (!right)
    std::printf("wrong tangents: T=%td B=%td H=%td N=%td length=%td, %zu bytes, %d threads\n", c.steps, c.batch, c.width,
                c.nodes, c.length, sizeof(T), threads);
  return right;
}

template <typename T>
bool check_cell(const Case& c, int threads, std::mt19937& generator) {
  const double exact = sizeof(T) == 4 ? 2e-3 : 1e-9;
  const std::vector<Values> expected = c.plain(c.inputs);
  std::vector<Array<T>> in, out, weights;
  for (const Values& values : c.inputs) in.push_back(as<T>(values));
  std::vector<Values> cotangents;
  for (const Values& values : expected) {
    out.emplace_back(values.size());
    cotangents.push_back(normal(values.size(), 1, generator));
    weights.push_back(as<T>(cotangents.back()));
  }
  const jdarts::Cell cell = c.cell();
  const jdarts::CellInputs<T> inputs = {in[0].data.get(), in[1].data.get(), in[2].data.get(),
                                        in[3].data.get(), in[4].data.get(), in[5].data.get()};
  const Index W = jdarts::filled<T>(c.width);
  Array<T> states(c.steps * (c.nodes + 1) * c.batch * W), products(c.steps * cell.rows() * 2 * W),
      scales(c.steps * (c.nodes + 1) * W);
  bool right = true;
  Pool pool(threads);
  jdarts::search_cell<T>(cell, inputs, out[0].data.get(), out[1].data.get(), out[2].data.get(), out[3].data.get(),
                         {states.data.get(), products.data.get(), scales.data.get()}, pool);
  for (int n = 0; n < 4; ++n) right &= near(out[n], expected[n], exact);

  std::vector<Array<T>> found;
  for (int n = 0; n < 5; ++n) found.emplace_back(c.inputs[n].size());
  for (bool matrices : {false, true}) {
    jdarts::CellGradients<T> to = {found[0].data.get(), found[3].data.get(), found[4].data.get()};
    if (matrices) to.recurrent = found[1].data.get(), to.matrices = found[2].data.get();
    jdarts::search_cell_backward<T>(cell, inputs, out[0].data.get(),
                                    {states.data.get(), products.data.get(), scales.data.get()},
                                    {weights[0].data.get(), weights[1].data.get(), weights[2].data.get(),
                                     weights[3].data.get()},
                                    to, pool);
    for (int n = 0; n < 5; ++n) {
      if (!matrices && (n == 1 || n == 2)) continue;
      // Along one random direction of each argument.
      const Values direction = normal(c.inputs[n].size(), 1, generator);
      double told = 0, seen = 0, size = 1;
      for (size_t i = 0; i < direction.size(); ++i) told += direction[i] * found[n].data[i];
      for (int sign : {1, -1}) {
        std::vector<Values> moved = c.inputs;
        for (size_t i = 0; i < direction.size(); ++i) moved[n][i] += sign * 1e-7 * direction[i];
        const std::vector<Values> there = c.plain(moved);
        for (int k = 0; k < 4; ++k)
          for (size_t i = 0; i < there[k].size(); ++i)
            seen += sign * cotangents[k][i] * (there[k][i] - expected[k][i]) / 2e-7;
      }
      for (size_t i = 0; i < direction.size(); ++i) size += std::abs(direction[i] * found[n].data[i]);
      right &= std::abs(told - seen) <= (sizeof(T) == 4 ? 5e-3 : 1e-5) * size;
    }
  }
  if (!right)
    std::printf("wrong cell: T=%td B=%td H=%td N=%td length=%td, %zu bytes, %d threads\n", c.steps, c.batch, c.width,
                c.nodes, c.length, sizeof(T), threads);
  return right;
}

template <typename T>
bool check_dropped(Index steps, Index batch, Index width, Index words, int threads, std::mt19937& generator) {
  const jdarts::Streams s = {steps, batch, width, words};
  const auto x = random<T>(steps * batch * width, generator), e = random<T>(words * width, generator);
  const auto q = random<T>(steps * batch * words, generator), bias = random<T>(words, generator);
  auto mask = random<T>(batch * width, generator);
  for (Index n = 0; n < mask.size; ++n)
    if (n < width || n % 3) mask.data[n] = T(n % 5 == 0);
  Values product(q.size, 0.0), pull(x.size, 0.0), outer(e.size, 0.0), losses, pulled(q.size), sums(words, 0.0);
  // Along the product's result and its first row, as tangents of logits and bias.
  Values d_losses(steps * batch, 0.0), d_probabilities(q.size);
  Array<std::int32_t> targets(steps * batch);
  for (Index r = 0; r < steps * batch; ++r) {
    targets.data[r] = (7 * r) % words;
    for (Index v = 0; v < words; ++v)
      for (Index h = 0; h < width; ++h) {
        const double m = mask.data[r % batch * width + h], xm = x.data[r * width + h] * m;
        product[r * words + v] += xm * e.data[v * width + h];
        pull[r * width + h] += m * q.data[r * words + v] * e.data[v * width + h];
        outer[v * width + h] += xm * q.data[r * words + v];
      }
    double sum = 0;
    for (Index v = 0; v < words; ++v) sum += std::exp(q.data[r * words + v] + double(bias.data[v]));
    losses.push_back(std::log(sum) - q.data[r * words + targets.data[r]] - bias.data[targets.data[r]]);
    for (Index v = 0; v < words; ++v) {
      const double p = std::exp(q.data[r * words + v] + double(bias.data[v])) / sum;
      pulled[r * words + v] = x.data[r * width] * (p - (v == targets.data[r]));
      sums[v] += pulled[r * words + v];
      d_probabilities[r * words + v] = p;
      d_losses[r] += (p - (v == targets.data[r])) * (product[r * words + v] + product[v]);
    }
    const Index target = targets.data[r];
    const double mean = d_losses[r] + product[r * words + target] + product[target];
    for (Index v = 0; v < words; ++v) d_probabilities[r * words + v] *= product[r * words + v] + product[v] - mean;
  }
  Array<T> c(steps * batch), y(q.size), d(x.size), o(e.size), l(steps * batch), p(q.size), db(words);
  for (Index r = 0; r < c.size; ++r) c.data[r] = x.data[r * width];
  {
    Pool pool(threads);
    jdarts::dropped_product<T>(s, x.data.get(), mask.data.get(), e.data.get(), y.data.get(), pool);
    jdarts::dropped_pull<T>(s, q.data.get(), mask.data.get(), e.data.get(), d.data.get(), pool);
    jdarts::dropped_outer<T>(s, q.data.get(), x.data.get(), mask.data.get(), o.data.get(), pool);
    std::copy_n(q.data.get(), q.size, p.data.get());
    jdarts::word_losses<T>(c.size, words, p.data.get(), bias.data.get(), targets.data.get(), l.data.get(), p.data.get(),
                           pool);
    Array<T> shares(q.size);
    std::copy_n(p.data.get(), p.size, shares.data.get());
    jdarts::word_losses_pull<T>(c.size, words, p.data.get(), targets.data.get(), c.data.get(), p.data.get(),
                                db.data.get(), pool);
    Array<T> dp(q.size), dl(c.size);
    std::copy_n(y.data.get(), y.size, dp.data.get());
    jdarts::word_losses_tangent<T>(c.size, words, dp.data.get(), y.data.get(), shares.data.get(), targets.data.get(),
                                   dl.data.get(), dp.data.get(), pool);
    if (!close(dp, d_probabilities) || !close(dl, d_losses)) {
      std::printf("wrong tangents of words: T=%td B=%td V=%td, %zu bytes\n", steps, batch, words, sizeof(T));
      return false;
    }
    if (close(y, product) && close(d, pull) && close(o, outer) && close(l, losses) && close(p, pulled) && close(db, sums))
      return true;
  }
  std::printf("wrong words: T=%td B=%td H=%td V=%td, %zu bytes, %d threads\n", steps, batch, width, words, sizeof(T),
              threads);
  return false;
}

}  // namespace

int main() {
  std::mt19937 generator(0);
  bool right = true;
  int cases = 0;
  for (Index width : {1, 5, 16, 17, 40})
    for (Index nodes : {1, 2, 4})
      for (Index batch : {4, 5, 13})
        for (Index length : {0, 2, 3}) {
          const Case c(3, batch, width, nodes, length, generator);
          right &= check_cell<float>(c, 1 + cases % 4, generator) && check_cell<double>(c, 1 + cases % 4, generator);
          right &= check_tangents<float>(c, 1 + cases % 4, generator) && check_tangents<double>(c, 1 + cases % 4, generator);
          ++cases;
        }
  for (Index width : {1, 7, 33})
    for (Index words : {1, 3, 31, 32, 50, 515, 2100})
      for (Index steps : {1, 5, 13}) {
        right &= check_dropped<float>(steps, 1 + cases % 3, width, words, 1 + cases % 4, generator) &&
                 check_dropped<double>(steps, 1 + cases % 3, width, words, 1 + cases % 4, generator);
        ++cases;
      }
  std::printf("%d cases %s\n", cases, right ? "right" : "WRONG");
  return right ? 0 : 1;
}
