// Global memory: bounds, alignment, reads before writes, stores into inputs, and races.
#include "machine.h"

void check_global(Warp& w, int lane, const Insn& in, u64 a, int n, bool write, bool atomic, const u8* data) {
  Region* r = last_region;
  if (!r || a < r->base || a >= r->base + r->size) {
    r = find_region(a);
    if (!r)
      throw Fatal(str("line %d: global %s of %d bytes at %#lx, which is nowhere; %s", in.line, write ? "store" : "load",
                      n, a, where(w, lane).c_str()));
    last_region = r;
  }
  u64 off = a - r->base;
  if (off + n > r->size)
    throw Fatal(str("line %d: global %s of %d bytes crosses the end of %s (offset %lu of %lu); %s", in.line,
                    write ? "store" : "load", n, r->name.c_str(), off, r->size, where(w, lane).c_str()));
  if (a % n)
    throw Fatal(str("line %d: misaligned global access of %d bytes at %#lx in %s; %s", in.line, n, a, r->name.c_str(),
                    where(w, lane).c_str()));
  Block& b = *w.block;
  s32 t = w.index * 32 + lane;
  for (int i = 0; i < n; i++) {
    u8& st = r->state[off + i];
    if (!(st & 1))
      throw Fatal(str("line %d: global %s of a byte that no tensor has, %s + %lu; %s", in.line,
                      write ? "store" : "load", r->name.c_str(), off + i, where(w, lane).c_str()));
    if (write && (st & 4))
      throw Fatal(
          str("line %d: store into an input, %s + %lu; %s", in.line, r->name.c_str(), off + i, where(w, lane).c_str()));
    if ((!write || atomic) && !(st & 2))
      note("global-uninitialised-read", in.line, str("%s + %lu; %s", r->name.c_str(), off + i, where(w, lane).c_str()));
    {
      ByteShadow& s = r->shadow[off + i];
      auto ordered = [&](const Access& o) {
        if (o.launch != launch_id || (o.block == b.id && (o.thread == t || o.epoch < b.epoch))) return true;
        if (o.block == b.id) return b.threads[t].view.sees(o.block, o.thread, o.epoch);
        return b.view.sees(o.block, o.thread, o.epoch) || b.threads[t].view.sees(o.block, o.thread, o.epoch);
      };
      auto exempt = [&]() {
        auto u = atomic_users.find(a & ~3ull);
        return u != atomic_users.end() && u->second.count({b.id, t});
      };
      auto same_warp = [&](const Access& o) { return o.block == b.id && o.thread / 32 == t / 32; };
      if (!write || atomic) {
        if (s.w.launch == launch_id) {
          if (in.flags & NC)
            note("global-nc-load-of-written", in.line,
                 str("%s + %lu; %s", r->name.c_str(), off + i, where(w, lane).c_str()));
          if (!ordered(s.w) && !(atomic && s.w_atomic) && !exempt())
            note(same_warp(s.w)      ? "global-same-warp-raw"
                 : s.w.block == b.id ? "global-race-raw-in-block"
                                     : "global-race-raw-between-blocks",
                 in.line,
                 str("%s + %lu, written by block %d thread %d epoch %u; %s epoch %u", r->name.c_str(), off + i,
                     s.w.block, s.w.thread, s.w.epoch, where(w, lane).c_str(), b.epoch));
        }
        if (!write) {
          if (s.r.launch == launch_id && s.r.block == b.id && s.r.epoch == b.epoch && s.r.thread != t)
            s.r_many = 1;
          else if (!(s.r.launch == launch_id && s.r.block == b.id && s.r.epoch == b.epoch))
            s.r_many = 0;
          s.r = {launch_id, b.id, t, b.epoch};
        }
      }
      if (write) {
        if (s.w.launch == launch_id && !ordered(s.w) && !(atomic && s.w_atomic) && !exempt()) {
          bool same = data && ((u8*)a)[i] == data[i];
          note(same                ? "info-global-same-value-waw"
               : same_warp(s.w)    ? "global-same-warp-waw"
               : s.w.block == b.id ? "global-race-waw-in-block"
                                   : "global-race-waw-between-blocks",
               in.line,
               str("%s + %lu, written by block %d thread %d; %s", r->name.c_str(), off + i, s.w.block, s.w.thread,
                   where(w, lane).c_str()));
        }
        if (s.r.launch == launch_id && (!ordered(s.r) || (s.r_many && s.r.block == b.id && s.r.epoch == b.epoch)) &&
            !exempt())
          note(same_warp(s.r) && !s.r_many ? "global-same-warp-war"
               : s.r.block == b.id         ? "global-race-war-in-block"
                                           : "global-race-war-between-blocks",
               in.line,
               str("%s + %lu, read by block %d thread %d; %s", r->name.c_str(), off + i, s.r.block, s.r.thread,
                   where(w, lane).c_str()));
        s.w = {launch_id, b.id, t, b.epoch};
        s.w_atomic = atomic;
      }
    }
    if (write) st |= 2;
  }
}
