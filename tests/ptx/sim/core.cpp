// The core of ptxsim: executes PTX that ptxsim.py has parsed, warp by warp, with a memcheck, an initcheck and a race
// detector. One OS thread; which warp (and which diverged part of it) goes on is decided by a seeded scheduler.
#include <immintrin.h>
#include <algorithm>
#include <cfenv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <unordered_map>
#include <vector>
#pragma STDC FENV_ACCESS ON
typedef uint64_t u64; typedef int64_t s64; typedef uint32_t u32; typedef int32_t s32; typedef uint16_t u16; typedef int16_t s16; typedef uint8_t u8; typedef int8_t s8;
typedef unsigned __int128 u128; typedef __int128 s128;

enum Ty { PRED, B8, B16, B32, B64, U8, U16, U32, U64, S8, S16, S32, S64, F16, F16X2, BF16, BF16X2, F32, F64, B128, F32X2, S16X2, U16X2 };
enum Space { GENERIC, GLOBAL, SHARED, LOCAL, PARAM, CONST };
enum Op {
#define X(n) OP_##n,
#include "ops.h"
#undef X
};
static const char* op_names[] = {
#define X(n) #n,
#include "ops.h"
#undef X
};
enum Flag { FTZ = 1, SAT = 2, APPROX = 4, FULL = 8, HI = 16, LO = 32, WIDE = 64, NANF = 128, NC = 256, WRAP = 512, CLAMP = 1024,
  RELEASE = 2048, ACQUIRE = 4096, UNI = 8192, VOLATILE = 16384, XORSIGN = 32768, CC = 65536, TOSPACE = 131072, CG = 262144, RELAXED = 524288 };
enum Round { R_NONE, RN, RZ, RM, RP, RNI, RZI, RMI, RPI, RNA };
enum Cmp { C_EQ, C_NE, C_LT, C_LE, C_GT, C_GE, C_LO, C_LS, C_HI, C_HS, C_EQU, C_NEU, C_LTU, C_LEU, C_GTU, C_GEU, C_NUM, C_NAN };
enum BoolOp { B_NONE, B_AND, B_OR, B_XOR };
enum Atom { A_NONE, A_ADD, A_MIN, A_MAX, A_EXCH, A_CAS, A_AND, A_OR, A_XOR, A_INC, A_DEC };

struct Opnd { s32 kind, reg; u64 imm; };  // kind 0 none, 1 register, 2 immediate, 3 register negated (predicates), 4 lane-param address
struct Insn {
  s32 op, ty, ty2, guard, gneg, flags, round, cmp, boolop, space, vec, atom, nd, ns, target, line, func, aux;
  s64 off;
  Opnd d[8], s[10];
};
struct Arg { s32 from, to, size; };  // between lane-param slots
struct Call { s32 args_begin, args_end, rets_begin, rets_end; };

constexpr u64 W_SHARED = 0x70ull << 56, W_LOCAL = 0x71ull << 56, W_KPARAM = 0x72ull << 56, W_LPARAM = 0x73ull << 56;
constexpr u32 SHARED_BASE = 1024;
static int space_of(u64 a) { switch (a >> 56) { case 0x70: return SHARED; case 0x71: return LOCAL; case 0x72: return PARAM; case 0x73: return CONST; } return GLOBAL; }

struct Access { s32 launch = 0, block = -1; s32 thread = -1; u32 epoch = 0; };  // shadow of a byte
struct ByteShadow { Access w, r; u8 r_many = 0, w_atomic = 0; };
struct Region {
  u64 base, size; std::string name;
  std::unique_ptr<u8[]> state;  // bit 0 addressable, bit 1 initialised, bit 2 read only
  std::unique_ptr<ByteShadow[]> shadow;
};
struct Fatal : std::runtime_error { using runtime_error::runtime_error; };

struct Sim {
  std::vector<Insn> code; std::vector<Arg> args; std::vector<Call> calls;
  int n_regs = 0; u32 lane_param_bytes = 0, local_bytes = 0;
  std::vector<std::vector<u64>> consts;
  std::vector<u64> hits;
};
static std::map<u64, Region> regions;
static s32 launch_id = 0;

struct Report { std::string kind; s32 line; std::string text; u64 count; };
static std::map<std::pair<std::string, s32>, Report> reports;
static void note(const char* kind, s32 line, const std::string& text) {
  auto& r = reports[{kind, line}];
  if (!r.count) { r.kind = kind; r.line = line; r.text = text; }
  r.count++;
}
template <class... A> static std::string str(const char* f, A... a) { char b[512]; snprintf(b, sizeof b, f, a...); return b; }

// ---------------------------------------------------------------- numbers
static inline float f32(u64 v) { u32 u = u32(v); float f; memcpy(&f, &u, 4); return f; }
static inline double f64(u64 v) { double f; memcpy(&f, &v, 8); return f; }
static inline u64 bits(float f) { u32 u; memcpy(&u, &f, 4); return u; }
static inline u64 bits(double f) { u64 u; memcpy(&u, &f, 8); return u; }
static inline u64 nan_or(float f) { return f != f ? 0x7fffffffu : bits(f); }
static inline u64 nan_or(double f) { return f != f ? 0x7fffffffffffffffull : bits(f); }  // HW: 0x7ff8...; the sign is unspecified
static inline float ftz(float f) { return std::fabs(f) < 1.17549435e-38f ? std::copysign(0.f, f) : f; }
static inline float half_to_f(u64 v) { u16 u = u16(v); _Float16 h; memcpy(&h, &u, 2); return float(h); }
static inline u16 f_to_half(float f) { if (f != f) return 0x7fff; _Float16 h = _Float16(f); u16 u; memcpy(&u, &h, 2); return u; }
static inline u16 d_to_half(double f) { if (f != f) return 0x7fff; _Float16 h = _Float16(f); u16 u; memcpy(&u, &h, 2); return u; }
static inline float bf_to_f(u64 v) { return f32(u64(u16(v)) << 16); }
static inline u16 f_to_bf(float f, int round = RN) { if (f != f) return 0x7fff; u32 u = u32(bits(f)); if (round == RZ) return u16(u >> 16); return u16((u + 0x7fff + ((u >> 16) & 1)) >> 16); }
struct RoundGuard { int old; RoundGuard(int r) { old = fegetround(); fesetround(r == RZ ? FE_TOWARDZERO : r == RM ? FE_DOWNWARD : r == RP ? FE_UPWARD : FE_TONEAREST); } ~RoundGuard() { fesetround(old); } };

static int ulp_mode = 0;  // 0 exact, 1 random, 2 up, 3 down: the approximate instructions
static u64 rng_state = 1;
static inline u64 rnd() { rng_state ^= rng_state << 13; rng_state ^= rng_state >> 7; rng_state ^= rng_state << 17; return rng_state; }
static float approx(double exact, bool z) {
  float f = float(exact);
  if (ulp_mode && f == f && std::isfinite(f) && f != 0 && std::fabs(f) > 2e-38f) {
    int k = ulp_mode == 1 ? int(rnd() % 3) - 1 : ulp_mode == 2 ? 1 : ulp_mode == 3 ? -1 : ulp_mode == 4 ? int(rnd() % 5) - 2 : ulp_mode == 5 ? 2 : -2;

    u32 u = u32(bits(f)); u += k; f = f32(u);
  }
  return z ? ftz(f) : f;
}

// ---------------------------------------------------------------- machine
struct Clock { std::vector<u32> view; std::set<std::pair<s32, std::pair<s32, u32>>> extra; bool any = false;
  void join(const Clock& o) { if (!o.any) return; any = true; if (view.size() < o.view.size()) view.resize(o.view.size()); for (size_t i = 0; i < o.view.size(); i++) view[i] = std::max(view[i], o.view[i]); extra.insert(o.extra.begin(), o.extra.end()); }
  bool sees(s32 block, s32 thread, u32 epoch) const { if (!any) return false; if (size_t(block) < view.size() && view[block] > epoch) return true; for (auto& e : extra) if (e.first == block && e.second.first == thread && e.second.second >= epoch) return true; return false; } };
static std::unordered_map<u64, Clock> location;         // of atomics
static std::unordered_map<u64, std::set<std::pair<s32, s32>>> atomic_users;

struct Frame { s32 ret, call; };
enum LaneState : u8 { RUN, BARRIER, WAIT, DONE };
struct Block; 
struct Warp {
  Block* block; int index; u32 live;            // lanes that exist
  std::vector<u64> regs; std::vector<u8> lparam, local;
  s32 pc[32]; LaneState state[32]; std::vector<Frame> stack[32];
  s32 bar_id[32]; u32 wait_mask[32];
  std::vector<u32> undefined;
};
struct Thread { Clock view, fence, pending; };
struct SharedShadow { s32 w_thread = -1, r_thread = -1; u32 w_epoch = 0, r_epoch = 0; u8 init = 0, r_many = 0; };
struct Block {
  s32 id; u32 cx, cy, cz; std::vector<std::unique_ptr<Warp>> warps; std::vector<u8> shared; std::vector<SharedShadow> sh; u32 epoch = 1;
  Clock view; std::vector<Thread> threads; int threads_n; u32 alive;
};
struct Config { u32 grid[3], block[3]; u32 shared_bytes; s32 entry; u64 seed; s32 resident, order, policy, diverge, race, init; s64 budget; s32 ulp; };
static Config cfg; static Sim* sim; static std::vector<u8> kparams; static u64 executed; static u64 warp_insns;
static std::vector<u64> op_hits(OP_COUNT);

