// Loads, stores, atomics and fences, and what threads have seen of one another.
#include "step.h"

// All that this thread has done and seen.
static void release(Warp& w, int lane, Clock& into) {
  Block& b = *w.block;
  s32 t = w.index * 32 + lane;
  into.any = true;
  into.join(b.view);
  into.join(b.threads[t].view);
  if (into.view.size() <= size_t(b.id)) into.view.resize(b.id + 1);
  into.view[b.id] = std::max(into.view[b.id], b.epoch);
  into.extra.insert({b.id, {t, b.epoch}});
}

u64 atomic_rmw(const Insn& in, u64 old, u64 v, u64 v2) {
  int ty = in.ty;
  switch (in.atom) {
    case A_ADD:
      if (ty == F32) return bits(f32(old) + f32(v));
      if (ty == F64) return bits(f64(old) + f64(v));
      return truncate(old + v, ty);
    case A_EXCH:
      return v;
    case A_CAS:
      return truncate(old, ty) == truncate(v, ty) ? v2 : old;
    case A_AND:
      return old & v;
    case A_OR:
      return old | v;
    case A_XOR:
      return old ^ v;
    case A_MIN:
      return is_signed(ty) ? u64(std::min(s64(extend(old, ty)), s64(extend(v, ty))))
                           : std::min(extend(old, ty), extend(v, ty));
    case A_MAX:
      return is_signed(ty) ? u64(std::max(s64(extend(old, ty)), s64(extend(v, ty))))
                           : std::max(extend(old, ty), extend(v, ty));
    case A_INC:
      return u32(old) >= u32(v) ? 0 : old + 1;
  }
  throw Fatal("atomic");
}

void Step::access() {
  switch (in.op) {
    case OP_ld: {
      int n = size_of(in.ty), total = n * in.vec;
      const u64* a = S(0);
      alignas(16) u8 buf[64];
      lanes(on, [&](int l) {
        u64 addr = in.s[0].kind == 4 ? W_LPARAM + in.s[0].imm : a[l];
        addr += in.off;
        if (in.space == SHARED) addr = u32(addr);
        mem(w, l, in, addr, total, false, buf);
        for (int i = 0; i < in.vec; i++) {
          u64 v = 0;
          memcpy(&v, buf + i * n, n);
          if (is_signed(in.ty)) v = n == 8 ? v : n == 4 ? u32(v) : u32(extend(v, in.ty));
          if (in.d[i].kind == 1) D(i)[l] = is_signed(in.ty) && n < 4 ? u64(s64(extend(v, in.ty))) & 0xffffffff : v;
        }
      });
      return;
    }
    case OP_st: {
      int n = size_of(in.ty), total = n * in.vec;
      const u64* a = S(0);
      alignas(16) u8 buf[64];
      lanes(on, [&](int l) {
        u64 addr = in.s[0].kind == 4 ? W_LPARAM + in.s[0].imm : a[l];
        addr += in.off;
        if (in.space == SHARED) addr = u32(addr);
        for (int i = 0; i < in.vec; i++) {
          u64 v = S(1 + i)[l];
          memcpy(buf + i * n, &v, n);
        }
        mem(w, l, in, addr, total, true, buf);
      });
      return;
    }
    case OP_atom:
    case OP_red: {
      int n = size_of(in.ty);
      const u64* a = S(0);
      lanes(on, [&](int l) {
        u64 addr = a[l] + in.off;
        int space = in.space;
        if (space == GENERIC) space = space_of(addr);
        s32 t = w.index * 32 + l;
        u64 old = 0;
        u64 v2 = in.ns > 2 ? S(2)[l] : 0;
        if (space == GLOBAL) {
          atomic_users[addr & ~3ull].insert({blk.id, t});
          check_global(w, l, in, addr, n, true, true, nullptr);
          memcpy(&old, (void*)addr, n);
          u64 v = atomic_rmw(in, old, S(1)[l], v2);
          memcpy((void*)addr, &v, n);
          {
            Clock& loc = location[addr];
            Thread& th = blk.threads[t];
            if (loc.any) {
              if (in.flags & ACQUIRE)
                th.view.join(loc);
              else
                th.pending.join(loc);
            }
            if (in.flags & RELEASE)
              release(w, l, loc);
            else
              loc.join(th.fence);
          }
        } else if (space == SHARED) {
          if (in.space == GENERIC) addr -= W_SHARED;
          u64 off = addr - SHARED_BASE;
          if (addr < SHARED_BASE || off + n > blk.shared.size() || off % n) throw Fatal("shared atomic out of bounds");
          memcpy(&old, &blk.shared[off], n);
          u64 v = atomic_rmw(in, old, S(1)[l], v2);
          memcpy(&blk.shared[off], &v, n);
          for (int i = 0; i < n; i++) blk.sh[off + i].init = 1;
        } else
          throw Fatal("atomic space");
        if (in.op == OP_atom && in.nd) D(0)[l] = old;
      });
      return;
    }
    case OP_fence:
    case OP_membar:
      if (in.aux == 1)
        lanes(on, [&](int l) {
          Thread& th = blk.threads[w.index * 32 + l];
          if (th.pending.any) {
            th.view.join(th.pending);
          }
          release(w, l, th.fence);
        });
      return;
  }
}
