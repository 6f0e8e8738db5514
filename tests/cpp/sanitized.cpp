// Calls the ops for a table of shapes, storage types, layouts and reductions, without torch and Python.
// tests/support/sanitizers.py compiles this file with sanitizers. Every element of every result must have been written,
// and two threads must give the bits of one. With VK_CUDA_ON_HOST the ops are those of csrc/cuda in place of csrc/cpu.
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "cpu/ops.h"
#include "cpu/pool.h"
#include "fake_torch.h"
#include "formula.h"
#include "formulas/all.h"
#include "formulas/mixed.h"
#include "likelihoods.h"
#include "ops.h"
namespace vk {
bool is_row(const std::string& likelihood) {  // cpu/dispatch.cpp has this function too
#define VK_NAME(name, element) #name,
  for (const std::string name : {"", VK_ROWS(VK_NAME)})
    if (likelihood == name && name != "") return true;
  return false;
}
}  // namespace vk
#ifdef VK_CUDA_ON_HOST
#include "cuda/ops.h"
namespace ops = vk::cuda;
namespace vk::cuda {
bool backwards = false;
unsigned* ticket(int, void*) {
  static unsigned counter = 0;
  return &counter;
}
}  // namespace vk::cuda
#else
#include "cpu/decomposition.h"
#include "cpu/kernels.h"
#include "cpu/mixture.h"
#include "cpu/segments.h"
namespace ops = vk;
namespace vk {
#define VK_DECLARE(name) extern const LikelihoodLoops likelihood_##name[2];
#define VK_DECLARE_POSITION(name) extern const PositionLoops position_##name[2];
#define VK_DECLARE_PIXEL(name) extern const PixelLoop pixel_##name[2];
#define VK_PIXEL_ROW(name) {#name, base::pixel_##name},
#define VK_ROW(name) {#name, base::likelihood_##name},
#define VK_ROW_OF_ROWS(name, element) {#name, base::likelihood_##element},
#define VK_POSITION_ROW(name) {#name, base::position_##name},
namespace base {
VK_LIKELIHOODS(VK_DECLARE)
extern const LatentLoops latent_loops[2];
extern const RowLoop row_loops[2];
VK_POSITIONS(VK_DECLARE_POSITION)
VK_PIXELS(VK_DECLARE_PIXEL)
extern const MixtureLoops mixture_loops[2];
extern const DecompositionLoops decomposition_loops[2];
extern const SegmentsLoops segments_loops[2];
}  // namespace base
const Kernels& kernels() {  // replaces dispatch.cpp, with one instruction set
  static constexpr Named<const LikelihoodLoops*> table[] = {VK_LIKELIHOODS(VK_ROW) VK_ROWS(VK_ROW_OF_ROWS)};
  static constexpr Named<const PositionLoops*> positions[] = {VK_POSITIONS(VK_POSITION_ROW)};
  static constexpr Named<const PixelLoop*> pixels[] = {VK_PIXELS(VK_PIXEL_ROW)};
  static constexpr Kernels one = {"base",
                                  [](const char* name) { return of_likelihood(table, name); },
                                  [](const char* name) { return of_likelihood(positions, name); },
                                  [](const char* name) { return of_likelihood(pixels, name); },
                                  base::row_loops,
                                  base::latent_loops,
                                  base::mixture_loops,
                                  base::decomposition_loops,
                                  base::segments_loops};
  return one;
}
#undef VK_ROW
const MixtureLoops& mixture_loops(bool float64) { return base::mixture_loops[float64]; }
const DecompositionLoops& decomposition_loops(bool float64) { return base::decomposition_loops[float64]; }
const SegmentsLoops& segments_loops(bool float64) { return base::segments_loops[float64]; }
}  // namespace vk
#endif

using namespace vk;
using Sizes = std::vector<int64_t>;
constexpr DType F32 = DType::float32, F64 = DType::float64, BF16 = DType::bfloat16, F16 = DType::float16;

static int64_t cases = 0;
static uint64_t hash = 14695981039346656037u;  // a hash (FNV-1a) of all results

