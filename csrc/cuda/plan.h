// From requests to launches: how blocks cover a matrix, where partial sums go, and who adds them up.
#pragma once
#include <optional>

#include "request.h"
#include "row_jobs.h"

namespace vk::cuda {

constexpr int kBlockThreads = 256;

inline int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
inline int64_t at_least_one(int64_t n) { return n > 0 ? n : 1; }
inline int64_t power_of_two(int64_t n, int64_t most) {  // the smallest that is not less than n
  int64_t p = 1;
  while (p < n && p < most) p *= 2;
  return p;
}

inline Tiling tiling(int64_t rows, int64_t cols, int64_t lanes, int64_t piece, int rows_each) {
  Tiling t{};
  t.rows = rows;
  t.cols = cols;
  t.lanes = int32_t(lanes);
  t.piece = int32_t(at_least_one(piece));
  t.pieces = at_least_one(divide_up(cols, t.piece));
  t.rows_each = rows_each;
  t.block_rows = int32_t(kBlockThreads / lanes * rows_each);
  t.row_blocks = divide_up(rows, t.block_rows);
  return t;
}
// The threads of a row walk along the row. Each has 8 elements where the matrix is small, so that all of the GPU has
// work, and 64 where the matrix is large, so that there are few partial sums.
inline Tiling walking_tiling(int64_t rows, int64_t cols) {
  const int64_t n = rows * cols, each = n < int64_t(1) << 20 ? 8 : n < int64_t(1) << 24 ? 16 : 64;
  const int64_t whole = kBlockThreads * each;
  return tiling(rows, cols, power_of_two(divide_up(cols, each), kBlockThreads), cols < whole ? cols : whole, 1);
}
// A thread keeps to its columns and goes down the rows.
inline Tiling column_tiling(int64_t rows, int64_t cols, int columns_each, int rows_each) {
  const int64_t lanes = power_of_two(divide_up(cols, columns_each), 128 / columns_each);
  return tiling(rows, cols, lanes, lanes * columns_each, rows_each);
}

// The same for a batch that is one run of n elements: it is cut into rows as long as a block is wide, and the last row
// may be short.
inline Tiling run_tiling(int64_t n, int columns_each, int rows_each) {
  constexpr int64_t cols = 128;
  Tiling t = column_tiling(divide_up(n, cols), cols, columns_each, rows_each);
  t.missing = int32_t(t.rows * cols - n);
  return t;
}

// x of so many samples of the parameters.
inline const Source& beside(const Source& x, int64_t samples) {
  VK_CHECK(x.rows == kAllRows || samples == RowNumber(samples), "x is repeated for ", samples,
           " samples, expected fewer than 2^32: split the batch");
  return x;
}

// A number that the kernel reads: `t` is 0-d, or [n] with any stride, or null.
inline Weight weight(const OptionalTensor& t, double factor) {
  if (!t) return {nullptr, 0, false, factor};
  VK_CHECK(dtype_of(*t) == DType::float32 || dtype_of(*t) == DType::float64, "weights and KL are float32 or float64");
  return {t->data<void>(), t->dim() ? t->stride(t->dim() - 1) : 0, dtype_of(*t) == DType::float64, factor};
}
inline Weight weight(const Tensor& t) {
  VK_CHECK(dtype_of(t) == DType::float32 || dtype_of(t) == DType::float64, "weights and KL are float32 or float64");
  return {t.data<void>(), t.dim() ? t.stride(t.dim() - 1) : 0, dtype_of(t) == DType::float64, 1};
}
constexpr Weight kOne = {nullptr, 0, false, 1};

// The Allocate of a GPU
inline Tensor allocate(const int64_t* sizes, const int64_t* strides, int64_t dim, int32_t dtype, int64_t,
                       const Tensor& like) {
  return empty(sizes, strides, dim, dtype, like);
}

// The kernels of a formula, by its name: dispatch.cpp
LikelihoodLaunch* likelihood_launch(const std::string& name);
LogProbLaunch* log_prob_launch(const std::string& name);
PositionLaunch* position_launch(const char* name);
PixelLaunch* pixel_launch(const char* name);
RowFormula row_formula(const std::string& name);

inline void check(Launched error) { VK_CHECK(!error, "a CUDA kernel could not be launched: ", error); }

// The current device and stream.
class Stream {
 public:
  explicit Stream(const Tensor& t) {
#ifdef VK_CUDA_ON_HOST  // tests/cpp/cuda_host.cpp
    (void)t;
#else
    guard_.emplace(t.device());
    device_ = t.device();
    stream_ = current_cuda_stream(device_);
#endif
  }
  void* get() const { return stream_; }
  unsigned* ticket() const { return cuda::ticket(device_, stream_); }

 private:
  std::optional<DeviceGuard> guard_;
  int device_ = 0;
  void* stream_ = nullptr;
};

// Memory for the partial sums. `place` takes its parts twice: first to count them, then for use.
class Workspace {
 public:
  template <class Place>
  Workspace(const Tensor& like, const Place& place) {
    place(*this);
    if (!used_) return;
    memory_ = empty({used_}, aoti_torch_dtype_float64(), like);
    used_ = 0;
    place(*this);
  }
  double* take(int64_t n) {
    const int64_t at = used_;
    used_ += n;
    return memory_ ? memory_.mut<double>() + at : nullptr;
  }