static Region* find_region(u64 a) {
  auto it = regions.upper_bound(a); if (it == regions.begin()) return nullptr; --it;
  Region& r = it->second; return a < r.base + r.size ? &r : nullptr;
}
static Region* last_region = nullptr;

static std::string where(const Warp& w, int lane) { return str("block %d thread %d", w.block->id, w.index * 32 + lane); }

static void check_shared(Warp& w, int lane, const Insn& in, u64 off, int n, bool write, const u8* data) {
  Block& b = *w.block; s32 t = w.index * 32 + lane;
  if (off < SHARED_BASE || off + n > SHARED_BASE + b.shared.size()) throw Fatal(str("line %d: shared %s of %d bytes at offset %ld of %zu; %s", in.line, write ? "store" : "load", n, long(off) - SHARED_BASE, b.shared.size(), where(w, lane).c_str()));
  off -= SHARED_BASE;
  if (off % n) throw Fatal(str("line %d: misaligned shared access of %d bytes at %lu; %s", in.line, n, off, where(w, lane).c_str()));
  for (int i = 0; i < n; i++) {
    SharedShadow& s = b.sh[off + i];
    if (!write) {
      if (!s.init) note("shared-uninitialised-read", in.line, str("offset %lu; %s", off + i, where(w, lane).c_str()));
      else if (s.w_epoch == b.epoch && s.w_thread != t) note(s.w_thread / 32 == t / 32 ? "shared-same-warp-raw" : "shared-race-raw", in.line, str("offset %lu, written by thread %d; %s", off + i, s.w_thread, where(w, lane).c_str()));
      if (s.r_epoch != b.epoch) { s.r_epoch = b.epoch; s.r_thread = t; s.r_many = 0; } else if (s.r_thread != t) { if (s.r_thread / 32 != t / 32) s.r_many = 2; else if (!s.r_many) s.r_many = 1; }
    } else {
      if (s.init && s.w_epoch == b.epoch && s.w_thread != t && b.shared[off + i] != data[i]) note(s.w_thread / 32 == t / 32 ? "shared-same-warp-waw" : "shared-race-waw", in.line, str("offset %lu, written by thread %d; %s", off + i, s.w_thread, where(w, lane).c_str()));
      if (s.r_epoch == b.epoch && (s.r_thread != t || s.r_many)) {
        bool other = s.r_many == 2 || s.r_thread / 32 != t / 32;
        note(other ? "shared-race-war" : "shared-same-warp-war", in.line, str("offset %lu, read by thread %d; %s", off + i, s.r_thread, where(w, lane).c_str()));
      }
      s.init = 1; s.w_epoch = b.epoch; s.w_thread = t;
    }
  }
}

static void check_global(Warp& w, int lane, const Insn& in, u64 a, int n, bool write, bool atomic, const u8* data) {
  Region* r = last_region;
  if (!r || a < r->base || a >= r->base + r->size) { r = find_region(a); if (!r) throw Fatal(str("line %d: global %s of %d bytes at %#lx, which is nowhere; %s", in.line, write ? "store" : "load", n, a, where(w, lane).c_str())); last_region = r; }
  u64 off = a - r->base;
  if (off + n > r->size) throw Fatal(str("line %d: global %s of %d bytes crosses the end of %s (offset %lu of %lu); %s", in.line, write ? "store" : "load", n, r->name.c_str(), off, r->size, where(w, lane).c_str()));
  if (a % n) throw Fatal(str("line %d: misaligned global access of %d bytes at %#lx in %s; %s", in.line, n, a, r->name.c_str(), where(w, lane).c_str()));
  Block& b = *w.block; s32 t = w.index * 32 + lane;
  for (int i = 0; i < n; i++) {
    u8& st = r->state[off + i];
    if (!(st & 1)) throw Fatal(str("line %d: global %s of a byte that no tensor has, %s + %lu; %s", in.line, write ? "store" : "load", r->name.c_str(), off + i, where(w, lane).c_str()));
    if (write && (st & 4)) throw Fatal(str("line %d: store into an input, %s + %lu; %s", in.line, r->name.c_str(), off + i, where(w, lane).c_str()));
    if ((!write || atomic) && !(st & 2)) note("global-uninitialised-read", in.line, str("%s + %lu; %s", r->name.c_str(), off + i, where(w, lane).c_str()));
    if (cfg.race && r->shadow) {
      ByteShadow& s = r->shadow[off + i];
      auto ordered = [&](const Access& o) {
        if (o.launch != launch_id || (o.block == b.id && (o.thread == t || o.epoch < b.epoch))) return true;
        if (o.block == b.id) return b.threads[t].view.sees(o.block, o.thread, o.epoch);
        return b.view.sees(o.block, o.thread, o.epoch) || b.threads[t].view.sees(o.block, o.thread, o.epoch);
      };
      auto exempt = [&]() { auto u = atomic_users.find(a & ~3ull); return u != atomic_users.end() && u->second.count({b.id, t}); };
      auto same_warp = [&](const Access& o) { return o.block == b.id && o.thread / 32 == t / 32; };
      if (!write || atomic) {
        if (s.w.launch == launch_id) {
          if (in.flags & NC) note("global-nc-load-of-written", in.line, str("%s + %lu; %s", r->name.c_str(), off + i, where(w, lane).c_str()));
          if (!ordered(s.w) && !(atomic && s.w_atomic) && !exempt())
            note(same_warp(s.w) ? "global-same-warp-raw" : s.w.block == b.id ? "global-race-raw-in-block" : "global-race-raw-between-blocks", in.line, str("%s + %lu, written by block %d thread %d epoch %u; %s epoch %u", r->name.c_str(), off + i, s.w.block, s.w.thread, s.w.epoch, where(w, lane).c_str(), b.epoch));
        }
        if (!write) {
          if (s.r.launch == launch_id && s.r.block == b.id && s.r.epoch == b.epoch && s.r.thread != t) s.r_many = 1; else if (!(s.r.launch == launch_id && s.r.block == b.id && s.r.epoch == b.epoch)) s.r_many = 0;
          s.r = {launch_id, b.id, t, b.epoch};
        }
      }
      if (write) {
        if (s.w.launch == launch_id && !ordered(s.w) && !(atomic && s.w_atomic) && !exempt()) {
          bool same = data && ((u8*)a)[i] == data[i];
          note(same ? "info-global-same-value-waw" : same_warp(s.w) ? "global-same-warp-waw" : s.w.block == b.id ? "global-race-waw-in-block" : "global-race-waw-between-blocks", in.line, str("%s + %lu, written by block %d thread %d; %s", r->name.c_str(), off + i, s.w.block, s.w.thread, where(w, lane).c_str()));
        }
        if (s.r.launch == launch_id && (!ordered(s.r) || (s.r_many && s.r.block == b.id && s.r.epoch == b.epoch)) && !exempt()) note(same_warp(s.r) && !s.r_many ? "global-same-warp-war" : s.r.block == b.id ? "global-race-war-in-block" : "global-race-war-between-blocks", in.line, str("%s + %lu, read by block %d thread %d; %s", r->name.c_str(), off + i, s.r.block, s.r.thread, where(w, lane).c_str()));
        s.w = {launch_id, b.id, t, b.epoch}; s.w_atomic = atomic;
      }
    }
    if (write) st |= 2;
  }
}

static void mem(Warp& w, int lane, const Insn& in, u64 addr, int n, bool write, u8* data) {
  int space = in.space;
  if (space == GENERIC) { space = space_of(addr); if (space == SHARED) addr -= W_SHARED; if (space == LOCAL) addr -= W_LOCAL; }
  if (space == PARAM && (addr >> 56) == 0x73) space = CONST;  // a lane's own parameters
  switch (space) {
    case GLOBAL:
      check_global(w, lane, in, addr, n, write, false, data);
      if (write) memcpy((void*)addr, data, n); else memcpy(data, (void*)addr, n);
      return;
    case SHARED: {
      check_shared(w, lane, in, addr, n, write, data);
      u8* p = &w.block->shared[addr - SHARED_BASE];
      if (write) memcpy(p, data, n); else memcpy(data, p, n);
      return;
    }
    case LOCAL: {
      if (addr + n > sim->local_bytes || addr % n) throw Fatal(str("line %d: bad local access at %lu", in.line, addr));
      u8* p = &w.local[u64(lane) * sim->local_bytes + addr];
      if (write) memcpy(p, data, n); else memcpy(data, p, n);
      return;
    }
    case PARAM: {
      if ((addr >> 56) != 0x72) throw Fatal(str("line %d: param access at %#lx", in.line, addr));
      addr -= W_KPARAM;
      if (write || addr + n > kparams.size() || addr % n) throw Fatal(str("line %d: bad access of a kernel parameter at %lu (%d bytes of %zu)", in.line, addr, n, kparams.size()));
      memcpy(data, &kparams[addr], n);
      return;
    }
    case CONST: {
      addr -= W_LPARAM;
      if (addr + n > sim->lane_param_bytes || addr % n) throw Fatal(str("line %d: bad access of a parameter at %lu", in.line, addr));
      u8* p = &w.lparam[u64(lane) * sim->lane_param_bytes + addr];
      if (write) memcpy(p, data, n); else memcpy(data, p, n);
      return;
    }
  }
  throw Fatal("space");
}