static int64_t product(const Sizes& sizes) {
  int64_t n = 1;
  for (int64_t s : sizes) n *= s;
  return n;
}
static void put(char* p, DType type, double v) {
  const auto as = [&](auto value) { std::memcpy(p, &value, sizeof value); };
  const float f = float(v);
  uint32_t bits;
  std::memcpy(&bits, &f, sizeof bits);
  switch (type) {
    case F32:
      return as(f);
    case F64:
      return as(v);
    case BF16:
      return as(uint16_t(bits >> 16));
    case F16:
      return as(_Float16(v));
    case DType::uint8:
    case DType::boolean:
      return as(uint8_t(v));
    case DType::int16:
      return as(int16_t(v));
    case DType::int32:
      return as(int32_t(v));
    default:
      return as(int64_t(v));
  }
}
static double get(const char* p, DType type) {
  const auto as = [&](auto value) { return std::memcpy(&value, p, sizeof value), double(value); };
  if (type != BF16) return type == F32 ? as(float()) : type == F64 ? as(double()) : as(_Float16());
  uint16_t half;
  std::memcpy(&half, p, sizeof half);
  const uint32_t bits = uint32_t(half) << 16;
  float f;
  std::memcpy(&f, &bits, sizeof f);
  return f;
}

// Numbers from `low` to `high`, in no particular order; `apart` elements lie between one sample and the next.
static Tensor fill(const Sizes& sizes, DType type, double low, double high, int64_t apart = 0, bool whole = false) {
  Sizes strides(sizes.size());
  int64_t stride = 1;
  for (size_t i = sizes.size(); i-- > 0; stride *= std::max<int64_t>(1, sizes[i])) strides[i] = stride;
  const int64_t rows = sizes.empty() ? 1 : sizes[0], cols = rows ? product(sizes) / rows : 0;
  if (!sizes.empty()) strides[0] = cols + apart;
  AtenTensorHandle handle;
  aoti_torch_empty_strided(int64_t(sizes.size()), sizes.data(), strides.data(), int32_t(type), 0, 0, &handle);
  Tensor t(handle);
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t c = 0; c < cols; ++c) {
      const double v = low + (high - low) * double((r * cols + c) * 1009 % 4099) / 4098;
      put(t.mut<char>() + (r * (cols + apart) + c) * bytes_of(type), type, whole ? std::floor(v) : v);
    }
  return t;
}
// An incoming gradient for this result.
static Tensor incoming(const Tensor& t) { return fill({t.sizes(), t.sizes() + t.dim()}, dtype_of(t), -0.5, 0.9); }

// Checks that every element was written: new memory is NaN.
static void finite(const Tensor& t, const char* what) {
  const DType type = dtype_of(t);
  const char* p = t.data<char>();
  for (int64_t i = 0; i < t.numel(); ++i, p += bytes_of(type)) {
    if (!std::isfinite(get(p, type))) {
      std::printf("%s: element %lld of %lld is not finite\n", what, (long long)i, (long long)t.numel());
      std::exit(1);
    }
    for (int64_t b = 0; b < bytes_of(type); ++b) hash = (hash ^ uint8_t(p[b])) * 1099511628211u;
  }
}
static void finite(const Tensors& tensors, const char* what) {
  for (const Tensor& t : tensors) finite(t, what);
}

struct Likelihood {
  const char* name;
  int parameters;
  bool counts;
};
static const Likelihood kAll[] = {
#define VK_ROW(name) {#name, name::parameters, is_counts<name>},
    VK_LIKELIHOODS(VK_ROW)};

// The shape of a parameter or a weight beside a tensor of this shape, in one of the layouts
static Sizes laid_out(const Sizes& shape, Layout layout) {
  Sizes sizes(shape.size(), 1);
  sizes[0] = shape[0];
  return layout == Layout::full          ? shape
         : layout == Layout::per_feature ? Sizes(shape.begin() + 1, shape.end())
         : layout == Layout::per_sample  ? sizes
                                         : Sizes{};
}
// Weights, half of which are 0
struct WeightsOf {
  Layout layout;
  DType type;
  OptionalTensor operator()(const Sizes& shape) const { return fill(laid_out(shape, layout), type, 0, 1.9, 0, true); }
};

