// One instruction of the lanes of a warp that are at the same place.
#pragma once
#include "machine.h"

struct Step {
  Warp& w;
  u32 m, on;  // the lanes, and those whose guard lets them
  int first;
  s32 pc;
  const Insn& in;
  Block& blk;
  u64* R;

  Step(Warp& warp, u32 lanes_now);

  // Registers of all lanes: a source, a destination, and a predicate.
  const u64* S(int i) const {
    const Opnd& o = in.s[i];
    if (o.kind == 1 || o.kind == 3) return R + u64(o.reg) * 32;
    return module->consts[o.kind == 2 ? o.imm : 0].data();
  }
  u64* D(int i) const { return R + u64(in.d[i].reg) * 32; }
  bool P(int i, int l) const { return bool(S(i)[l] & 1) != (in.s[i].kind == 3); }
  void next(u32 which) {
    lanes(which, [&](int l) { w.pc[l] = pc + 1; });
  }

  void control();   // branches, calls, exits, barriers
  void together();  // shfl, vote, redux, ldmatrix and the like: the lanes named in the mask wait for one another
  bool meet();      // whether the lanes of the mask are all there
  void shuffle();
  void vote();
  void reduce();
  void load_matrix();
  void store_matrix();
  void access();  // loads, stores, atomics, fences
  void move();
  void choose();      // comparisons and selections
  void bits();        // lop3, prmt and the like
  void predicates();  // and, or, xor, not of predicates
  void arithmetic();
};

// Old value and operands of an atomic instruction or of redux: the new value.
u64 atomic_rmw(const Insn& in, u64 old, u64 v, u64 v2);
