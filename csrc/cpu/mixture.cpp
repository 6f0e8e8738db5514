// log p(z) of a mixture of diagonal Gaussians and its gradients, on the CPU.
#include "mixture.h"

#include <algorithm>

#include "gaussians.h"
#include "ops.h"
#include "tensors.h"

namespace vk {
namespace {

using MixtureLoop = void (*)(const MixtureJob&, const Task&);

void run_tasks(MixtureLoop loop, const MixtureJob& job, const Grid& grid) {
  const bool small = job.grid.rows * job.tiles.components * job.tiles.dims <= 4 * kTask;
  each_task(grid.tasks(), small, [&](int64_t i) { loop(job, grid[i]); });
}

// A mixture whose tensors are in the type of the loops
struct Mixture {
  const MixtureRequest& request;
  bool float64;
  Tensor wide[4], packed;
  const MixtureLoops* loops;
  MixtureJob job;

  explicit Mixture(const MixtureRequest& r)
      : request(r),
        float64(r.float64 || beyond_float(*r.inputs[0], *r.inputs[1], *r.inputs[2])),
        loops(&mixture_loops(float64)),
        job{.tiles = Tiles(r.components, r.dims, loops->lanes), .grid = {}} {
    const void** places[] = {&job.z, &job.loc, &job.logvar, &job.log_weight};
    for (int i = 0; i < 4; ++i) {
      if (float64 && !r.float64) wide[i] = convert<double, float>(*r.inputs[i], true);
      *places[i] = (wide[i] ? wide[i] : *r.inputs[i]).data<void>();
    }
    packed = buffer(job.tiles.size());
    job.packed = packed.mut<void>();
    job.grid = {r.samples, job.tiles.count()};
    run_tasks(loops->pack, job, by_tile());
  }
  Tensor buffer(int64_t n) const { return empty({n}, torch_dtype(float64), *request.inputs[0]); }
  int64_t bytes() const { return float64 ? 8 : 4; }
  Grid by_tile() const { return {1, job.tiles.count()}; }
};

int64_t clamp(int64_t x, int64_t low, int64_t high) { return x < low ? low : x > high ? high : x; }

// How the backward pass is cut: a function of the shapes alone. Each task of rows has sums of its own for all
// components, so there are few, and the samples come in waves of them.
constexpr int64_t kTasks = 16, kRowTasks = 8, kSums = 1 << 23;

Grid cut(const Tiles& tiles, int64_t rows) {
  const int64_t task_rows = clamp((rows / kRowTasks + 15) / 16 * 16, 64, 256);
  const int64_t most = clamp(kSums / tiles.size(), 1, kRowTasks);
  Grid grid{std::min(rows, most * task_rows), tiles.count(), task_rows, 1};
  grid.task_cols = std::max<int64_t>(1, tiles.count() * grid.row_tasks() / kTasks);
  return grid;
}

// [parts, n] -> [n]
template <class T>
void add_parts(const T* parts, int64_t count, int64_t n, T* out) {
  for (int64_t i = 0; i < n; ++i) {
    double sum = 0;
    for (int64_t p = 0; p < count; ++p) sum += parts[p * n + i];
    out[i] = T(sum);
  }
}

void backward(Mixture& mixture, char* grad_z) {
  MixtureJob job = mixture.job;
  const int64_t rows = mixture.request.samples;
  const Grid wave = cut(job.tiles, rows);
  const int64_t dims = job.tiles.dims, row_bytes = dims * mixture.bytes();
  const Tensor sums = mixture.buffer(wave.row_tasks() * job.tiles.size());
  const Tensor parts = mixture.buffer(wave.col_tasks() > 1 ? wave.col_tasks() * wave.rows * dims : 0);
  job.sums = sums.mut<void>();
  for (int64_t row = 0; row < rows; row += wave.rows) {
    job.grid = wave;
    job.grid.rows = std::min(wave.rows, rows - row);
    job.z = static_cast<const char*>(mixture.job.z) + row * row_bytes;
    job.peak = mixture.job.peak + row;
    job.log_sum = mixture.job.log_sum + row;
    job.weight = mixture.job.weight + row;
    char* out = grad_z + row * row_bytes;
    job.grad_z = wave.col_tasks() > 1 ? parts.mut<void>() : out;
    run_tasks(mixture.loops->backward, job, job.grid);
    if (row + wave.rows < rows) run_tasks(mixture.loops->add, job, mixture.by_tile());
    if (wave.col_tasks() == 1) continue;
    const int64_t n = job.grid.rows * dims;
    mixture.float64 ? add_parts(parts.data<double>(), wave.col_tasks(), n, reinterpret_cast<double*>(out))
                    : add_parts(parts.data<float>(), wave.col_tasks(), n, reinterpret_cast<float*>(out));
  }
  run_tasks(mixture.loops->finish, job, mixture.by_tile());
}

// The gradients that are needed, each row's under its weight
Tensors gradients(Mixture& m, const std::vector<double>& weights, Need need) {
  Tensors grads;
  void* places[4] = {};
  for (int i = 0; i < 4; ++i) {
    if (i && !need[i]) continue;  // that of z is always computed
    grads.push_back(empty_like(*m.request.inputs[i], torch_dtype(m.float64)));
    places[i] = grads.back().mut<void>();
  }
  std::vector<double> totals(m.job.tiles.size());
  m.job.weight = weights.data();
  m.job.totals = totals.data();
  m.job.grad_loc = places[1];
  m.job.grad_logvar = places[2];
  m.job.grad_log_weight = places[3];
  backward(m, static_cast<char*>(places[0]));
  if (!need[0]) grads.erase(grads.begin());
  if (m.float64 && !m.request.float64)
    for (Tensor& g : grads) g = convert<float, double>(g, false);
  return grads;
}

}  // namespace

Tensors mixture(const MixtureRequest& r, Need need) {
  Mixture m(r);
  const int64_t rows = r.samples;
  Tensors out = r.empty_results(), grads;
  m.job.peak = out[1].mut<double>();
  m.job.log_sum = out[2].mut<double>();
  if (need.bits) {
    VK_CHECK(m.job.tiles.count() == 1, "gradients with the value: more than one tile of components");
    m.job.together = true;
    grads = gradients(m, std::vector<double>(rows, 1.), need);
  } else {
    run_tasks(m.loops->forward, m.job, Grid{rows, 1, clamp((rows / kTasks + 15) / 16 * 16, 16, 64), 1});
  }
  for (int64_t i = 0; i < rows; ++i) {
    const double log_p = m.job.peak[i] + m.job.log_sum[i];
    r.float64 ? out[0].mut<double>()[i] = log_p : out[0].mut<float>()[i] = float(log_p);
  }
  for (Tensor& g : grads) out.push_back(std::move(g));
  return out;
}

Tensors mixture_backward(const Tensor& grad, const MixtureRequest& r, const Tensor& peak, const Tensor& log_sum,
                         Need need) {
  Mixture m(r);
  m.job.peak = peak.mut<double>();
  m.job.log_sum = log_sum.mut<double>();
  return gradients(m, doubles(grad), need);
}

}  // namespace vk
