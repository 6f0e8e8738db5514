// What executor.py calls.
#include <immintrin.h>

#include "machine.h"

#pragma GCC visibility push(default)
extern "C" {
Module* sim_new(const Insn* code, s64 n, const Arg* args, s64 n_args, const Call* calls, s64 n_calls, const u64* consts,
                s64 n_consts, s32 n_regs, u32 lane_param_bytes, u32 local_bytes) {
  Module* s = new Module;
  s->code.assign(code, code + n);
  s->args.assign(args, args + n_args);
  s->calls.assign(calls, calls + n_calls);
  for (s64 i = 0; i < n_consts; i++) s->consts.emplace_back(32, consts[i]);
  s->n_regs = n_regs;
  s->lane_param_bytes = lane_param_bytes;
  s->local_bytes = local_bytes;
  s->hits.resize(n);
  return s;
}
s32 insn_size() { return sizeof(Insn); }
void sim_hits(Module* s, u64* out) { memcpy(out, s->hits.data(), s->hits.size() * 8); }
void op_counts(u64* out) { memcpy(out, op_hits.data(), OP_COUNT * 8); }
// state: 1 addressable, 2 initialised, 4 read only
void region_add(u64 base, u64 size, const char* name, s32 state) {
  if (!size) return;
  auto it = regions.upper_bound(base);
  if (it != regions.begin()) {
    --it;
    if (it->second.base + it->second.size > base) regions.erase(it);
  }
  for (it = regions.lower_bound(base); it != regions.end() && it->second.base < base + size;) it = regions.erase(it);
  Region& r = regions[base];
  r.base = base;
  r.size = size;
  r.name = name;
  r.state.reset(new u8[size]);
  memset(r.state.get(), state, size);
  r.shadow.reset(new ByteShadow[size]);
  last_region = nullptr;
}
void region_mark(u64 base, u64 size, s32 set, s32 clear) {
  Region* r = find_region(base);
  if (!r) return;
  for (u64 i = 0; i < size && base - r->base + i < r->size; i++) {
    u8& s = r->state[base - r->base + i];
    s = u8((s | set) & ~clear);
  }
}
void regions_clear() {
  regions.clear();
  last_region = nullptr;
}
s32 region_known(u64 address) { return find_region(address) != nullptr; }
static std::string error;
const char* sim_launch(Module* s, const Config* c, const u8* params, s64 n_params) {
  module = s;
  cfg = *c;
  kparams.assign(params, params + n_params);
  ulp_mode = cfg.ulp;
  rng_state = cfg.seed * 0x9E3779B97F4A7C15ull + 0x1234567;
  for (int i = 0; i < 5; i++) rnd();
  launch_id++;
  location.clear();
  atomic_users.clear();
  error.clear();
  int old = fegetround();
  fesetround(FE_TONEAREST);
  unsigned mx = _mm_getcsr();
  _mm_setcsr(mx & ~0x8040u);
  try {
    run();
  } catch (const std::exception& e) {
    error = e.what();
    if (error.empty()) error = "?";
  }
  fesetround(old);
  _mm_setcsr(mx);
  return error.c_str();
}
static std::string text;
const char* sim_reports() {
  text.clear();
  for (auto& [k, r] : reports) {
    text += r.kind + "\t" + std::to_string(r.line) + "\t" + std::to_string(r.count) + "\t" + r.text + "\n";
  }
  reports.clear();
  return text.c_str();
}
void sim_totals(u64* out) {
  out[0] = executed;
  out[1] = warp_insns;
}
}
