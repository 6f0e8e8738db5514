// Where a kernel may go: regions of host memory, with the state of each byte, and address windows of the other spaces.
#pragma once
#include <map>
#include <memory>
#include <string>

#include "types.h"

constexpr u64 W_SHARED = 0x70ull << 56, W_LOCAL = 0x71ull << 56, W_KPARAM = 0x72ull << 56, W_LPARAM = 0x73ull << 56;
constexpr u32 SHARED_BASE = 1024;
inline int space_of(u64 a) {
  switch (a >> 56) {
    case 0x70:
      return SHARED;
    case 0x71:
      return LOCAL;
    case 0x72:
      return PARAM;
    case 0x73:
      return CONST;
  }
  return GLOBAL;
}

struct Access {
  s32 launch = 0, block = -1;
  s32 thread = -1;
  u32 epoch = 0;
};  // shadow of a byte
struct ByteShadow {
  Access w, r;
  u8 r_many = 0, w_atomic = 0;
};
struct Region {
  u64 base, size;
  std::string name;
  std::unique_ptr<u8[]> state;  // bit 0 addressable, bit 1 initialised, bit 2 read only
  std::unique_ptr<ByteShadow[]> shadow;
};

inline std::map<u64, Region> regions;
inline s32 launch_id = 0;
inline Region* last_region = nullptr;

inline Region* find_region(u64 a) {
  auto it = regions.upper_bound(a);
  if (it == regions.begin()) return nullptr;
  --it;
  Region& r = it->second;
  return a < r.base + r.size ? &r : nullptr;
}
