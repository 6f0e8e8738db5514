// Attaches C++ functions to ops, over the declarations of torch_abi.h:
//
//   vk::Tensor scale(const vk::Tensor& x, const std::optional<vk::Tensor>& w, int64_t n, double a);
//   const vk::Library library = vk::Library("vae_kernels", "CPU", __FILE__, __LINE__).impl<&scale>("scale");
#pragma once
#include <concepts>
#include <cstring>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include "torch_abi.h"

namespace vk {

// ---------------------------------------------------------------- boxing: StableIValue <-> C++ values

template <class T>
using Bare = std::remove_cvref_t<T>;

// take: an argument, which the op owns from then on. give: a result, which torch owns from then on.
template <class T>
struct Arg {
  static_assert(std::same_as<T, bool> || std::same_as<T, int64_t> || std::same_as<T, double>,
                "an op takes and returns bool, int64_t, double, std::string (argument only), Tensor, and std::optional "
                "and std::vector of these; the schema's int is int64_t and its float is double");
  static T take(StableIValue v) {
    T value;
    std::memcpy(&value, &v, sizeof value);  // little-endian machines only
    return value;
  }
  static StableIValue give(T value) {
    StableIValue v = 0;
    std::memcpy(&v, &value, sizeof value);
    return v;
  }
};

template <>
struct Arg<Tensor> {
  static Tensor take(StableIValue v) { return Tensor(reinterpret_cast<AtenTensorHandle>(v)); }
  static StableIValue give(Tensor value) { return reinterpret_cast<StableIValue>(value.release()); }
};

template <class T>
struct Arg<std::optional<T>> {  // null, or a heap cell
  static std::optional<T> take(StableIValue v) {
    auto* cell = reinterpret_cast<StableIValue*>(v);
    if (!cell) return std::nullopt;
    StableIValue value = *cell;
    delete cell;
    return Arg<T>::take(value);
  }
  static StableIValue give(std::optional<T> value) {
    if (!value) return 0;
    return reinterpret_cast<StableIValue>(new StableIValue(Arg<T>::give(std::move(*value))));
  }
};

template <>
struct Arg<std::string> {
  static std::string take(StableIValue v) {
    struct Handle {  // frees it on every way out
      StringHandle p;
      ~Handle() { torch_delete_string(p); }
    } string{reinterpret_cast<StringHandle>(v)};
    size_t length;
    const char* data;
    VK_TORCH(torch_string_length(string.p, &length));
    VK_TORCH(torch_string_c_str(string.p, &data));
    return std::string(data, length);
  }
};

template <class T>
struct Arg<std::vector<T>> {
  struct Handle {
    StableListHandle p;
    ~Handle() {
      if (p) torch_delete_list(p);
    }
  };
  static std::vector<T> take(StableIValue v) {
    Handle list{reinterpret_cast<StableListHandle>(v)};
    size_t size;
    VK_TORCH(torch_list_size(list.p, &size));
    std::vector<T> values;
    values.reserve(size);
    for (size_t i = 0; i < size; i++) {
      StableIValue item;
      VK_TORCH(torch_list_get_item(list.p, i, &item));
      values.push_back(Arg<T>::take(item));
    }
    return values;
  }
  static StableIValue give(std::vector<T> values) {
    Handle list{};
    VK_TORCH(torch_new_list_reserve_size(values.size(), &list.p));
    for (auto&& value : values) VK_TORCH(torch_list_push_back(list.p, Arg<T>::give(std::move(value))));
    return reinterpret_cast<StableIValue>(std::exchange(list.p, nullptr));
  }
};

template <auto F>
struct Boxed;

// Boxed<&f>::call is what torch's dispatcher calls: arguments on the stack, and then the results in their place.
template <class R, class... P, R (*F)(P...)>
struct Boxed<F> {
  static void call(StableIValue* stack, uint64_t n_arguments, uint64_t n_results) {
    call(stack, n_arguments, n_results, std::index_sequence_for<P...>{});
  }

 private:
  template <size_t... I>
  static void call(StableIValue* stack, uint64_t n_arguments, uint64_t n_results, std::index_sequence<I...>) {
    VK_CHECK(n_arguments == sizeof...(P), "the schema has ", n_arguments, " arguments, C++ has ", sizeof...(P));
    // Take all before the call: each is owned from here on, whatever throws.
    std::tuple<Bare<P>...> arguments{Arg<Bare<P>>::take(stack[I])...};
    if constexpr (std::is_void_v<R>) {
      F(std::forward<P>(std::get<I>(arguments))...);
    } else {
      put(stack, n_results, F(std::forward<P>(std::get<I>(arguments))...));
    }
  }

  template <class T>
  static void put(StableIValue* stack, uint64_t n_results, T result) {
    VK_CHECK(n_results == 1, "the schema has ", n_results, " results, C++ has 1");
    stack[0] = Arg<T>::give(std::move(result));
  }

  template <class... T>
  static void put(StableIValue* stack, uint64_t n_results, std::tuple<T...> result) {
    VK_CHECK(n_results == sizeof...(T), "the schema has ", n_results, " results, C++ has ", sizeof...(T));
    std::apply([&](T&... value) { ((*stack++ = Arg<T>::give(std::move(value))), ...); }, result);
  }
};

// Attaches kernels to ops that backends/compiled/schemas.py has declared, for one dispatch key ("CPU", "CUDA", ...).
class Library {
 public:
  Library(const char* ns, const char* key, const char* file, uint32_t line) {
    VK_TORCH(aoti_torch_library_init_impl(ns, key, file, line, &handle_));
  }
  template <auto F>
  Library& impl(const char* name) {
    constexpr uint64_t kTorch210 = (2ULL << 56) | (10ULL << 48);  // the version whose conventions this file follows
    VK_TORCH(torch_library_impl(handle_, name, &Boxed<F>::call, kTorch210));
    return *this;
  }

 private:
  TorchLibraryHandle handle_;  // never freed: the ops live as long as the process
};

}  // namespace vk