static inline int size_of(int ty) {
  switch (ty) { case B8: case U8: case S8: case PRED: return 1; case B16: case U16: case S16: case F16: case BF16: return 2; case B64: case U64: case S64: case F64: case F32X2: return 8; case B128: return 16; }
  return 4;
}
static inline bool is_signed(int ty) { return ty >= S8 && ty <= S64; }
static inline bool is_float(int ty) { return ty >= F16 && ty <= F64; }
static inline u64 extend(u64 v, int ty) {
  switch (ty) { case S8: return u64(s64(s8(v))); case S16: return u64(s64(s16(v))); case S32: return u64(s64(s32(v))); case U8: case B8: return u8(v); case U16: case B16: case F16: case BF16: return u16(v);
    case U32: case B32: case F32: case F16X2: case BF16X2: return u32(v); case PRED: return v & 1; }
  return v;
}
static inline u64 truncate(u64 v, int ty) { switch (size_of(ty)) { case 1: return ty == PRED ? v & 1 : u8(v); case 2: return u16(v); case 4: return u32(v); } return v; }

static bool compare(int cmp, int ty, u64 a, u64 b, bool z) {
  if (is_float(ty)) {
    double x, y;
    if (ty == F32) { float p = f32(a), q = f32(b); if (z) p = ftz(p), q = ftz(q); x = p, y = q; } else if (ty == F64) x = f64(a), y = f64(b); else if (ty == F16) x = half_to_f(a), y = half_to_f(b); else if (ty == BF16) x = bf_to_f(a), y = bf_to_f(b); else throw Fatal("setp type");
    bool un = x != x || y != y;
    switch (cmp) { case C_EQ: return !un && x == y; case C_NE: return !un && x != y; case C_LT: return !un && x < y; case C_LE: return !un && x <= y; case C_GT: return !un && x > y; case C_GE: return !un && x >= y;
      case C_EQU: return un || x == y; case C_NEU: return un || x != y; case C_LTU: return un || x < y; case C_LEU: return un || x <= y; case C_GTU: return un || x > y; case C_GEU: return un || x >= y; case C_NUM: return !un; case C_NAN: return un; }
    throw Fatal("cmp");
  }
  a = extend(a, ty), b = extend(b, ty);
  bool s = is_signed(ty);
  switch (cmp) { case C_EQ: return a == b; case C_NE: return a != b; case C_LT: return s ? s64(a) < s64(b) : a < b; case C_LE: return s ? s64(a) <= s64(b) : a <= b; case C_GT: return s ? s64(a) > s64(b) : a > b; case C_GE: return s ? s64(a) >= s64(b) : a >= b;
    case C_LO: return a < b; case C_LS: return a <= b; case C_HI: return a > b; case C_HS: return a >= b; }
  throw Fatal("cmp");
}

static u64 convert(const Insn& in, u64 v) {
  int to = in.ty, from = in.ty2; bool z = in.flags & FTZ, sat = in.flags & SAT;
  if (!is_float(from) && !is_float(to)) {
    u64 x = extend(v, from);
    if (sat) {  // clamp to the range of `to`
      s128 y = is_signed(from) ? s128(s64(x)) : s128(x); int n = size_of(to) * 8;
      s128 lo = is_signed(to) ? -(s128(1) << (n - 1)) : 0, hi = is_signed(to) ? (s128(1) << (n - 1)) - 1 : (s128(1) << n) - 1;
      y = y < lo ? lo : y > hi ? hi : y; return truncate(u64(y), to) ;
    }
    u64 r = truncate(x, to);
    // a narrow result is extended into its register
    return is_signed(to) ? (size_of(to) < 4 ? u64(extend(r, to)) & 0xffffffff : r) : r;
  }
  if (is_float(from) && !is_float(to)) {
    double x = from == F32 ? double(z ? ftz(f32(v)) : f32(v)) : from == F64 ? f64(v) : from == F16 ? half_to_f(v) : bf_to_f(v);
    int n = size_of(to) * 8;
    if (x != x) { if (from == F64 || to == S64 || to == U64) return u64(1) << (n - 1); return 0; }
    switch (in.round) { case RNI: x = std::nearbyint(x); break; case RZI: x = std::trunc(x); break; case RMI: x = std::floor(x); break; case RPI: x = std::ceil(x); break; default: throw Fatal("cvt to integer without rounding"); }
    double lo = is_signed(to) ? -std::ldexp(1., n - 1) : 0, hi = is_signed(to) ? std::ldexp(1., n - 1) : std::ldexp(1., n);
    if (x < lo) x = lo;
    if (x >= hi) return is_signed(to) ? (u64(1) << (n - 1)) - 1 : n == 64 ? ~0ull : (u64(1) << n) - 1;
    return truncate(is_signed(to) ? u64(s64(x)) : x >= 9223372036854775808. ? u64(s64(x - 9223372036854775808.)) + (1ull << 63) : u64(s64(x)), to);
  }
  if (!is_float(from)) {
    u64 x = extend(v, from); RoundGuard g(in.round);
    volatile double d = 0; volatile float f = 0;
    if (to == F32) { if (is_signed(from)) f = float(s64(x)); else f = float(x); return bits(float(f)); }
    if (to == F64) { if (is_signed(from)) d = double(s64(x)); else d = double(x); return bits(double(d)); }
    if (in.round != RN) throw Fatal("cvt int to half rounding");
    double y = is_signed(from) ? double(s64(x)) : double(x);  // exact for 32 bits
    if (size_of(from) > 4) throw Fatal("cvt 64 to half");
    return to == F16 ? d_to_half(y) : to == BF16 ? f_to_bf(float(y)) : throw Fatal("cvt");
  }
  if (to == F64) { double x = from == F32 ? double(z ? ftz(f32(v)) : f32(v)) : from == F64 ? f64(v) : from == F16 ? half_to_f(v) : bf_to_f(v);
    switch (in.round) { case RNI: x = std::nearbyint(x); break; case RZI: x = std::trunc(x); break; case RMI: x = std::floor(x); break; case RPI: x = std::ceil(x); break; }
    if (sat) throw Fatal("cvt.sat.f64"); return from == F64 ? nan_or(x) : nan_or(x); }
  if (to == F32) {
    if (from == F64) { RoundGuard g(in.round); volatile double x = f64(v); volatile float f = float(x); float r = f; if (z) r = ftz(r); if (sat) r = r != r ? 0 : r < 0 ? 0 : r > 1 ? 1 : r; return nan_or(r); }
    float x = from == F32 ? f32(v) : from == F16 ? half_to_f(v) : bf_to_f(v);
    if (z) x = ftz(x);
    switch (in.round) { case RNI: x = std::nearbyint(x); break; case RZI: x = std::trunc(x); break; case RMI: x = std::floor(x); break; case RPI: x = std::ceil(x); break; }
    if (sat) x = x != x ? 0 : x < 0 ? 0 : x > 1 ? 1 : x;
    return nan_or(x);
  }
  if (to == F16) { if (in.round != RN || sat) throw Fatal("cvt to f16"); return from == F64 ? d_to_half(f64(v)) : from == BF16 ? f_to_half(bf_to_f(v)) : f_to_half(f32(v)); }
  if (to == BF16) { if ((in.round != RN && in.round != RZ) || sat) throw Fatal("cvt to bf16"); if (from == F16) return f_to_bf(half_to_f(v)); if (from == F64) { if (in.round != RN) throw Fatal("cvt f64 to bf16 rounding"); double x = f64(v); if (x != x) return 0x7fff; float y; { RoundGuard g(RZ); volatile double vx = x; volatile float t = float(vx); y = t; } if (std::isfinite(x) && double(y) != x) y = f32(bits(y) | 1); /* to odd */ return f_to_bf(y); } if (from != F32) throw Fatal("cvt to bf16 from"); return f_to_bf(f32(v), in.round); }
  throw Fatal(str("cvt %d from %d", to, from));
}

template <class T> static T fmin_ptx(T a, T b, bool n) { if (a != a || b != b) { if (n || (a != a && b != b)) return T(NAN); return a != a ? b : a; } if (a == b) return std::signbit(a) ? a : b; return a < b ? a : b; }
template <class T> static T fmax_ptx(T a, T b, bool n) { if (a != a || b != b) { if (n || (a != a && b != b)) return T(NAN); return a != a ? b : a; } if (a == b) return std::signbit(a) ? b : a; return a > b ? a : b; }

