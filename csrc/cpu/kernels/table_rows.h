// Blocks of rows of a table, in the compute type, as the loop of the segments kind (segments.cpp) reads and writes
// them. Compiled once per instruction set, in namespace vk::VK_ISA.
#pragma once
#include <vector>

#include "block.h"

namespace vk::VK_ISA {

constexpr int kRows = 32;  // of a block

// Rows of one matrix that is read, in the compute type: where they lie, or copied.
template <class T>
class RowsIn {
  std::vector<T> buffer_;
  const T* data_;
  int64_t stride_;

 public:
  // the numbers from `from` on of n rows; the last row stands in for the rows that a block lacks
  void read(const Source& s, int64_t row, int n, int64_t from, int64_t numbers) {
    if (s.dtype == dtype_of<T> && n == kRows && in_order(s, row, n)) {
      stride_ = s.stride;
      data_ = static_cast<const T*>(s.data) + begin_of(s, row) + from;
      return;
    }
    buffer_.resize(kRows * numbers);
    data_ = buffer_.data();
    stride_ = numbers;
    for (int r = 0; r < kRows; ++r)
      load_into<T, true>(s, row + (r < n ? r : n - 1), from, int(numbers), buffer_.data() + r * numbers);
  }
  const T* operator[](int r) const { return data_ + r * stride_; }
  // number i of each row
  void gather(int64_t i, T* to) const {
    for (int r = 0; r < kRows; ++r) to[r] = data_[r * stride_ + i];
  }
};

// Rows of one matrix that is written: where they lie, or in a buffer, which finish() then converts.
template <class T>
class RowsOut {
  std::vector<T> buffer_;
  Sink sink_;
  int64_t from_, numbers_;
  T* data_ = nullptr;
  int64_t stride_ = 0;

 public:
  RowsOut(const Sink& s, int64_t from, int64_t numbers) : sink_(s), from_(from), numbers_(numbers) {}
  explicit operator bool() const { return sink_.data; }

  void begin(int64_t row) {
    const bool here = !sink_.data || sink_.dtype == dtype_of<T>;
    if (!here) buffer_.resize(kRows * numbers_);
    stride_ = here ? sink_.stride : numbers_;
    data_ = here ? static_cast<T*>(sink_.data) + row * stride_ + from_ : buffer_.data();
  }
  T* operator[](int r) const { return data_ + r * stride_; }
  void scatter(const T* values, int64_t i, int n) const {
    for (int r = 0; r < n; ++r) data_[r * stride_ + i] = values[r];
  }
  void finish(int64_t row, int n) const {
    if (data_ != buffer_.data() || buffer_.empty()) return;
    for (int r = 0; r < n; ++r)
      for (int64_t i = 0; i < numbers_; i += kBlock)
        store(data_ + r * numbers_ + i, sink_, row + r, from_ + i, int(numbers_ - i < kBlock ? numbers_ - i : kBlock));
  }
};

}  // namespace vk::VK_ISA
