// A launch while it runs: blocks, warps, threads, and what each thread has seen of the others.
#pragma once
#include <algorithm>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "insn.h"
#include "memory.h"
#include "numbers.h"
#include "report.h"

// What somebody has seen of other blocks. view: for each block, the epoch before which all of its threads' accesses are
// seen. extra: {block, {thread, epoch}}, the single threads of which all accesses up to this epoch are seen as well.
struct Clock {
  std::vector<u32> view;
  std::set<std::pair<s32, std::pair<s32, u32>>> extra;
  bool any = false;  // whether it has seen anything
  void join(const Clock& o) {
    if (!o.any) return;
    any = true;
    if (view.size() < o.view.size()) view.resize(o.view.size());
    for (size_t i = 0; i < o.view.size(); i++) view[i] = std::max(view[i], o.view[i]);
    extra.insert(o.extra.begin(), o.extra.end());
  }
  bool sees(s32 block, s32 thread, u32 epoch) const {
    if (!any) return false;
    if (size_t(block) < view.size() && view[block] > epoch) return true;
    for (auto& e : extra)
      if (e.first == block && e.second.first == thread && e.second.second >= epoch) return true;
    return false;
  }
};
// For each address of atomics: what those who have written there had seen; and {block, thread} of its users.
inline std::unordered_map<u64, Clock> location;
inline std::unordered_map<u64, std::set<std::pair<s32, s32>>> atomic_users;

struct Frame {
  s32 ret, call;  // where the call returns to; the call
};
enum LaneState : u8 { RUN, BARRIER, WAIT, DONE };  // WAIT: for other lanes of the warp
struct Block;
struct Warp {
  Block* block;
  int index;
  u32 live;                       // lanes that exist
  std::vector<u64> regs;          // [register, lane]
  std::vector<u8> lparam, local;  // [lane, byte]: parameters of functions, local memory
  s32 pc[32];
  LaneState state[32];
  std::vector<Frame> stack[32];
  s32 bar_id[32];
  u32 wait_mask[32];
};
// view: what the thread has seen. fence: what it had done and seen at its last fence, which its next atomic gives to
// the others. pending: what its atomics have found, which its next fence makes seen.
struct Thread {
  Clock view, fence, pending;
};
// The last write and the last read of a byte of shared memory. r_many: 1 several threads of a warp have read it in that
// epoch, 2 threads of several warps.
struct SharedShadow {
  s32 w_thread = -1, r_thread = -1;
  u32 w_epoch = 0, r_epoch = 0;
  u8 init = 0, r_many = 0;
};
struct Block {
  s32 id;
  u32 cx, cy, cz;  // its place in the grid
  std::vector<std::unique_ptr<Warp>> warps;
  std::vector<u8> shared;
  std::vector<SharedShadow> sh;
  u32 epoch = 1;  // one more at each barrier
  Clock view;     // what all of its threads have seen
  std::vector<Thread> threads;
  int threads_n;
  u32 alive;
};
struct Config {  // executor.py says what each is
  u32 grid[3], block[3];
  u32 shared_bytes;
  s32 entry;
  u64 seed;
  s32 resident, order, policy, diverge;
  s64 budget;
  s32 ulp;
};
inline Config cfg;
inline Module* module;
inline std::vector<u8> kparams;
inline u64 executed, warp_insns;
inline std::vector<u64> op_hits(OP_COUNT);

inline std::string where(const Warp& w, int lane) {
  return str("block %d thread %d", w.block->id, w.index * 32 + lane);
}

// Does f for each lane of a mask.
template <class F>
inline void lanes(u32 m, F f) {
  if (m == ~0u)
    for (int l = 0; l < 32; l++) f(l);
  else
    for (; m; m &= m - 1) f(__builtin_ctz(m));
}

// A check of an access of n bytes. data: what is written.
void check_shared(Warp& w, int lane, const Insn& in, u64 off, int n, bool write, const u8* data);
void check_global(Warp& w, int lane, const Insn& in, u64 a, int n, bool write, bool atomic, const u8* data);
// A race of one byte of global memory.
void check_race(Warp& w, int lane, const Insn& in, Region& r, u64 offset, bool write, bool atomic, const u8* data);
// A load or a store of n bytes of one lane, by the space of the instruction or of the address.
void mem(Warp& w, int lane, const Insn& in, u64 addr, int n, bool write, u8* data);

bool compare(int cmp, int ty, u64 a, u64 b, bool z);
u64 convert(const Insn& in, u64 v);
u64 float_op(const Insn& in, u64 a, u64 b, u64 c);
u64 int_op(const Insn& in, u64 a, u64 b, u64 c);

void step(Warp& w, u32 m);
void run();