static u64 float_op(const Insn& in, u64 a, u64 b, u64 c) {
  bool z = in.flags & FTZ;
  if (in.ty == F32) {
    float x = f32(a), y = f32(b), w = f32(c);
    if (z) x = ftz(x), y = ftz(y), w = ftz(w);
    float r; volatile float vx = x, vy = y, vw = w;
    auto go = [&]() -> float { switch (in.op) {
      case OP_add: return vx + vy; case OP_sub: return vx - vy; case OP_mul: return vx * vy; case OP_fma: case OP_mad: return __builtin_fmaf(vx, vy, vw);
      case OP_div: return vx / vy; case OP_sqrt: return std::sqrt(float(vx)); case OP_rcp: return 1.f / vx; }
      throw Fatal(str("float op %s", op_names[in.op])); };
    switch (in.op) {
      case OP_add: case OP_sub: case OP_mul: case OP_fma: case OP_mad:
        if (in.round == RN || in.round == R_NONE) { switch (in.op) { case OP_add: r = x + y; break; case OP_sub: r = x - y; break; case OP_mul: r = x * y; break; default: r = __builtin_fmaf(x, y, w); }
          if (in.round == R_NONE) note("info-float-op-without-rounding", in.line, op_names[in.op]); }
        else { RoundGuard g(in.round); volatile float t = go(); r = t; }
        break;
      case OP_div: if (in.flags & (APPROX | FULL)) {
          // div.full: 2 ulp; div.approx: 0 where |y| is in (2^126, 2^128)
          r = approx(double(x) / double(y), z);
        } else { RoundGuard g(in.round); volatile float t = go(); r = t; } break;
      case OP_sqrt: if (in.flags & APPROX) r = approx(std::sqrt(double(x)), z); else { RoundGuard g(in.round); volatile float t = go(); r = t; } break;
      case OP_rcp: if (in.flags & APPROX) r = approx(1. / double(x), z); else { RoundGuard g(in.round); volatile float t = go(); r = t; } break;
      case OP_rsqrt: r = approx(x == 0 ? std::copysign(INFINITY, x) : 1. / std::sqrt(double(x)), z); break;
      case OP_ex2: r = approx(std::exp2(double(x)), z); break;
      case OP_lg2: r = approx(std::log2(double(x)), z); break;
      case OP_sin: r = approx(std::sin(double(x)), z); break;
      case OP_cos: r = approx(std::cos(double(x)), z); break;
      case OP_tanh: r = approx(std::tanh(double(x)), z); break;
      case OP_min: r = fmin_ptx(x, y, in.flags & NANF); if (in.ns == 3) r = fmin_ptx(r, w, in.flags & NANF); break;
      case OP_max: r = fmax_ptx(x, y, in.flags & NANF); if (in.ns == 3) r = fmax_ptx(r, w, in.flags & NANF); break;
      case OP_neg: return z ? bits(-x) : u32(a) ^ 0x80000000u;
      case OP_abs: return z ? bits(std::fabs(x)) : u32(a) & 0x7fffffffu;
      case OP_copysign: return (u32(b) & 0x7fffffffu) | (u32(a) & 0x80000000u);
      default: throw Fatal(str("f32 op %s", op_names[in.op]));
    }
    if (z) r = ftz(r);
    if (in.flags & SAT) r = r != r ? 0 : r < 0 ? 0 : r > 1 ? 1 : r;
    return nan_or(r);
  }
  if (in.ty == F64) {
    double x = f64(a), y = f64(b), w = f64(c), r;
    switch (in.op) { case OP_min: return nan_or(fmin_ptx(x, y, in.flags & NANF)); case OP_max: return nan_or(fmax_ptx(x, y, in.flags & NANF)); case OP_neg: return a ^ (1ull << 63); case OP_abs: return a & ~(1ull << 63); case OP_copysign: return (b & ~(1ull << 63)) | (a & (1ull << 63));
      case OP_rcp: if (in.flags & APPROX) { if (std::fabs(x) < 2.2250738585072014e-308) x = std::copysign(0., x); r = 1 / x; if (std::fabs(r) < 2.2250738585072014e-308) r = std::copysign(0., r); u64 u = bits(r); if (r == r) u &= ~0xffffffffull; return u; } break;
      case OP_rsqrt: if (in.flags & APPROX) { r = x == 0 ? std::copysign(INFINITY, x) : 1 / std::sqrt(x); u64 u = bits(r); if (r == r) u &= ~0xffffffffull; return u; } break; }
    RoundGuard* g = (in.round == RN || in.round == R_NONE) ? nullptr : new RoundGuard(in.round);
    if (in.round == R_NONE) note("info-float-op-without-rounding", in.line, op_names[in.op]);
    volatile double vx = x, vy = y, vw = w, t;
    switch (in.op) { case OP_add: t = vx + vy; break; case OP_sub: t = vx - vy; break; case OP_mul: t = vx * vy; break; case OP_fma: case OP_mad: t = __builtin_fma(vx, vy, vw); break; case OP_div: t = vx / vy; break; case OP_sqrt: t = std::sqrt(double(vx)); break; case OP_rcp: t = 1. / vx; break; default: delete g; throw Fatal(str("f64 op %s", op_names[in.op])); }
    delete g; return nan_or(double(t));
  }
  if (in.ty == F16 || in.ty == BF16) {
    auto up = [&](u64 v) { return in.ty == F16 ? half_to_f(v) : bf_to_f(v); };
    auto down = [&](double v) -> u64 { if (in.ty == F16) return d_to_half(v); return f_to_bf(float(v)); };
    double x = up(a), y = up(b), w = up(c);
    switch (in.op) { case OP_add: return down(x + y); case OP_sub: return down(x - y); case OP_mul: return down(x * y); case OP_fma: if (in.ty == BF16) return f_to_bf(__builtin_fmaf(float(x), float(y), float(w))); return down(x * y + w);
      case OP_neg: return u16(a) ^ 0x8000; case OP_abs: return u16(a) & 0x7fff; case OP_min: return down(fmin_ptx(x, y, in.flags & NANF)); case OP_max: return down(fmax_ptx(x, y, in.flags & NANF)); }
  }
  throw Fatal(str("float op %s of type %d", op_names[in.op], in.ty));
}

static u64 int_op(const Insn& in, u64 a, u64 b, u64 c) {
  int ty = in.ty, n = size_of(ty) * 8; bool s = is_signed(ty);
  switch (in.op) {
    case OP_add: case OP_sub: case OP_min: case OP_max: case OP_div: case OP_rem: case OP_abs: case OP_neg: {
      u64 x = extend(a, ty), y = extend(b, ty);
      switch (in.op) {
        case OP_add: if (in.flags & SAT) throw Fatal("add.sat"); return truncate(x + y, ty);
        case OP_sub: if (in.flags & SAT) throw Fatal("sub.sat"); return truncate(x - y, ty);
        case OP_min: return truncate(s ? u64(std::min(s64(x), s64(y))) : std::min(x, y), ty);
        case OP_max: return truncate(s ? u64(std::max(s64(x), s64(y))) : std::max(x, y), ty);
        case OP_div: case OP_rem: if (!truncate(y, ty)) { note("integer-division-by-zero", in.line, ""); return truncate(in.op == OP_div ? ~0ull : x, ty); }
          if (s) { if (s64(y) == -1) return in.op == OP_div ? truncate(0 - x, ty) : 0; return truncate(in.op == OP_div ? u64(s64(x) / s64(y)) : u64(s64(x) % s64(y)), ty); }
          return truncate(in.op == OP_div ? x / y : x % y, ty);
        case OP_abs: return truncate(s64(x) < 0 ? 0 - x : x, ty);
        case OP_neg: return truncate(0 - x, ty);
      }
    }
    case OP_mul: case OP_mad: {
      u64 x = extend(a, ty), y = extend(b, ty); u64 r;
      if (in.flags & WIDE) { r = x * y; if (in.op == OP_mad) r += c; return n == 32 ? r : n == 16 ? u32(r) : throw Fatal("wide"); }
      if (in.flags & HI) { r = n == 64 ? (s ? u64(s128(s64(x)) * s64(y) >> 64) : u64(u128(x) * y >> 64)) : (s ? u64(s64(x) * s64(y) >> n) : x * y >> n); }
      else r = x * y;
      if (in.op == OP_mad) r += c; return truncate(r, ty);
    }
    case OP_and: return truncate(a & b, ty); case OP_or: return truncate(a | b, ty); case OP_xor: return truncate(a ^ b, ty); case OP_not: return truncate(~a, ty); case OP_cnot: return truncate(a, ty) == 0;
    case OP_shl: { u64 k = u32(b); return k >= u64(n) ? 0 : truncate(truncate(a, ty) << k, ty); }
    case OP_shr: { u64 k = u32(b), x = extend(a, ty); if (s) return truncate(u64(s64(x) >> (k >= u64(n) ? n - 1 : k)), ty); return k >= u64(n) ? 0 : x >> k; }
    case OP_popc: return __builtin_popcountll(truncate(a, ty));
    case OP_clz: { u64 x = truncate(a, ty); return x ? __builtin_clzll(x) - (64 - n) : n; }
    case OP_brev: { u64 x = truncate(a, ty), r = 0; for (int i = 0; i < n; i++) r |= (x >> i & 1) << (n - 1 - i); return r; }
    case OP_bfind: { u64 x = extend(a, ty); if (s && s64(x) < 0) x = ~x; x = truncate(x, ty); if (in.flags & CLAMP) throw Fatal("bfind.shiftamt"); return x ? 63 - __builtin_clzll(x) : 0xffffffffu; }
    case OP_bfe: { int p = b & 0xff, len = c & 0xff; u64 x = truncate(a, ty); int msb = n - 1; bool sb = s && len ? (x >> std::min(p + len - 1, msb)) & 1 : false; u64 r = 0; for (int i = 0; i <= msb; i++) r |= u64(i < len && p + i <= msb ? (x >> (p + i)) & 1 : sb) << i; return r; }
    case OP_sad: { u64 x = extend(a, ty), y = extend(b, ty); u64 dd = s ? (s64(x) < s64(y) ? y - x : x - y) : x < y ? y - x : x - y; return truncate(c + dd, ty); }
  }
  throw Fatal(str("int op %s", op_names[in.op]));
}

