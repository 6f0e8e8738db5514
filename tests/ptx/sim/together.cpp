// What the lanes of a warp do together: shfl, vote, redux and bar.warp.
#include "step.h"

void Step::together() {
  if (in.op == OP_activemask) {
    lanes(on, [&](int l) { D(0)[l] = on; });
    return next(m);
  }
  if (in.guard >= 0 && on != m) {
    next(m & ~on);
    m = on;
    if (!m) return;
  }
  if (!meet()) return;
  switch (in.op) {
    case OP_ldmatrix:
      load_matrix();
      break;
    case OP_stmatrix:
      store_matrix();
      break;
    case OP_shfl:
      shuffle();
      break;
    case OP_vote:
      vote();
      break;
    case OP_redux:
      reduce();
      break;
    case OP_barwarp:
      break;
    default:
      throw Fatal("match");
  }
  next(m);
}

// The lanes that are here wait, unless they are the last ones: then `m` is all of them.
bool Step::meet() {
  const bool matrix = in.op == OP_ldmatrix || in.op == OP_stmatrix;
  u32 mask = matrix ? ~0u : u32(S(in.ns - 1)[first]);
  u32 need = 0;
  lanes(m, [&](int l) {
    if (!matrix && u32(S(in.ns - 1)[l]) != mask) throw Fatal(str("line %d: member masks differ", in.line));
    if (!(mask >> l & 1)) throw Fatal(str("line %d: a lane outside its own member mask", in.line));
  });
  for (int l = 0; l < 32; l++)
    if ((mask >> l & 1) && (w.live >> l & 1) && w.state[l] != DONE) need |= 1u << l;
  if ((mask & w.live) != need) note("sync-mask-names-an-exited-lane", in.line, str("mask %#x", mask));
  if (need & ~m) {
    lanes(m, [&](int l) {
      w.state[l] = WAIT;
      w.wait_mask[l] = mask;
    });
    u32 there = 0;
    for (int l = 0; l < 32; l++)
      if (w.state[l] == WAIT && w.pc[l] == pc) there |= 1u << l;
    if (need & ~there) return false;
    m = there & need;
    lanes(m, [&](int l) { w.state[l] = RUN; });
    on = m;
  }
  return true;
}

void Step::shuffle() {
  u64 out[32];
  bool ok[32];
  const u64 *a = S(0), *b = S(1), *c = S(2);
  lanes(m, [&](int l) {
    u32 bv = u32(b[l]) & 31, cv = u32(c[l]), seg = cv >> 8 & 31, cl = cv & 31;
    int mx = (l & seg) | (cl & ~seg), mn = l & seg, j;
    bool p;
    switch (in.aux) {
      case 0:
        j = l - int(bv);
        p = j >= mx;
        break;
      case 1:
        j = l + int(bv);
        p = j <= mx;
        break;
      case 2:
        j = l ^ int(bv);
        p = j <= mx;
        break;
      default:
        j = mn | (bv & ~seg);
        p = j <= mx;
    }
    if (!p) j = l;
    if (!(m >> j & 1)) note("shfl-from-inactive-lane", in.line, str("lane %d from %d", l, j));
    out[l] = u32(a[j]);
    ok[l] = p;
  });
  lanes(m, [&](int l) {
    D(0)[l] = out[l];
    if (in.nd > 1) D(1)[l] = ok[l];
  });
}

void Step::vote() {
  u32 v = 0;
  lanes(m, [&](int l) { v |= u32(P(0, l)) << l; });
  lanes(m, [&](int l) {
    D(0)[l] = in.aux == 0 ? v == m : in.aux == 1 ? v != 0 : in.aux == 2 ? (v == m || v == 0) : v;
  });
}

void Step::reduce() {
  if (in.ty == F32) {
    float acc = 0;
    bool init = false;
    lanes(m, [&](int l) {
      float v = f32(S(0)[l]);
      if (!init) {
        acc = v;
        init = true;
      } else
        acc = in.atom == A_MAX   ? fmax_ptx(acc, v, in.flags & NANF)
              : in.atom == A_MIN ? fmin_ptx(acc, v, in.flags & NANF)
                                 : throw Fatal("redux f32");
    });
    lanes(m, [&](int l) { D(0)[l] = nan_or(acc); });
    return;
  }
  if (is_float(in.ty)) throw Fatal("redux type");
  u64 acc = 0;
  bool init = false;
  lanes(m, [&](int l) {
    u64 v = extend(S(0)[l], in.ty);
    if (!init) {
      acc = v;
      init = true;
      return;
    }
    acc = atomic_rmw(in, acc, v, 0);
    acc = extend(acc, in.ty);
  });
  lanes(m, [&](int l) { D(0)[l] = truncate(acc, in.ty); });
}
