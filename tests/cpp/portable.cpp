// Runs the loops of csrc/cpu/kernels, compiled without torch for the base instruction set of a processor, and prints
// the results, one line for each array. tests/project/test_portable.py compares the lines of two processors.
#include <cstdio>
#include <vector>

#include "cpu/kernels.h"
#include "formulas/all.h"

namespace vk {
#define VK_DECLARE(name) extern const LikelihoodLoops likelihood_##name[2];
namespace base {
VK_LIKELIHOODS(VK_DECLARE)
extern const LatentLoops latent_loops[2];
extern const RowLoop row_loops[2];
#define VK_DECLARE_POSITION(name) extern const PositionLoops position_##name[2];
VK_POSITIONS(VK_DECLARE_POSITION)
}  // namespace base
}  // namespace vk

using namespace vk;
constexpr int64_t kRows = 3, kCols = 1403, kCount = kRows * kCols;

template <class T>
using Array = std::vector<T>;

// T is the type of the computation.
template <class T, class V>
void print(const char* name, const char* what, const Array<V>& values) {
  std::printf("%s %s %s", name, what, sizeof(T) == 4 ? "float32" : "float64");
  for (V v : values) std::printf(" %a", double(v));
  std::puts("");
}

// Numbers from `low` to `high`, in no particular order.
template <class T>
Array<T> spread(int64_t n, double low, double high, uint64_t stride) {
  Array<T> out(n);
  for (int64_t i = 0; i < n; ++i) out[i] = T(low + (high - low) * double(i * stride % 4099) / 4098);
  return out;
}

template <class T>
constexpr DType kDType = sizeof(T) == 4 ? DType::float32 : DType::float64;
template <class T>
Source source(const Array<T>& a) {
  return {a.data(), kCols, kDType<T>};
}
template <class T>
Sink sink(Array<T>& a) {
  return {a.data(), kCols, kDType<T>};
}
const Grid kGrid{kRows, kCols, 2, 1024};
const double kOne = 1;

template <class Loop, class Job>
void run(Loop loop, const Job& job) {
  for (int64_t i = 0; i < job.grid.tasks(); ++i) loop(job, job.grid[i]);
}

template <class T>
void likelihood(const char* name, const LikelihoodLoops& loops) {
  Array<T> x(kCount), p[kMaxParameters], grad[kMaxParameters];
  Array<double> nll(kRows * kGrid.col_tasks());
  for (int64_t i = 0; i < kCount; ++i) x[i] = T(i % 3 == 0);  // 0 and 1 are in the support of every likelihood
  LikelihoodJob job{};
  job.grid = kGrid;
  job.x = source(x);
  job.weight = {&kOne, 0, 1};
  job.nll = nll.data();
  job.grad = true;
  for (int k = 0; k < kMaxParameters; ++k) {
    p[k] = spread<T>(kCount, -3, 3, 1009 + 2 * k);
    grad[k].resize(kCount);
    job.p[k].in = source(p[k]);
    job.p[k].grad = sink(grad[k]);
  }
  run(loops.sums, job);
  print<T>(name, "nll", nll);
  for (int k = 0; k < kMaxParameters; ++k) print<T>(name, "gradient", grad[k]);
  Array<T> log_prob(kCount);
  LogProbJob each{};
  each.grid = kGrid;
  each.x = job.x;
  for (int k = 0; k < kMaxParameters; ++k) each.p[k] = job.p[k].in;
  each.out = sink(log_prob);
  run(loops.each, each);
  print<T>(name, "log_prob", log_prob);
}