template <class F> static inline void lanes(u32 m, F f) { if (m == ~0u) for (int l = 0; l < 32; l++) f(l); else for (; m; m &= m - 1) f(__builtin_ctz(m)); }

static void release(Warp& w, int lane, Clock& into) {  // all that this thread has done and seen
  Block& b = *w.block; s32 t = w.index * 32 + lane;
  into.any = true; into.join(b.view); into.join(b.threads[t].view);
  if (into.view.size() <= size_t(b.id)) into.view.resize(b.id + 1);
  into.view[b.id] = std::max(into.view[b.id], b.epoch);
  into.extra.insert({b.id, {t, b.epoch}});
}

static u64 atomic_rmw(const Insn& in, u64 old, u64 v, u64 v2) {
  int ty = in.ty;
  switch (in.atom) {
    case A_ADD: if (ty == F32) return bits(f32(old) + f32(v)); if (ty == F64) return bits(f64(old) + f64(v)); return truncate(old + v, ty);
    case A_EXCH: return v; case A_CAS: return truncate(old, ty) == truncate(v, ty) ? v2 : old;
    case A_AND: return old & v; case A_OR: return old | v; case A_XOR: return old ^ v;
    case A_MIN: return is_signed(ty) ? u64(std::min(s64(extend(old, ty)), s64(extend(v, ty)))) : std::min(extend(old, ty), extend(v, ty));
    case A_MAX: return is_signed(ty) ? u64(std::max(s64(extend(old, ty)), s64(extend(v, ty)))) : std::max(extend(old, ty), extend(v, ty));
    case A_INC: return u32(old) >= u32(v) ? 0 : old + 1;
  }
  throw Fatal("atomic");
}

