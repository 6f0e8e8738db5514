// Makes a Python module of csrc/special.h, csrc/noise.h and csrc/formulas, which computes element by element without
// our loops, for tests/formulas/test_elementwise.py. The test writes likelihoods.h, which includes the header of every
// likelihood.
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <utility>

#include "formula.h"
#include "formulas/all.h"
#include "formulas/kl.h"
#include "formulas/reparameterize.h"
#include "likelihoods.h"
#include "noise.h"
#include "special.h"

namespace py = pybind11;

template <class T, size_t>
using Always = T;

// f(value, gradients, arguments) becomes name(...) and name_grad(k, ...), which is the gradient by the k-th parameter.
template <class T, size_t N, class F, size_t... I>
void define(py::module_& m, const std::string& name, F f, std::index_sequence<I...>) {
  m.def(name.c_str(), py::vectorize([f](Always<T, I>... a) {
          T grad[N];
          return f(grad, a...);
        }));
  m.def((name + "_grad").c_str(), py::vectorize([f](int k, Always<T, I>... a) {
          T grad[N];
          f(grad, a...);
          return grad[k];
        }));
}

template <class F, class T>
void define_likelihood(py::module_& m, const char* name) {
  constexpr size_t N = F::parameters;
  auto nll = [](T(&grad)[N], T x, auto... a) {
    const T p[N] = {a...};
    const auto nll = vk::parts(F::nll(x, p, grad));
    return nll.value + vk::log1p(nll.e);
  };
  define<T, N>(m, name, nll, std::make_index_sequence<N + 1>());
}

template <class T>
void define_all(py::module_ m) {
#define VK_DEFINE(name) define_likelihood<vk::name, T>(m, #name);
  VK_LIKELIHOODS(VK_DEFINE)
  auto kl = [](T(&grad)[4], auto... a) {
    const T p[4] = {a...};
    return vk::gaussian_kl::value(p, grad);
  };
  define<T, 4>(m, "gaussian_kl", kl, std::make_index_sequence<4>());
  auto z = [](T(&grad)[1], T mu, T logvar, T eps) { return vk::reparameterize::value(mu, logvar, eps, grad[0]); };
  define<T, 1>(m, "reparameterize", z, std::make_index_sequence<3>());

  m.def("exp", py::vectorize([](T x) { return vk::exp(x); }));
  m.def("exp_nonpositive", py::vectorize([](T x) { return vk::exp_nonpositive(x); }));
  m.def("exp_saturated", py::vectorize([](T x) { return vk::exp_saturated(x); }));
  m.def("exp_first", py::vectorize([](T x) { return vk::exp_factors(x).first; }));
  m.def("exp_second", py::vectorize([](T x) { return vk::exp_factors(x).second; }));
  m.def("divided_by_255", py::vectorize([](T x) { return vk::divided_by_255(x); }));
  m.def("log1p", py::vectorize([](T x) { return vk::log1p(x); }));
  m.def("log1p_unit", py::vectorize([](T x) { return vk::log1p_unit(x); }));
  m.def("truncated_mean", py::vectorize([](T a) { return vk::truncated_mean(a); }));
  m.def("expm1", py::vectorize([](T x) { return vk::expm1_pair(x).value; }));
  m.def("expm1_nonpositive", py::vectorize([](T x) { return vk::expm1_nonpositive(x); }));
  m.def("expm1_minus_x", py::vectorize([](T x) { return vk::expm1_pair(x).minus_x; }));
}

PYBIND11_MODULE(MODULE, m) {
  define_all<float>(m.def_submodule("float32"));
  define_all<double>(m.def_submodule("float64"));
  m.def("word", py::vectorize([](uint64_t seed, uint64_t offset, uint64_t group, int lane) {
          return vk::philox(seed, offset, group).w[lane];
        }));
  m.def("sine", py::vectorize([](uint32_t x, uint32_t y) { return vk::box_muller(x, y).sine; }));
  m.def("cosine", py::vectorize([](uint32_t x, uint32_t y) { return vk::box_muller(x, y).cosine; }));
}