static void objective(const Likelihood& l, const Sizes& shape, DType type, DType of_x, Layout form, int64_t apart,
                      Reduction reduction, int latent_kind, const WeightsOf* weights = nullptr,
                      const OptionalTensor& log_total = {}) {
  const int64_t rows = shape[0];
  const Sizes latents = {rows, 33};
  const OptionalTensor x = fill(shape, of_x, 0, of_x == DType::uint8 ? 255 : l.counts ? 4 : 1, apart, l.counts);
  Tensors params, latent;
  params.push_back(fill(shape, type, -3, 3, apart));
  for (int k = 1; k < l.parameters; ++k)
    params.push_back(fill(laid_out(shape, form), type, -1, 1, form == Layout::full ? apart : 0));
  if (latent_kind == 1) latent.push_back(fill(latents, type == F64 ? F64 : F32, 0, 2));
  if (latent_kind > 1)
    for (int k = 0; k < (latent_kind == 2 ? 2 : 4); ++k) latent.push_back(fill(latents, type, -2, 2, apart));
  const Need need{(int64_t(1) << (params.size() + latent.size() + bool(log_total))) - 1};
  OptionalTensor none, of_elements, of_latents;
  if (weights) of_elements = (*weights)(shape);
  if (weights && latent_kind > 1) of_latents = (*weights)(latents);
  const OptionalTensor rec_weight = fill({}, F32, 0.5, 0.5), beta = latent_kind > 1 ? fill({33}, F64, 0, 2) : Tensor();
  const bool floored = latent_kind == 1 || latent_kind == 3;  // a floor has no beta for each dimension beside it
  const OptionalTensor& of_beta = latent_kind > 1 && !floored ? beta : none;
  const KlFloor floor = floored ? KlFloor((rows + int64_t(reduction) + int64_t(form)) % 5) : KlFloor::none;
  const std::string name = l.name;
  const Objective asked{x,    params,    name, latent, rec_weight, of_beta, of_elements, of_latents,
                        none, log_total, 1,    0.7,    1.0,        floor,   reduction,   need};
  const Tensors out = ops::elbo(asked, reduction != Reduction::mean, 0.5);
  if (rows) finite(out, l.name);
  const Tensors grads = ops::elbo_backward(incoming(out[0]), asked);
  if (rows) finite(grads, l.name);
  if (!asked.row) finite(ops::log_prob(asked), l.name);
  ++cases;
}

static bool few;  // only the cases that are large enough for several threads

constexpr Layout kLayouts[] = {Layout::full, Layout::per_feature, Layout::number, Layout::per_sample};

static void objectives() {
  const Sizes shapes[] = {{1, 1}, {4}, {0, 5}, {3, 0}, {5, 7}, {70, 31}, {300, 3}, {3, 1031}, {2, 3, 5, 7}, {2, 16411}};
  const DType types[][2] = {{F32, F32}, {F64, F64}, {BF16, F32}, {F16, DType::uint8}, {F32, F64}};
  for (const Likelihood& l : kAll) {
    int turn = 0;
    for (const Sizes& shape : shapes)
      for (const auto& type : types) {
        if (few && (product(shape) < 900 || type[0] != F32)) continue;
        const Layout form = Layout(turn % 3);
        const int latent = turn % 4;  // 3, 4 and 5 have no common factor, so all combinations occur
        objective(l, shape, type[0], type[1], form, turn % 2 * 3, Reduction(turn % 3), latent);
        ++turn;
      }
    if (l.counts)
      for (const DType of_x : {DType::int16, DType::int32, DType::uint8})
        objective(l, {5, 1100}, F32, of_x, Layout::full, 3, Reduction::mean, 2);
    for (const Layout layout : kLayouts)
      for (const DType of_weight : {DType::boolean, F32, F64, BF16, F16}) {
        if (few && (of_weight != F32 || layout != Layout::full)) continue;
        const WeightsOf weights{layout, of_weight};
        const DType type = turn % 2 ? F32 : F64, of_x = turn % 3 ? type : DType::boolean;
        objective(l, {5, 1100}, type, of_x, kLayouts[turn % 4], 0, Reduction(turn % 3), turn % 4, &weights);
        objective(l, {2, 3, 5}, type, DType::int64, layout, 0, Reduction(turn % 3), 2 + turn % 2, &weights);
        ++turn;
      }
  }
}

