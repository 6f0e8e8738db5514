// The types of PTX, and integers that stand in registers of 64 bits.
#pragma once
#include <cstdint>

typedef uint64_t u64;
typedef int64_t s64;
typedef uint32_t u32;
typedef int32_t s32;
typedef uint16_t u16;
typedef int16_t s16;
typedef uint8_t u8;
typedef int8_t s8;
typedef unsigned __int128 u128;
typedef __int128 s128;

enum Ty {
  PRED,
  B8,
  B16,
  B32,
  B64,
  U8,
  U16,
  U32,
  U64,
  S8,
  S16,
  S32,
  S64,
  F16,
  F16X2,
  BF16,
  BF16X2,
  F32,
  F64,
  B128,
  F32X2,
  S16X2,
  U16X2
};
enum Space { GENERIC, GLOBAL, SHARED, LOCAL, PARAM, CONST };

inline int size_of(int ty) {
  switch (ty) {
    case B8:
    case U8:
    case S8:
    case PRED:
      return 1;
    case B16:
    case U16:
    case S16:
    case F16:
    case BF16:
      return 2;
    case B64:
    case U64:
    case S64:
    case F64:
    case F32X2:
      return 8;
    case B128:
      return 16;
  }
  return 4;
}
inline bool is_signed(int ty) { return ty >= S8 && ty <= S64; }
inline bool is_float(int ty) { return ty >= F16 && ty <= F64; }
inline u64 extend(u64 v, int ty) {
  switch (ty) {
    case S8:
      return u64(s64(s8(v)));
    case S16:
      return u64(s64(s16(v)));
    case S32:
      return u64(s64(s32(v)));
    case U8:
    case B8:
      return u8(v);
    case U16:
    case B16:
    case F16:
    case BF16:
      return u16(v);
    case U32:
    case B32:
    case F32:
    case F16X2:
    case BF16X2:
      return u32(v);
    case PRED:
      return v & 1;
  }
  return v;
}
inline u64 truncate(u64 v, int ty) {
  switch (size_of(ty)) {
    case 1:
      return ty == PRED ? v & 1 : u8(v);
    case 2:
      return u16(v);
    case 4:
      return u32(v);
  }
  return v;
}
