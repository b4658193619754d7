// Compares the native depthwise functions with plain loops, with arrays of exact size on the heap and a pool whose
// threads start late or never, for the sanitisers:
//   c++ -std=c++17 -O1 -g -march=native -fsanitize=address,undefined -fno-sanitize-recover=all -pthread
//     -I src/jdarts/native/kernel tests/depthwise_harness.cc -o harness && ./harness
// and again with -fsanitize=thread.
#include <cmath>
#include <cstdio>
#include <functional>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "depthwise.h"

namespace {

using jdarts::Geometry;
using jdarts::Index;

// Runs two of three tasks on threads of their own, and keeps every third until the end.
class Pool {
 public:
  explicit Pool(int threads) : threads_(threads) {}
  ~Pool() {
    for (auto& late : late_) late();
    for (auto& thread : running_) thread.join();
  }
  int num_threads() const { return threads_; }
  template <typename F>
  void Schedule(F&& task) {
    if (++scheduled_ % 3 == 0)
      late_.emplace_back(task);
    else
      running_.emplace_back(task);
  }

 private:
  int threads_, scheduled_ = 0;
  std::vector<std::function<void()>> late_;
  std::vector<std::thread> running_;
};

template <typename T>
struct Array {
  explicit Array(Index size) : data(new T[size]), size(size) { std::fill_n(data.get(), size, T(NAN)); }
  std::unique_ptr<T[]> data;
  Index size;
};

template <typename T>
Array<T> random(Index size, std::mt19937& generator) {
  Array<T> a(size);
  std::normal_distribution<double> normal;
  for (Index i = 0; i < size; ++i) a.data[i] = T(normal(generator));
  return a;
}

// Calls visit(index in x, index in kernels, index in y) for every product.
template <typename Visit>
void products(const Geometry& g, const Visit& visit) {
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

template <typename T>
bool close(const Array<T>& a, const std::vector<double>& expected) {
  for (Index i = 0; i < a.size; ++i)
    if (!(std::abs(a.data[i] - expected[i]) <= (sizeof(T) == 4 ? 1e-5 : 1e-13) * (20 + std::abs(expected[i]))))
      return false;
  return true;
}

template <typename T>
bool check(const Geometry& g, int threads, std::mt19937& generator) {
  const Index images = g.sources * g.batch, kernels = g.sources * g.targets * g.kernel(), chunks = 3;
  const auto x = random<T>(images * g.image(), generator), k = random<T>(kernels, generator);
  const auto y = random<T>(images * g.targets * g.out_image(), generator);
  Array<T> x_out(x.size), k_out(k.size), y_out(y.size), partials(chunks * k.size);
  std::vector<double> x_sum(x.size), k_sum(k.size), y_sum(y.size);
  products(g, [&](Index xi, Index ki, Index yi) {
    y_sum[yi] += double(x.data[xi]) * k.data[ki];
    x_sum[xi] += double(y.data[yi]) * k.data[ki];
    k_sum[ki] += double(x.data[xi]) * y.data[yi];
  });
  {
    Pool pool(threads);
    jdarts::forward<T>(g, x.data.get(), k.data.get(), y_out.data.get(), pool);
    jdarts::input_gradient<T>(g, y.data.get(), k.data.get(), x_out.data.get(), pool);
    jdarts::kernel_gradient<T>(g, x.data.get(), y.data.get(), k_out.data.get(), partials.data.get(), chunks, pool);
    if (close(y_out, y_sum) && close(x_out, x_sum) && close(k_out, k_sum)) return true;
  }
  std::printf("wrong: S=%td T=%td B=%td H=%td W=%td C=%td k=%td stride=%td dilation=%td %zu bytes, %d threads\n",
              g.sources, g.targets, g.batch, g.height, g.width, g.channels, g.size, g.stride, g.dilation, sizeof(T),
              threads);
  return false;
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
            right &= check<float>(g, 1 + cases % 4, generator) && check<double>(g, 1 + cases % 4, generator);
            ++cases;
          }
  // Enough work for several threads, and more than one band an image.
  right &= check<float>({1, 3, 2, 64, 40, 48, 5, 1, 2}, 4, generator);
  right &= check<float>({1, 3, 2, 64, 40, 48, 5, 2, 1}, 4, generator);
  right &= check<double>({2, 1, 0, 8, 8, 4, 3, 1, 1}, 4, generator);
  std::printf("%d cases %s\n", cases + 3, right ? "right" : "WRONG");
  return right ? 0 : 1;
}