// One instruction of the lanes m of a warp, all at pc. Returns false if the lanes wait.
static void step(Warp& w, u32 m) {
  int first = __builtin_ctz(m); s32 pc = w.pc[first]; const Insn& in = sim->code[pc];
  sim->hits[pc]++; op_hits[in.op]++; executed += __builtin_popcount(m); warp_insns++;
  u64* R = w.regs.data(); Block& blk = *w.block;
  u32 on = m;
  if (in.guard >= 0) { u32 g = 0; const u64* p = R + u64(in.guard) * 32; lanes(m, [&](int l) { g |= u32((p[l] & 1) != u64(in.gneg)) << l; }); on = g; }
  auto S = [&](int i) -> const u64* { const Opnd& o = in.s[i]; if (o.kind == 1 || o.kind == 3) return R + u64(o.reg) * 32; return sim->consts[o.kind == 2 ? o.imm : 0].data(); };
  auto D = [&](int i) -> u64* { return R + u64(in.d[i].reg) * 32; };
  auto next = [&](u32 which) { lanes(which, [&](int l) { w.pc[l] = pc + 1; }); };
  auto P = [&](int i, int l) -> bool { return bool(S(i)[l] & 1) != (in.s[i].kind == 3); };
  switch (in.op) {
    case OP_bra: lanes(m, [&](int l) { w.pc[l] = pc + 1; }); lanes(on, [&](int l) { w.pc[l] = in.target; });
      if ((in.flags & UNI) && on != m && on) note("bra.uni-diverges", in.line, "");
      return;
    case OP_brx: { const u64* a = S(0); lanes(m, [&](int l) { w.pc[l] = pc + 1; }); lanes(on, [&](int l) { if (s64(a[l]) >= in.aux) throw Fatal("brx out of range"); w.pc[l] = sim->args[in.target + a[l]].to; }); return; }
    case OP_ret: case OP_exit:
      lanes(m, [&](int l) { w.pc[l] = pc + 1; });
      lanes(on, [&](int l) {
        if (in.op == OP_exit || w.stack[l].empty()) { w.state[l] = DONE; blk.alive--; return; }
        Frame f = w.stack[l].back(); w.stack[l].pop_back();
        const Call& c = sim->calls[f.call]; u8* lp = &w.lparam[u64(l) * sim->lane_param_bytes];
        for (int i = c.rets_begin; i < c.rets_end; i++) memcpy(lp + sim->args[i].to, lp + sim->args[i].from, sim->args[i].size);
        w.pc[l] = f.ret;
      });
      return;
    case OP_call: {
      next(m); const Call& c = sim->calls[in.aux];
      lanes(on, [&](int l) { u8* lp = &w.lparam[u64(l) * sim->lane_param_bytes]; for (int i = c.args_begin; i < c.args_end; i++) memcpy(lp + sim->args[i].to, lp + sim->args[i].from, sim->args[i].size); w.stack[l].push_back({pc + 1, in.aux}); w.pc[l] = in.target; });
      return;
    }
    case OP_bar: case OP_barrier: {
      if (in.guard >= 0 && on != m) note("predicated-barrier-diverges", in.line, "");
      lanes(m & ~on, [&](int l) { w.pc[l] = pc + 1; });
      u64 id = in.ns ? S(0)[first] : 0; if (in.ns > 1) throw Fatal("bar with a number of threads");
      lanes(on, [&](int l) { w.state[l] = BARRIER; w.bar_id[l] = s32(id); });
      return;
    }
    case OP_ldmatrix: case OP_stmatrix: case OP_shfl: case OP_vote: case OP_redux: case OP_barwarp: case OP_activemask: case OP_match: {
      if (in.op == OP_activemask) { lanes(on, [&](int l) { D(0)[l] = on; }); next(m); return; }
      if (in.guard >= 0 && on != m) { lanes(m & ~on, [&](int l) { w.pc[l] = pc + 1; }); m = on; if (!m) return; }
      bool matrix = in.op == OP_ldmatrix || in.op == OP_stmatrix; u32 mask = matrix ? ~0u : u32(S(in.ns - 1)[first]); u32 need = 0;
      lanes(m, [&](int l) { if (!matrix && u32(S(in.ns - 1)[l]) != mask) throw Fatal(str("line %d: member masks differ", in.line)); if (!(mask >> l & 1)) throw Fatal(str("line %d: a lane outside its own member mask", in.line)); });
      for (int l = 0; l < 32; l++) if ((mask >> l & 1) && (w.live >> l & 1) && w.state[l] != DONE) need |= 1u << l;
      if ((mask & w.live) != need) note("sync-mask-names-an-exited-lane", in.line, str("mask %#x", mask));
      if (need & ~m) { lanes(m, [&](int l) { w.state[l] = WAIT; w.wait_mask[l] = mask; });
        // all there?
        u32 there = 0; for (int l = 0; l < 32; l++) if (w.state[l] == WAIT && w.pc[l] == pc) there |= 1u << l;
        if (need & ~there) return; m = there & need; lanes(m, [&](int l) { w.state[l] = RUN; }); on = m; }
      if (matrix) {  // in.aux bit 0: trans; matrix k's row r is at the address of lane 8k + r
        if (m != ~0u) throw Fatal("ldmatrix or stmatrix of a part of a warp");
        const u64* a = S(0); bool trans = in.aux & 1; u16 rows[4][8][8];
        for (int k = 0; k < in.vec; k++) for (int r = 0; r < 8; r++) {
          u64 addr = u32(a[8 * k + r] + in.off); u8 buf[16];
          if (in.op == OP_ldmatrix) { mem(w, 8 * k + r, in, addr, 16, false, buf); memcpy(rows[k][r], buf, 16); }
        }
        if (in.op == OP_ldmatrix) {
          for (int k = 0; k < in.vec; k++) for (int l = 0; l < 32; l++) { int r = l / 4, c = l % 4 * 2; u32 lo = trans ? rows[k][c][r] : rows[k][r][c], hi = trans ? rows[k][c + 1][r] : rows[k][r][c + 1]; D(k)[l] = hi << 16 | lo; }
        } else {
          for (int k = 0; k < in.vec; k++) for (int l = 0; l < 32; l++) { int r = l / 4, c = l % 4 * 2; u32 v = u32(S(1 + k)[l]); if (trans) { rows[k][c][r] = u16(v); rows[k][c + 1][r] = u16(v >> 16); } else { rows[k][r][c] = u16(v); rows[k][r][c + 1] = u16(v >> 16); } }
          for (int k = 0; k < in.vec; k++) for (int r = 0; r < 8; r++) { u64 addr = u32(a[8 * k + r] + in.off); mem(w, 8 * k + r, in, addr, 16, true, (u8*)rows[k][r]); }
        }
      } else if (in.op == OP_shfl) {
        u64 out[32]; bool ok[32]; const u64 *a = S(0), *b = S(1), *c = S(2);
        lanes(m, [&](int l) {
          u32 bv = u32(b[l]) & 31, cv = u32(c[l]), seg = cv >> 8 & 31, cl = cv & 31; int mx = (l & seg) | (cl & ~seg), mn = l & seg, j; bool p;
          switch (in.aux) { case 0: j = l - int(bv); p = j >= mx; break; case 1: j = l + int(bv); p = j <= mx; break; case 2: j = l ^ int(bv); p = j <= mx; break; default: j = mn | (bv & ~seg); p = j <= mx; }
          if (!p) j = l;
          if (!(m >> j & 1)) note("shfl-from-inactive-lane", in.line, str("lane %d from %d", l, j));
          out[l] = u32(a[j]); ok[l] = p; });
        lanes(m, [&](int l) { D(0)[l] = out[l]; if (in.nd > 1) D(1)[l] = ok[l]; });
      } else if (in.op == OP_vote) {
        u32 v = 0; lanes(m, [&](int l) { v |= u32(P(0, l)) << l; });
        lanes(m, [&](int l) { D(0)[l] = in.aux == 0 ? v == m : in.aux == 1 ? v != 0 : in.aux == 2 ? (v == m || v == 0) : v; });
      } else if (in.op == OP_redux) {
        if (in.ty == F32) { float acc = 0; bool init = false; lanes(m, [&](int l) { float v = f32(S(0)[l]); if (!init) { acc = v; init = true; } else acc = in.atom == A_MAX ? fmax_ptx(acc, v, in.flags & NANF) : in.atom == A_MIN ? fmin_ptx(acc, v, in.flags & NANF) : throw Fatal("redux f32"); }); lanes(m, [&](int l) { D(0)[l] = nan_or(acc); w.pc[l] = pc + 1; }); return; }
        if (is_float(in.ty)) throw Fatal("redux type");
        u64 acc = 0; bool init = false; lanes(m, [&](int l) { u64 v = extend(S(0)[l], in.ty); if (!init) { acc = v; init = true; return; } Insn x = in; acc = atomic_rmw(x, acc, v, 0); acc = extend(acc, in.ty); });
        lanes(m, [&](int l) { D(0)[l] = truncate(acc, in.ty); });
      } else if (in.op == OP_barwarp) {} else throw Fatal("match");
      lanes(m, [&](int l) { w.pc[l] = pc + 1; });
      return;
    }
    default: break;
  }
  next(m);
  if (!on) return;
  switch (in.op) {
    case OP_ld: {
      int n = size_of(in.ty), total = n * in.vec; const u64* a = S(0); alignas(16) u8 buf[64];
      lanes(on, [&](int l) {
        u64 addr = in.s[0].kind == 4 ? W_LPARAM + in.s[0].imm : a[l]; addr += in.off;
        if (in.space == SHARED) addr = u32(addr);
        mem(w, l, in, addr, total, false, buf);
        for (int i = 0; i < in.vec; i++) { u64 v = 0; memcpy(&v, buf + i * n, n); if (is_signed(in.ty)) v = n == 8 ? v : n == 4 ? u32(v) : u32(extend(v, in.ty)); if (in.d[i].kind == 1) D(i)[l] = is_signed(in.ty) && n < 4 ? u64(s64(extend(v, in.ty))) & 0xffffffff : v; }
      });
      return;
    }
    case OP_st: {
      int n = size_of(in.ty), total = n * in.vec; const u64* a = S(0); alignas(16) u8 buf[64];
      lanes(on, [&](int l) {
        u64 addr = in.s[0].kind == 4 ? W_LPARAM + in.s[0].imm : a[l]; addr += in.off;
        if (in.space == SHARED) addr = u32(addr);
        for (int i = 0; i < in.vec; i++) { u64 v = S(1 + i)[l]; memcpy(buf + i * n, &v, n); }
        mem(w, l, in, addr, total, true, buf);
      });
      return;
    }
    case OP_atom: case OP_red: {
      int n = size_of(in.ty); const u64* a = S(0);
      lanes(on, [&](int l) {
        u64 addr = a[l] + in.off; int space = in.space; if (space == GENERIC) space = space_of(addr); s32 t = w.index * 32 + l;
        u64 old = 0; u64 v2 = in.ns > 2 ? S(2)[l] : 0;
        if (space == GLOBAL) {
          if (cfg.race) atomic_users[addr & ~3ull].insert({blk.id, t});
          check_global(w, l, in, addr, n, true, true, nullptr);
          memcpy(&old, (void*)addr, n); u64 v = atomic_rmw(in, old, S(1)[l], v2); memcpy((void*)addr, &v, n);
          if (cfg.race) { Clock& loc = location[addr]; Thread& th = blk.threads[t];
            if (loc.any) { if (in.flags & ACQUIRE) th.view.join(loc); else th.pending.join(loc); }
            if (in.flags & RELEASE) release(w, l, loc); else loc.join(th.fence); }
        } else if (space == SHARED) {
          if (in.space == GENERIC) addr -= W_SHARED; 
          u64 off = addr - SHARED_BASE; if (addr < SHARED_BASE || off + n > blk.shared.size() || off % n) throw Fatal("shared atomic out of bounds");
          memcpy(&old, &blk.shared[off], n); u64 v = atomic_rmw(in, old, S(1)[l], v2); memcpy(&blk.shared[off], &v, n);
          for (int i = 0; i < n; i++) blk.sh[off + i].init = 1;
        } else throw Fatal("atomic space");
        if (in.op == OP_atom && in.nd) D(0)[l] = old;
      });
      return;
    }
    case OP_fence: case OP_membar:
      if (in.aux == 1 && cfg.race) lanes(on, [&](int l) { Thread& th = blk.threads[w.index * 32 + l]; if (th.pending.any) { th.view.join(th.pending); } release(w, l, th.fence); });
      return;
    case OP_nop: return;
    case OP_trap: throw Fatal(str("line %d: trap; %s", in.line, where(w, __builtin_ctz(on)).c_str()));
    case OP_mov: {
      if (in.nd > 1) {  // unpack
        int n = size_of(in.ty) / in.nd; const u64* a = S(0); lanes(on, [&](int l) { u64 v = a[l]; for (int i = 0; i < in.nd; i++) if (in.d[i].kind == 1) { u64 x = v >> (8 * n * i); D(i)[l] = n == 1 ? u8(x) : n == 2 ? u16(x) : n == 4 ? u32(x) : x; } });
        return;
      }
      if (in.ns > 1) {
        int n = size_of(in.ty) / in.ns; lanes(on, [&](int l) { u64 v = 0; for (int i = 0; i < in.ns; i++) { u64 x = S(i)[l]; x = n == 1 ? u8(x) : n == 2 ? u16(x) : n == 4 ? u32(x) : x; v |= x << (8 * n * i); } D(0)[l] = v; });
        return;
      }
      u64* d = D(0);
      if (in.s[0].kind == 4) { lanes(on, [&](int l) { d[l] = W_LPARAM + in.s[0].imm; }); return; }
      const u64* a = S(0); bool neg = in.s[0].kind == 3; lanes(on, [&](int l) { d[l] = neg ? !(a[l] & 1) : truncate(a[l], in.ty); });
      return;
    }
    case OP_cvta: {
      u64* d = D(0); const u64* a = S(0);
      lanes(on, [&](int l) { u64 v = in.s[0].kind == 4 ? W_LPARAM + in.s[0].imm : a[l];
        if (in.flags & TOSPACE) { int sp = space_of(v); if (sp != in.space && !(in.space == PARAM && sp == CONST)) note("cvta.to-of-another-space", in.line, str("%#lx", v)); if (in.space == SHARED) v -= W_SHARED; if (in.space == LOCAL) v -= W_LOCAL; }
        else { if (in.space == SHARED) v += W_SHARED; if (in.space == LOCAL) v += W_LOCAL; }
        d[l] = v; });
      return;
    }
    case OP_cvt: {
      if (in.ty == F16X2 || in.ty == BF16X2) { u64* d = D(0); const u64 *a = S(0), *b = S(1); if (in.ty2 != F32 || in.round != RN || (in.flags & SAT)) throw Fatal("cvt x2");
        lanes(on, [&](int l) { u32 hi = in.ty == F16X2 ? f_to_half(f32(a[l])) : f_to_bf(f32(a[l])), lo = in.ty == F16X2 ? f_to_half(f32(b[l])) : f_to_bf(f32(b[l])); d[l] = hi << 16 | lo; }); return; }
      u64* d = D(0); const u64* a = S(0); lanes(on, [&](int l) { d[l] = convert(in, a[l]); }); return;
    }
    case OP_setp: {
      bool z = in.flags & FTZ; const u64 *a = S(0), *b = S(1);
      if (in.ty == F16X2 || in.ty == BF16X2) {  // d[0]: of the low halves, d[1]: of the high ones
        int t = in.ty == F16X2 ? F16 : BF16; if (in.boolop) throw Fatal("setp x2 boolop");
        lanes(on, [&](int l) { bool lo = compare(in.cmp, t, a[l] & 0xffff, b[l] & 0xffff, z), hi = compare(in.cmp, t, a[l] >> 16 & 0xffff, b[l] >> 16 & 0xffff, z); if (in.d[0].kind == 1) D(0)[l] = lo; if (in.nd > 1 && in.d[1].kind == 1) D(1)[l] = hi; });
        return;
      }
      lanes(on, [&](int l) { bool r = compare(in.cmp, in.ty, a[l], b[l], z), q = !r;
        if (in.boolop) { bool c = P(2, l); if (in.boolop == B_AND) r = r && c, q = q && c; else if (in.boolop == B_OR) r = r || c, q = q || c; else r = r != c, q = q != c; }
        if (in.d[0].kind == 1) D(0)[l] = r; if (in.nd > 1 && in.d[1].kind == 1) D(1)[l] = q; });
      return;
    }
    case OP_set: { const u64 *a = S(0), *b = S(1); u64* d = D(0); if (in.boolop) throw Fatal("set boolop"); lanes(on, [&](int l) { bool r = compare(in.cmp, in.ty2, a[l], b[l], in.flags & FTZ); d[l] = r ? (in.ty == F32 ? 0x3f800000u : 0xffffffffu) : 0; }); return; }
    case OP_selp: { const u64 *a = S(0), *b = S(1); u64* d = D(0); lanes(on, [&](int l) { d[l] = truncate(P(2, l) ? a[l] : b[l], in.ty); }); return; }
    case OP_slct: { const u64 *a = S(0), *b = S(1), *c = S(2); u64* d = D(0); lanes(on, [&](int l) { bool t = in.ty2 == S32 ? s32(c[l]) >= 0 : f32(c[l]) >= 0; d[l] = truncate(t ? a[l] : b[l], in.ty); }); return; }
    case OP_lop3: { const u64 *a = S(0), *b = S(1), *c = S(2); u32 lut = u32(S(3)[0]); u64* d = D(0); lanes(on, [&](int l) { u32 x = u32(a[l]), y = u32(b[l]), z = u32(c[l]), r = 0; for (int k = 0; k < 8; k++) if (lut >> k & 1) r |= (k & 4 ? x : ~x) & (k & 2 ? y : ~y) & (k & 1 ? z : ~z); d[l] = r; }); return; }
    case OP_prmt: { const u64 *a = S(0), *b = S(1), *c = S(2); u64* d = D(0); if (in.aux) throw Fatal("prmt mode"); lanes(on, [&](int l) { u64 t = u64(u32(b[l])) << 32 | u32(a[l]); u32 sel = u32(c[l]), r = 0; for (int i = 0; i < 4; i++) { u32 k = sel >> (4 * i) & 15; u8 x = u8(t >> (8 * (k & 7))); if (k & 8) x = x & 0x80 ? 0xff : 0; r |= u32(x) << (8 * i); } d[l] = r; }); return; }
    case OP_shf: { const u64 *a = S(0), *b = S(1), *c = S(2); u64* d = D(0); bool left = in.aux == 0; lanes(on, [&](int l) { u32 k = u32(c[l]); k = in.flags & WRAP ? k & 31 : std::min(k, 32u); u64 t = u64(u32(b[l])) << 32 | u32(a[l]); d[l] = left ? u32(k == 32 ? u32(a[l]) : u32(t << k >> 32)) : u32(t >> k); }); return; }
    case OP_bfi: { const u64 *a = S(0), *b = S(1), *c = S(2), *e = S(3); u64* d = D(0); int n = size_of(in.ty) * 8; lanes(on, [&](int l) { u64 r = truncate(b[l], in.ty); int p = c[l] & 0xff, len = e[l] & 0xff; for (int i = 0; i < len && p + i < n; i++) { u64 bit = a[l] >> i & 1; r = (r & ~(1ull << (p + i))) | bit << (p + i); } d[l] = r; }); return; }
    case OP_testp: { const u64* a = S(0); u64* d = D(0); lanes(on, [&](int l) { double x = in.ty == F32 ? double(f32(a[l])) : f64(a[l]); bool fin = std::isfinite(x), nan = x != x, inf = std::isinf(x); double mn = in.ty == F32 ? 1.17549435e-38 : 2.2250738585072014e-308; bool r = in.aux == 0 ? fin : in.aux == 1 ? inf : in.aux == 2 ? !nan : in.aux == 3 ? nan : in.aux == 4 ? fin && std::fabs(x) >= mn : fin && x != 0 && std::fabs(x) < mn; d[l] = r; }); return; }
    case OP_isspacep: { const u64* a = S(0); u64* d = D(0); lanes(on, [&](int l) { d[l] = space_of(a[l]) == in.space; }); return; }
    default: break;
  }
  if (in.ty == PRED) { const u64* b = in.ns > 1 ? S(1) : S(0); (void)b; u64* d = D(0);
    lanes(on, [&](int l) { bool x = P(0, l), y = in.ns > 1 ? P(1, l) : false, r; switch (in.op) { case OP_and: r = x && y; break; case OP_or: r = x || y; break; case OP_xor: r = x != y; break; case OP_not: r = !x; break; default: throw Fatal("pred op"); } d[l] = r; });
    return; }
  const u64 *a = S(0), *b = in.ns > 1 ? S(1) : a, *c = in.ns > 2 ? S(2) : a; u64* d = D(0);
  if (in.ty == S16X2 || in.ty == U16X2) { Insn h = in; h.ty = in.ty == S16X2 ? S16 : U16; lanes(on, [&](int l) { d[l] = int_op(h, a[l] & 0xffff, b[l] & 0xffff, c[l] & 0xffff) | int_op(h, a[l] >> 16 & 0xffff, b[l] >> 16 & 0xffff, c[l] >> 16 & 0xffff) << 16; }); return; }
  if (in.ty == F32X2) { Insn h = in; h.ty = F32; lanes(on, [&](int l) { d[l] = float_op(h, u32(a[l]), u32(b[l]), u32(c[l])) | float_op(h, a[l] >> 32, b[l] >> 32, c[l] >> 32) << 32; }); return; }
  if (is_float(in.ty) && in.op != OP_and && in.op != OP_or && in.op != OP_xor) {
    if (in.ty == F32 && in.flags == 0 && in.round == RN) {
      switch (in.op) {  // the usual, without a call
#define FAST(OPN, E) case OPN: lanes(on, [&](int l) { float x = f32(a[l]), y = f32(b[l]), z = f32(c[l]); (void)z; (void)y; d[l] = nan_or(float(E)); }); return;
        FAST(OP_add, x + y) FAST(OP_sub, x - y) FAST(OP_mul, x * y) FAST(OP_fma, __builtin_fmaf(x, y, z))
#undef FAST
      }
    }
    if (in.ty == F16X2 || in.ty == BF16X2) { Insn h = in; h.ty = in.ty == F16X2 ? F16 : BF16; lanes(on, [&](int l) { d[l] = float_op(h, a[l] & 0xffff, b[l] & 0xffff, c[l] & 0xffff) | float_op(h, a[l] >> 16 & 0xffff, b[l] >> 16 & 0xffff, c[l] >> 16 & 0xffff) << 16; }); return; }
    lanes(on, [&](int l) { d[l] = float_op(in, a[l], b[l], c[l]); });
    return;
  }
  lanes(on, [&](int l) { d[l] = int_op(in, a[l], b[l], c[l]); });
}