// Likelihoods of counts with log_total, and those of the row kind
static void rows() {
  Likelihood all[std::size(kAll) + 1];
  int n = 0, turn = 0;
  for (const Likelihood& l : kAll)
    if (l.counts) all[n++] = l;
  const int with_total = n;
#define VK_LIKELIHOOD_OF_ROWS(name, element) all[n++] = {#name, element::parameters, true};
  VK_ROWS(VK_LIKELIHOOD_OF_ROWS)
  for (int k = 0; k < n; ++k)
    for (const Sizes& shape : {Sizes{1, 1}, {4}, {0, 5}, {3, 0}, {5, 7}, {300, 3}, {9, 129}, {3, 1031}, {2, 3, 5, 7}})
      for (const DType type : {F32, F64, BF16, F16}) {
        if (few && (product(shape) < 900 || type != F32)) continue;
        OptionalTensor log_total;
        if (k < with_total) log_total = fill(laid_out(shape, Layout::per_sample), type, 0, 3, turn % 2);
        const WeightsOf weights{k < with_total ? kLayouts[turn % 4] : kLayouts[2 + turn % 2],
                                turn % 3 ? F32 : DType::boolean};
        const DType of_x = turn % 5 ? type : DType::int32;
        objective(all[k], shape, type, of_x, kLayouts[turn / 2 % 4], turn % 3, Reduction(turn % 3), turn % 4,
                  turn % 2 ? &weights : nullptr, log_total);
        ++turn;
      }
}

static void samples() {
  int turn = 0;
  const Sizes shapes[] = {{1, 1}, {0, 5}, {3, 0}, {5, 7}, {4, 8}, {70, 31}, {3, 1031}, {2, 2, 5}};
  for (const Sizes& shape : shapes)
    for (const DType type : {F32, F64, BF16, F16})
      for (const int64_t draws : {0, 3})
        for (const bool with_prior : {false, true}) {
          if (few && (product(shape) < 900 || type != F32)) continue;
          const int64_t apart = draws;
          const Tensor mu = fill(shape, type, -2, 2, apart), logvar = fill(shape, type, -3, 1, apart);
          Tensors prior;
          for (int k = 0; with_prior && k < 2; ++k) prior.push_back(fill(shape, type, -1, 1));
          const Tensor rng = fill({with_prior ? 4 : 2}, DType::int64, 3, 900, 0, true);
          const WeightsOf weights{kLayouts[turn % 4], turn % 3 ? type : DType::boolean};
          const OptionalTensor weight = ++turn % 2 ? weights(shape) : OptionalTensor();
          const Draw draw{mu, logvar, prior, weight, rng, draws};
          const Tensors out = ops::sample(draw, true);
          finite(out, "sample");
          const OptionalTensor of_z = incoming(out[0]), of_kl = incoming(out[1]), none;
          const Need all{with_prior ? 15 : 3};
          finite(ops::sample_backward(of_z, of_kl, draw, all, false), "sample");
          finite(ops::sample_backward(of_z, none, draw, Need{3}, true), "sample");
          finite(ops::sample_backward(none, of_kl, draw, all, false), "sample");
          ++cases;
        }
}

static void positions() {
  int turn = 0;
  for (const Sizes& shape : {Sizes{1, 1}, {3, 0}, {2, 5, 7}, {3, 700}})
    for (const int64_t levels : {1, 2, 9, 1031})
      for (const DType type : {F32, F64, BF16, F16})
        for (const DType of_x : {DType::uint8, DType::int16, DType::int32, DType::int64}) {
          Sizes with_levels = shape;
          with_levels.insert(with_levels.begin() + 1, levels);
          if (few && (product(with_levels) < 9000 || type != F32)) continue;
          if (product(with_levels) > 100000 && (type != F32 || (few && of_x != DType::uint8))) continue;
          const Tensor logits = fill(with_levels, type, -9, 9, 2);
          const Tensor x = fill(shape, of_x, 0, double(levels < 250 ? levels : 250) - 0.5, 1, true);
          const WeightsOf weights{kLayouts[turn % 4], turn % 3 ? type : DType::boolean};
          const OptionalTensor weight = ++turn % 2 ? weights(shape) : OptionalTensor();
          const PositionRequest asked{"categorical", x, logits, weight};
          const Tensors out = ops::position(asked);
          finite(out, "categorical");
          finite(ops::position_backward(incoming(out[0]), asked, out[1]), "categorical");
          ++cases;
        }
}

