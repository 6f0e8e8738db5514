// Loads and stores of one lane.
#include "machine.h"

void mem(Warp& w, int lane, const Insn& in, u64 addr, int n, bool write, u8* data) {
  int space = in.space;
  if (space == GENERIC) {
    space = space_of(addr);
    if (space == SHARED) addr -= W_SHARED;
    if (space == LOCAL) addr -= W_LOCAL;
  }
  if (space == PARAM && (addr >> 56) == 0x73) space = CONST;  // a lane's own parameters
  switch (space) {
    case GLOBAL:
      check_global(w, lane, in, addr, n, write, false, data);
      if (write)
        memcpy((void*)addr, data, n);
      else
        memcpy(data, (void*)addr, n);
      return;
    case SHARED: {
      check_shared(w, lane, in, addr, n, write, data);
      u8* p = &w.block->shared[addr - SHARED_BASE];
      if (write)
        memcpy(p, data, n);
      else
        memcpy(data, p, n);
      return;
    }
    case LOCAL: {
      if (addr + n > module->local_bytes || addr % n)
        throw Fatal(str("line %d: bad local access at %lu", in.line, addr));
      u8* p = &w.local[u64(lane) * module->local_bytes + addr];
      if (write)
        memcpy(p, data, n);
      else
        memcpy(data, p, n);
      return;
    }
    case PARAM: {
      if ((addr >> 56) != 0x72) throw Fatal(str("line %d: param access at %#lx", in.line, addr));
      addr -= W_KPARAM;
      if (write || addr + n > kparams.size() || addr % n)
        throw Fatal(str("line %d: bad access of a kernel parameter at %lu (%d bytes of %zu)", in.line, addr, n,
                        kparams.size()));
      memcpy(data, &kparams[addr], n);
      return;
    }
    case CONST: {
      addr -= W_LPARAM;
      if (addr + n > module->lane_param_bytes || addr % n)
        throw Fatal(str("line %d: bad access of a parameter at %lu", in.line, addr));
      u8* p = &w.lparam[u64(lane) * module->lane_param_bytes + addr];
      if (write)
        memcpy(p, data, n);
      else
        memcpy(data, p, n);
      return;
    }
  }
  throw Fatal("space");
}