// The first parameter has logits of shares of a total. x has counts, which every likelihood takes.
template <class T>
void row(const char* name, const LikelihoodLoops& loops, RowLoop loop) {
  Array<T> x(kCount), p[kMaxParameters], grad[kMaxParameters];
  Array<double> nll(kRows), sums(kRows), of_log_total(kRows);
  const Array<double> log_total(kRows, 6.);
  Array<Shift> shift(kRows);
  for (int64_t i = 0; i < kCount; ++i) x[i] = T(i % 3 == 0);
  RowJob job{};
  LikelihoodJob& each = job.each;
  job.grid = each.grid = {kRows, kCols, 2, kCols};
  each.x = source(x);
  each.weight = {&kOne, 0, 1};
  each.nll = nll.data();
  each.grad = true;
  for (int k = 0; k < kMaxParameters; ++k) {
    p[k] = spread<T>(kCount, -3, 3, 1009 + 2 * k);
    grad[k].resize(kCount);
    each.p[k].in = source(p[k]);
    if (k) each.p[k].grad = sink(grad[k]);
  }
  each.p[0].sums = sums.data();
  job.sums = loops.sums, job.of_total = loops.of_total, job.given_n = loops.of_total;
  job.log_total = {log_total.data(), 1, DType::float64};
  each.shift = job.shift = shift.data();
  job.grad = sink(grad[0]), job.of_log_total = of_log_total.data();
  run(loop, job);
  print<T>(name, "row_nll", nll);
  print<T>(name, "row_gradient", grad[0]);
  print<T>(name, "total_gradient", of_log_total);
}

template <class T>
void latent(const LatentLoops& loops) {
  const Array<T> zero(kCount), mu = spread<T>(kCount, -3, 3, 1009), logvar = spread<T>(kCount, -5, 2, 1013);
  Array<T> z(kCount), grads[4];
  Array<double> kl(kRows * kGrid.col_tasks());
  SampleJob sample{kGrid, {0x123456789abcdefu, 5, 1, 0, kGrid.rows}, source(zero), source(zero), sink(z)};
  run(loops.sample, sample);
  print<T>("noise", "z", z);
  sample.mu = source(mu), sample.logvar = source(logvar);
  run(loops.sample, sample);
  print<T>("sample", "z", z);
  KlJob job{};
  job.grid = kGrid;
  job.p[0] = job.p[3] = source(mu), job.p[1] = job.p[2] = source(logvar);
  job.weight = {&kOne, 0, 1};
  job.kl = kl.data();
  SampleBackwardJob back{
      kGrid, {1, 2, 1, 0, kGrid.rows}, {job.p[0], job.p[1], job.p[2], job.p[3]}, source(mu), job.weight, {}};
  for (int k = 0; k < 4; ++k) grads[k].resize(kCount), job.grad[k] = back.grad[k] = sink(grads[k]);
  run(loops.kl, job);
  print<T>("kl", "kl", kl);
  for (const auto& g : grads) print<T>("kl", "gradient", g);
  run(loops.sample_backward, back);
  for (const auto& g : grads) print<T>("sample", "gradient", g);
}

template <class T>
void position(const char* name, const PositionLoops& loops) {
  constexpr int64_t kLevels = 61, kPositions = kCols / kLevels;
  const Array<T> logits = spread<T>(kCount, -9, 9, 1009);
  Array<int16_t> x(kRows * kPositions);
  for (size_t i = 0; i < x.size(); ++i) x[i] = int16_t(i % kLevels);
  for (const bool inner : {false, true}) {
    Array<T> top(x.size()), total(x.size()), grad(kCount);
    Array<double> nll(kRows);
    PositionJob job{};
    job.grid = {kRows, kPositions, 1, kPositions};
    job.levels = kLevels, job.inner = inner;
    job.x = {x.data(), kPositions, DType::int16};
    job.logits = source(logits), job.grad = sink(grad);
    job.top = {top.data(), kPositions, kDType<T>}, job.total = {total.data(), kPositions, kDType<T>};
    job.nll = nll.data();
    job.weight = {&kOne, 0, 1};
    run(loops.forward, job);
    run(loops.backward, job);
    print<T>(name, "nll", nll);
    print<T>(name, "gradient", grad);
  }
}

int main() {
#define VK_RUN(name)                                    \
  likelihood<float>(#name, base::likelihood_##name[0]); \
  likelihood<double>(#name, base::likelihood_##name[1]);
  VK_LIKELIHOODS(VK_RUN)
#define VK_RUN_ROW(name)                                             \
  row<float>(#name, base::likelihood_##name[0], base::row_loops[0]); \
  row<double>(#name, base::likelihood_##name[1], base::row_loops[1]);
  VK_LIKELIHOODS(VK_RUN_ROW)
  latent<float>(base::latent_loops[0]);
  latent<double>(base::latent_loops[1]);
#define VK_RUN_POSITION(name)                       \
  position<float>(#name, base::position_##name[0]); \
  position<double>(#name, base::position_##name[1]);
  VK_POSITIONS(VK_RUN_POSITION)
}