 private:
  Tensor memory_;
  int64_t used_ = 0;
};

// How many blocks add up the partial sums. One block: the last block of the launch that made them. More: a second
// launch.
inline int64_t finish_blocks(const FinishJob& f) {
  const auto partials = [&](const RowSums& s) { return s.rows * s.pieces; };
  int64_t n = partials(f.nll) + partials(f.kl) + partials(f.weighted);
  for (const RowSums& s : f.samples) n += partials(s);
  for (const ColumnSums& c : f.columns)
    if (c.out) n += c.row_blocks * c.cols;
  for (const double* s : f.block_sums)
    if (s) n += f.n_blocks;
  const int64_t blocks = n / 4096;  // 16 numbers a thread
  return blocks < 4 ? 1 : blocks < 256 ? blocks : 256;
}
inline RowSums row_sums(double* partial, const Tiling& t, void* out) {
  int32_t lanes = 1;  // about the root of the pieces / 4, so that neither of the two steps is long
  while (int64_t(lanes) * lanes * 4 <= t.pieces) lanes *= 2;
  return {partial, t.rows, t.pieces, lanes, out};
}
// Where no row has a result, each piece counts as a row: all threads then add up pieces.
inline RowSums piece_sums(double* partial, const Tiling& t) { return {partial, t.rows * t.pieces, 1, 1, nullptr}; }

// A thread adds up at most so many row blocks of its column. More are first added up by so many threads as there are
// groups of them.
constexpr int64_t kMostRowBlocks = 128, kGroupOfRowBlocks = 32;
inline bool has_many_row_blocks(const ColumnSums& s) { return s.out && s.row_blocks > kMostRowBlocks; }

inline void add_up_columns(const ColumnSums& s, int64_t each, bool float64, const Stream& stream) {
  const int64_t groups = at_least_one(divide_up(s.row_blocks, each)),
                blocks = divide_up(groups * s.cols, kBlockThreads);
  if (blocks > 0) check(columns_kernel({s, each, groups}, float64, blocks, stream.get()));
}
// Leaves few row blocks; their memory.
inline Workspace fold_row_blocks(ColumnSums& s, bool float64, const Tensor& like, const Stream& stream) {
  ColumnSums groups = s;
  groups.factor = 1;
  Workspace memory(like,
                   [&](Workspace& w) { groups.out = w.take(divide_up(s.row_blocks, kGroupOfRowBlocks) * s.cols); });
  add_up_columns(groups, kGroupOfRowBlocks, float64, stream);
  s.partial = groups.out;
  s.row_blocks = divide_up(s.row_blocks, kGroupOfRowBlocks);
  return memory;
}

// Units of free bits that are means over the batch. A block of the finish reads means that the block itself has added
// up; and a thread reads few.
constexpr int64_t kMostMeans = 128;
inline bool adds_up_units_apart(const FinishJob& f, int64_t finishers) {
  const bool many = finishers > 1 || f.floor.units * f.floor.cols > kMostMeans;
  return f.floor.means.data && many && (f.floor.cols > 1 || f.loss_stride);
}
inline void add_up_units(FinishJob& f, bool float64, const Stream& stream) {
  FloorJob& floor = f.floor;
  add_up_columns(f.columns[0], at_least_one(f.columns[0].row_blocks), float64, stream);
  f.columns[0].out = nullptr;
  if (floor.cols > 1) {
    check(rows_sum_kernel({floor.means, floor.cols, floor.scratch}, true, floor.units, stream.get()));
    floor.means = {floor.scratch, 1, true, 1};
    floor.summed = true;
  }
  if (!f.loss_stride) return;
  check(costs_kernel(floor, stream.get()));
  floor.cost = floor.scratch + floor.units;
}

// Launch the kernel, which makes the partial sums, and have them added up.
template <class Kernel>
void launch_and_finish(FinishJob& kernel_finish, bool wanted, bool float64, int64_t blocks, const Tensor& like,
                       const Kernel& kernel) {
  const Stream stream(like);
  unsigned* const ticket = wanted ? stream.ticket() : nullptr;
  const int64_t finishers = ticket ? finish_blocks(kernel_finish) : 1;
  bool by_last_block = ticket && finishers == 1 && blocks > 0;
  for (const ColumnSums& c : kernel_finish.columns) by_last_block &= !has_many_row_blocks(c);
  const bool units_apart = adds_up_units_apart(kernel_finish, finishers);
  by_last_block &= !units_apart;
  kernel_finish.float64 = float64;
  kernel_finish.ticket = by_last_block ? ticket : nullptr;
  if (blocks > 0) check(kernel(stream.get()));
  if (!wanted || by_last_block) return;
  std::vector<Workspace> folded;
  for (ColumnSums& c : kernel_finish.columns)
    while (has_many_row_blocks(c)) folded.push_back(fold_row_blocks(c, float64, like, stream));
  if (units_apart) add_up_units(kernel_finish, float64, stream);
  Workspace totals(like, [&](Workspace& w) { kernel_finish.totals = w.take(kMaxParameters * finishers); });
  kernel_finish.ticket = ticket;
  check(finish_kernel(kernel_finish, finishers, stream.get()));
}

}  // namespace vk::cuda