static u32 group_of(Warp& w, bool random) {  // the lanes that go on now: at one pc, and of one depth of calls
  s32 best = -1; u32 m = 0; 
  if (random) { u32 run = 0; for (int l = 0; l < 32; l++) if (w.state[l] == RUN && (w.live >> l & 1)) run |= 1u << l; if (!run) return 0; int k = rnd() % __builtin_popcount(run); while (k--) run &= run - 1; best = __builtin_ctz(run); }
  else for (int l = 0; l < 32; l++) if (w.state[l] == RUN && (w.live >> l & 1)) if (best < 0 || w.stack[l].size() > w.stack[best].size() || (w.stack[l].size() == w.stack[best].size() && w.pc[l] < w.pc[best])) best = l;
  if (best < 0) return 0;
  for (int l = 0; l < 32; l++) if (w.state[l] == RUN && (w.live >> l & 1) && w.pc[l] == w.pc[best] && w.stack[l].size() == w.stack[best].size() && (w.stack[l].empty() || w.stack[l].back().ret == w.stack[best].back().ret)) m |= 1u << l;
  return m;
}

static bool barrier_done(Block& b) {  // all that are alive wait: open it
  u32 waiting = 0; s32 id = -1;
  for (auto& w : b.warps) for (int l = 0; l < 32; l++) if ((w->live >> l & 1) && w->state[l] == BARRIER) { waiting++; if (id >= 0 && id != w->bar_id[l]) throw Fatal("threads wait at different barriers"); id = w->bar_id[l]; }
  if (!waiting || waiting < b.alive) return false;
  if (b.alive < u32(b.threads_n)) note("info-barrier-after-some-threads-exited", sim->code[b.warps[0]->pc[0]].line, "");
  for (auto& w : b.warps) { s32 pc = -1; for (int l = 0; l < 32; l++) if ((w->live >> l & 1) && w->state[l] == BARRIER) { if (pc >= 0 && pc != w->pc[l]) note("barrier-in-diverged-code", sim->code[w->pc[l]].line, str("lanes of warp %d wait at different bar.sync", w->index)); pc = w->pc[l]; } }
  s32 bpc = -1; for (auto& w : b.warps) for (int l = 0; l < 32; l++) if ((w->live >> l & 1) && w->state[l] == BARRIER) { if (bpc >= 0 && bpc != w->pc[l]) note("info-warps-at-different-barriers", sim->code[w->pc[l]].line, ""); bpc = w->pc[l]; w->state[l] = RUN; w->pc[l]++; }
  if (cfg.race) { for (auto& t : b.threads) if (t.view.any) { b.view.join(t.view); t.view = Clock(); } }
  b.epoch++;
  return true;
}

