// Where a kernel may go: regions of host memory, with the state of each byte, and address windows of the other spaces.
#pragma once
#include <map>
#include <memory>
#include <string>

#include "types.h"

// A generic address says its space in its highest byte; global memory is that of this process.
constexpr u64 W_SHARED = 0x70ull << 56, W_LOCAL = 0x71ull << 56;
constexpr u64 W_KPARAM = 0x72ull << 56;  // the parameters of the kernel
constexpr u64 W_LPARAM = 0x73ull << 56;  // the parameters of functions, of each lane; CONST stands for this space
constexpr u32 SHARED_BASE = 1024;        // so that address 0 is no shared memory
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

// Who used a byte last. epoch: how many barriers the block had met, and 1.
struct Access {
  s32 launch = 0, block = -1;
  s32 thread = -1;
  u32 epoch = 0;
};
// The last write and the last read of a byte. r_many: several threads of that block have read it in that epoch.
struct ByteShadow {
  Access w, r;
  u8 r_many = 0, w_atomic = 0;
};
enum State : u8 { ADDRESSABLE = 1, WRITTEN = 2, READ_ONLY = 4 };  // of a byte
struct Region {
  u64 base, size;
  std::string name;
  std::unique_ptr<u8[]> state;
  std::unique_ptr<ByteShadow[]> shadow;
};

inline std::map<u64, Region> regions;
inline s32 launch_id = 0;              // of the launch that runs
inline Region* last_region = nullptr;  // where the next access probably is

inline Region* find_region(u64 a) {
  auto it = regions.upper_bound(a);
  if (it == regions.begin()) return nullptr;
  --it;
  Region& r = it->second;
  return a < r.base + r.size ? &r : nullptr;
}