// x with the codes or, one-hot, a hot number of the last column
static Tensor of_table(bool codes, int64_t rows, int64_t kinds, int64_t width, DType type) {
  if (codes) return fill({rows, kinds}, type, 0, 1.9, 1, true);
  Tensor x = fill({rows, kinds - 1 + width}, type, 0, 0, 1);
  for (int64_t r = 0; r < rows; ++r)
    put(x.mut<char>() + (r * x.stride(0) + kinds - 1 + r % width) * bytes_of(type), type, 1);
  return x;
}
// A table with a column of each kind, of `width` categories the last one.
static void tables() {
#define VK_ONE(formula, scale, tanh) +1
  constexpr int64_t kinds = VK_COLUMNS(VK_ONE) + 1;
  int turn = 0;
  for (const int64_t rows : {0, 1, 33, 70})
    for (const int64_t width : {2, 128, 129, 1031})
      for (const DType type : {F32, F64, BF16, F16})
        for (const DType of_x : {type, DType::uint8, DType::int64}) {
          if (few && (rows < 33 || type != F32)) continue;
          const int64_t numbers = kinds - 1 + width;
          const Tensor table = fill({kinds, 3}, DType::int64, 0, 0);
          int64_t* of_columns = table.mut<int64_t>();
          for (int64_t c = 0; c < kinds; ++c, of_columns += 3)
            of_columns[0] = c, of_columns[1] = c + 1 < kinds ? 1 : width, of_columns[2] = c;
          const Tensor packed = fill({rows, numbers}, type, -2, 2, 3);
          const Tensor x = of_table(turn % 7 < 4, rows, kinds, width, of_x);
          const Tensor logscale = turn % 2 ? fill({kinds}, type, -1, 1) : fill({rows, kinds}, type, -1, 1, 2);
          const Sizes weights[] = {{}, {kinds}, {rows, 1}, {rows, kinds}};
          const DType of_weight = turn % 3 ? type : DType::boolean;
          const OptionalTensor weight = turn % 5 ? fill(weights[turn % 4], of_weight, 0, 1.5) : OptionalTensor();
          const SegmentsRequest asked{x, packed, logscale, table, weight};
          const Need need{turn++ % 4};
          const Tensors out = ops::segments(asked, need, 0.5);
          finite(out, "table");
          finite(ops::segments_backward(incoming(out[0]), asked, Need{3}), "table");
          ++cases;
        }
}

#ifndef VK_CUDA_ON_HOST
static void pixels() {
  const std::vector<double> options{256, 0, 1, -7};
  int turn = 0;
  for (const int64_t channels : {1, 3})
    for (const Sizes& shape : {Sizes{1, 1}, {3, 0}, {2, 5, 7}, {3, 700}, {2, 1100}})
      for (const int64_t components : {1, 2, 9})
        for (const DType type : {F32, F64, BF16, F16})
          for (const DType of_x : {DType::uint8, F32}) {
            if (few && (product(shape) < 1400 || type != F32)) continue;
            const auto with = [&](int64_t n) {
              Sizes sizes = shape;
              sizes.insert(sizes.begin() + 1, n);
              return sizes;
            };
            const Tensor packed = fill(with(components * (channels == 1 ? 3 : 10)), type, -9, 2, 2);
            const Tensor x = fill(with(channels), of_x, 0, of_x == DType::uint8 ? 255 : 1, 1);
            const WeightsOf weights{kLayouts[turn % 4], turn % 3 ? type : DType::boolean};
            const OptionalTensor weight = ++turn % 2 ? weights(with(1)) : OptionalTensor();
            const PixelRequest asked{"discretized_logistic_mixture", x, packed, weight, options};
            const Tensors out = pixel(asked, true, 0.5);
            finite(out, "pixel");
            finite(pixel_backward(incoming(out[0]), asked), "pixel");
            finite(pixel_log_prob({"discretized_logistic_mixture", x, packed, {}, options}), "pixel");
            ++cases;
          }
}