static void new_block(std::unique_ptr<Block>& b, s32 id) {
  b.reset(new Block); b->id = id; b->cx = id % cfg.grid[0]; b->cy = id / cfg.grid[0] % cfg.grid[1]; b->cz = id / cfg.grid[0] / cfg.grid[1];
  int n = cfg.block[0] * cfg.block[1] * cfg.block[2]; b->threads_n = n; b->alive = n;
  b->shared.assign(cfg.shared_bytes, 0xff); b->sh.resize(cfg.shared_bytes); b->threads.resize(n);
  for (int i = 0; i * 32 < n; i++) {
    std::unique_ptr<Warp> w(new Warp); w->block = b.get(); w->index = i; w->live = n - i * 32 >= 32 ? ~0u : (1u << (n - i * 32)) - 1;
    w->regs.assign(u64(sim->n_regs) * 32, 0xfff7deadfff7deadull); w->lparam.assign(u64(sim->lane_param_bytes) * 32, 0xff); w->local.assign(u64(sim->local_bytes) * 32, 0xff);
    for (int l = 0; l < 32; l++) {
      w->pc[l] = cfg.entry; w->state[l] = RUN; u32 t = i * 32 + l;
      u64 v[] = {t % cfg.block[0], t / cfg.block[0] % cfg.block[1], t / cfg.block[0] / cfg.block[1], cfg.block[0], cfg.block[1], cfg.block[2], b->cx, b->cy, b->cz, cfg.grid[0], cfg.grid[1], cfg.grid[2], u64(l), u64(i), u64(1u << l), u64((1u << l) - 1), u64((2ull << l) - 1), u64(~((2ull << l) - 1) & 0xffffffff), u64(~((1ull << l) - 1) & 0xffffffff), 0, 1, u64(n / 32), u64(cfg.shared_bytes), 32};
      for (size_t k = 0; k < sizeof v / 8; k++) w->regs[k * 32 + l] = v[k];
    }
    b->warps.push_back(std::move(w));
  }
}

static void run() {
  s64 total = s64(cfg.grid[0]) * cfg.grid[1] * cfg.grid[2];
  std::vector<s32> order(total); for (s64 i = 0; i < total; i++) order[i] = s32(i);
  if (cfg.order == 1) std::reverse(order.begin(), order.end());
  if (cfg.order == 2) for (s64 i = total - 1; i > 0; i--) std::swap(order[i], order[rnd() % (i + 1)]);
  std::vector<std::unique_ptr<Block>> resident; s64 next = 0; s64 budget = cfg.budget;
  size_t turn = 0;
  while (true) {
    while (s64(resident.size()) < cfg.resident && next < total) { resident.emplace_back(); new_block(resident.back(), order[next++]); }
    if (resident.empty()) return;
    // choose a warp
    bool progressed = false;
    if (cfg.policy == 0) {  // block after block (of those that are resident, by turns), warp after warp
      Block& b = *resident[turn++ % resident.size()];
      for (auto& w : b.warps) while (u32 m = group_of(*w, cfg.diverge)) { step(*w, m); progressed = true; if (--budget < 0) throw Fatal("budget of instructions"); }
      if (barrier_done(b)) progressed = true;
      if (!progressed && b.alive) throw Fatal("deadlock");
    } else {
      std::vector<std::pair<Block*, Warp*>> can;
      for (auto& b : resident) for (auto& w : b->warps) { bool r = false; for (int l = 0; l < 32; l++) r |= (w->live >> l & 1) && w->state[l] == RUN; if (r) can.push_back({b.get(), w.get()}); }
      if (!can.empty()) {
        auto [b, w] = can[rnd() % can.size()];
        int burst = 1 + int(cfg.policy == 2 ? rnd() % 7 : rnd() % 400); (void)b;
        u32 m;
        while (burst-- > 0 && (m = group_of(*w, cfg.diverge))) { 
          if (cfg.diverge) { s32 p0; int in_group = 1 + int(rnd() % 60); s32 f = __builtin_ctz(m); while (in_group-- > 0) { p0 = w->pc[f]; step(*w, m); if (--budget < 0) throw Fatal("budget of instructions"); u32 same = 0; for (int l = 0; l < 32; l++) if ((m >> l & 1) && w->state[l] == RUN && w->pc[l] == p0 + 1) same |= 1u << l; if (same != m) break; } }
          else { step(*w, m); if (--budget < 0) throw Fatal("budget of instructions"); } }
        progressed = true;
      }
      for (auto& b : resident) if (barrier_done(*b)) progressed = true;
      if (!progressed) { bool alive = false; for (auto& b : resident) alive |= b->alive > 0; if (alive) throw Fatal("deadlock"); }
    }
    for (size_t i = 0; i < resident.size();) if (!resident[i]->alive) resident.erase(resident.begin() + i); else i++;
  }
}

extern "C" {
Sim* sim_new(const Insn* code, s64 n, const Arg* args, s64 n_args, const Call* calls, s64 n_calls, const u64* consts, s64 n_consts, s32 n_regs, u32 lane_param_bytes, u32 local_bytes) {
  Sim* s = new Sim; s->code.assign(code, code + n); s->args.assign(args, args + n_args); s->calls.assign(calls, calls + n_calls);
  for (s64 i = 0; i < n_consts; i++) s->consts.emplace_back(32, consts[i]);
  s->n_regs = n_regs; s->lane_param_bytes = lane_param_bytes; s->local_bytes = local_bytes; s->hits.resize(n); return s;
}
s32 insn_size() { return sizeof(Insn); }
void sim_hits(Sim* s, u64* out) { memcpy(out, s->hits.data(), s->hits.size() * 8); }
void op_counts(u64* out) { memcpy(out, op_hits.data(), OP_COUNT * 8); }
// state: 1 addressable, 2 initialised, 4 read only
void region_add(u64 base, u64 size, const char* name, s32 state, s32 shadow) {
  if (!size) return;
  auto it = regions.upper_bound(base); if (it != regions.begin()) { --it; if (it->second.base + it->second.size > base) regions.erase(it); }
  for (it = regions.lower_bound(base); it != regions.end() && it->second.base < base + size;) it = regions.erase(it);
  Region& r = regions[base]; r.base = base; r.size = size; r.name = name; r.state.reset(new u8[size]); memset(r.state.get(), state, size);
  if (shadow) r.shadow.reset(new ByteShadow[size]); last_region = nullptr;
}
void region_mark(u64 base, u64 size, s32 set, s32 clear) { Region* r = find_region(base); if (!r) return; for (u64 i = 0; i < size && base - r->base + i < r->size; i++) { u8& s = r->state[base - r->base + i]; s = u8((s | set) & ~clear); } }
void region_remove(u64 base) { regions.erase(base); last_region = nullptr; }
void regions_clear() { regions.clear(); last_region = nullptr; }
s32 region_count() { return s32(regions.size()); }
// whether each byte has been written: 0 or 1
s32 region_state(u64 base, u64 size, u8* out) { Region* r = find_region(base); if (!r || base + size > r->base + r->size) return 0; memcpy(out, r->state.get() + (base - r->base), size); return 1; }
static std::string error;
const char* sim_launch(Sim* s, const Config* c, const u8* params, s64 n_params) {
  sim = s; cfg = *c; kparams.assign(params, params + n_params); ulp_mode = cfg.ulp; rng_state = cfg.seed * 0x9E3779B97F4A7C15ull + 0x1234567; for (int i = 0; i < 5; i++) rnd();
  launch_id++; location.clear(); atomic_users.clear(); error.clear();
  int old = fegetround(); fesetround(FE_TONEAREST); unsigned mx = _mm_getcsr(); _mm_setcsr(mx & ~0x8040u);
  try { run(); } catch (const std::exception& e) { error = e.what(); if (error.empty()) error = "?"; }
  fesetround(old); _mm_setcsr(mx);
  return error.c_str();
}
static std::string text;
const char* sim_reports() { text.clear(); for (auto& [k, r] : reports) { text += r.kind + "\t" + std::to_string(r.line) + "\t" + std::to_string(r.count) + "\t" + r.text + "\n"; } reports.clear(); return text.c_str(); }
void sim_totals(u64* out) { out[0] = executed; out[1] = warp_insns; }
}
