// Blocks of rows of a table, turned: the numbers of a column stand side by side, so that the vectors of the loop of the
// segments kind (segments.cpp) are full however narrow a column is. And the category that x names. Compiled once per
// instruction set, in namespace vk::VK_ISA.
#pragma once
#include <cstring>

#include "block.h"

namespace vk::VK_ISA {

constexpr int kRows = 32;      // of a block. Number i of row r of a block that is turned has the place i * kRows + r.
constexpr int kNumbers = 128;  // of a row, at most, that are turned together

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define VK_SHUFFLE __builtin_shufflevector
#endif
#endif

// to[i][j] = from[j][i] for 4 x 4 numbers: scalar loads and stores would take four times as many instructions.
template <class T>
VK_FN void turn_tile(const T* const (&from)[4], T* const (&to)[4]) {
#ifdef VK_SHUFFLE
  typedef T Four __attribute__((vector_size(4 * sizeof(T))));
  Four v[4];
  for (int j = 0; j < 4; ++j) std::memcpy(&v[j], from[j], sizeof v[j]);
  const Four a = VK_SHUFFLE(v[0], v[1], 0, 4, 1, 5), b = VK_SHUFFLE(v[2], v[3], 0, 4, 1, 5);
  const Four c = VK_SHUFFLE(v[0], v[1], 2, 6, 3, 7), d = VK_SHUFFLE(v[2], v[3], 2, 6, 3, 7);
  v[0] = VK_SHUFFLE(a, b, 0, 1, 4, 5);
  v[1] = VK_SHUFFLE(a, b, 2, 3, 6, 7);
  v[2] = VK_SHUFFLE(c, d, 0, 1, 4, 5);
  v[3] = VK_SHUFFLE(c, d, 2, 3, 6, 7);
  for (int j = 0; j < 4; ++j) std::memcpy(to[j], &v[j], sizeof v[j]);
#else
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 4; ++j) to[i][j] = from[j][i];
#endif
}

// The numbers from column `col` on of n rows, turned; the last row stands in for the rows that a block lacks.
template <class T>
static void read_turned(const Source& s, int64_t row, int n, int64_t col, int numbers, T* to) {
  T buffer[4 * kNumbers];
  for (int r = 0; r < kRows; r += 4) {
    const T* from[4];
    for (int j = 0; j < 4; ++j)
      from[j] = load<T, true>(s, row + (r + j < n ? r + j : n - 1), col, numbers, buffer + j * kNumbers);
    T* const tile = to + r;
    int i = 0;
    for (; i + 4 <= numbers; i += 4)
      turn_tile<T>({from[0] + i, from[1] + i, from[2] + i, from[3] + i},
                   {tile + i * kRows, tile + (i + 1) * kRows, tile + (i + 2) * kRows, tile + (i + 3) * kRows});
    for (; i < numbers; ++i)
      for (int j = 0; j < 4; ++j) tile[i * kRows + j] = from[j][i];
  }
}

// The opposite: writes n rows of a block that is turned.
template <class T>
static void write_turned(const T* from, const Sink& s, int64_t row, int n, int64_t col, int numbers) {
  T buffer[4 * kNumbers];
  for (int r = 0; r < n; r += 4) {
    T* to[4];
    for (int j = 0; j < 4; ++j) {
      T* const here = buffer + j * kNumbers;
      to[j] = r + j < n ? target(s, row + r + j, col, here) : here;
    }
    const T* const tile = from + r;
    int i = 0;
    for (; i + 4 <= numbers; i += 4)
      turn_tile<T>({tile + i * kRows, tile + (i + 1) * kRows, tile + (i + 2) * kRows, tile + (i + 3) * kRows},
                   {to[0] + i, to[1] + i, to[2] + i, to[3] + i});
    for (; i < numbers; ++i)
      for (int j = 0; j < 4; ++j) to[j][i] = tile[i * kRows + j];
    for (int j = 0; j < 4 && r + j < n; ++j) store(to[j], s, row + r + j, col, numbers);
  }
}

// The code of a category, or -1 where x is none.
template <class T>
static int32_t code_of_number(T x, int64_t width) {
  const bool possible = x >= 0 && x < T(width);
  const int32_t code = possible ? int32_t(x) : -1;
  return T(code) == x ? code : -1;
}
// From one row
template <class T>
static int32_t code_of_one_hot(const T* x, int64_t width) {
  uint32_t code = 0, others = 0, ones = 0;  // code: the sum of the codes of all that is hot, modulo 2^32
#pragma omp simd reduction(+ : code, others, ones)
  for (uint32_t k = 0; k < uint32_t(width); ++k) {
    code += x[k] == 1 ? k : 0u;
    ones += x[k] == 1;
    others += x[k] != 0;
  }
  return ones == 1 && others == 1 ? int32_t(code) : -1;
}
// From all rows of a block that is turned
template <class T>
static void codes_of_one_hot(const T* x, int width, int32_t* code) {
  int32_t others[kRows] = {}, ones[kRows] = {};
  for (int r = 0; r < kRows; ++r) code[r] = 0;
  for (int k = 0; k < width; ++k) {
    const T* const hot = x + k * kRows;
#pragma omp simd
    for (int r = 0; r < kRows; ++r) {
      code[r] += hot[r] == 1 ? k : 0;
      ones[r] += hot[r] == 1;
      others[r] += hot[r] != 0;
    }
  }
#pragma omp simd
  for (int r = 0; r < kRows; ++r) code[r] = ones[r] == 1 && others[r] == 1 ? code[r] : -1;
}

}  // namespace vk::VK_ISA