static void mixtures() {
  const int64_t sizes[][3] = {{1, 1, 1}, {5, 3, 2}, {17, 40, 33}, {300, 700, 5}, {2, 1, 4000}, {9, 600, 70}};
  for (const auto& [rows, components, dims] : sizes)
    for (const DType type : {F32, F64})
      for (const double far : {2., 1e16}) {  // 1e16 makes the float32 mixture compute in float64
        if (far > 2 && type == F64) continue;
        const Tensor z = fill({rows, dims}, type, -far, far), loc = fill({components, dims}, type, -2, 2);
        const Tensor logvar = fill({components, dims}, type, -1, 1), weight = fill({components}, type, -9, -1);
        const Tensors out = mixture({z, loc, logvar, weight}, Need{});
        finite(out, "mixture");
        finite(mixture_backward(incoming(out[0]), {z, loc, logvar, weight}, out[1], out[2], Need{15}), "mixture");
        if (components < 64) finite(mixture({z, loc, logvar, weight}, Need{15}), "mixture");
        ++cases;
      }
}

static void decompositions() {
  const int64_t sizes[][2] = {{1, 1}, {5, 3}, {17, 40}, {300, 3}, {2, 700}, {70, 9}};
  for (const auto& [batch, dims] : sizes)
    for (const DType type : {F32, F64})
      for (const double far : {2., 1e16}) {  // 1e16 makes the float32 decomposition compute in float64
        if (far > 2 && type == F64) continue;
        const Tensor z = fill({batch, dims}, type, -far, far), mu = fill({batch, dims}, type, -2, 2);
        const Tensor logvar = fill({batch, dims}, type, -1, 1);
        const DecompositionRequest asked{z, mu, logvar, -9, -3};
        const Tensors out = decomposition(asked);
        finite(out, "decomposition");
        const Tensor a = incoming(out[0]), b = incoming(out[1]), c = fill({batch, dims}, type, -1, 1);
        finite(decomposition_backward(a, b, c, asked, out[3]), "decomposition");
        ++cases;
      }
}

// Many threads use the pool while another thread changes its limit.
static void pool() {
  std::atomic<int> working = 4;
  const auto steps = [&](int seed) {
    const Tensor like = fill({1}, F32, 0, 1);
    for (int i = 0; i < 200; ++i) {
      const int64_t n = (1 + (i * 7 + seed) % 5) * 300000, one = 1;
      Tensor t = empty_pooled(&n, &one, 1, int32_t(F32), n * 4, like);
      t.mut<float>()[0] = t.mut<float>()[n - 1] = float(seed);
      if (t.mut<float>()[0] != float(seed)) std::abort();
    }
    --working;
  };
  std::vector<std::thread> running;
  for (int i = 0; i < 4; ++i) running.emplace_back(steps, i);
  for (int i = 0; working; ++i) {
    set_pool_limit(i % 3 * (int64_t(4) << 20));
    std::this_thread::sleep_for(std::chrono::microseconds(50));
    pool_bytes();
  }
  for (std::thread& one : running) one.join();
  set_pool_limit(0);
  if (pool_bytes()) std::abort();
  ++cases;
}
#endif

int main(int, char** arguments) {
  fake_poison = std::strcmp(arguments[1], "as malloc gives it");
  few = !std::strcmp(arguments[1], "few");
  uint64_t hashes[2];
  for (int threads = 1; threads <= 2; ++threads) {
    fake_threads = threads;
    hash = 14695981039346656037u;
    objectives();
    rows();
    samples();
    positions();
    tables();
#ifndef VK_CUDA_ON_HOST
    pixels();
    mixtures();
    decompositions();
    if (threads == 2) pool();
#endif
    hashes[threads - 1] = hash;
  }
  std::printf("%lld cases\n", (long long)cases);
  if (hashes[0] != hashes[1]) std::puts("two threads give other bits than one");
  return hashes[0] != hashes[1];
}
