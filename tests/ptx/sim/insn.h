// A module that parser.py has made: its instructions, and the numbers that executor.py has for the same names.
#pragma once
#include <vector>

#include "types.h"

enum Op {
#define X(n) OP_##n,
#include "ops.h"
#undef X
};
inline const char* const op_names[] = {
#define X(n) #n,
#include "ops.h"
#undef X
};
enum Flag {
  FTZ = 1,
  SAT = 2,
  APPROX = 4,
  FULL = 8,
  HI = 16,
  LO = 32,
  WIDE = 64,
  NANF = 128,
  NC = 256,
  WRAP = 512,
  CLAMP = 1024,
  RELEASE = 2048,
  ACQUIRE = 4096,
  UNI = 8192,
  VOLATILE = 16384,
  XORSIGN = 32768,
  CC = 65536,
  TOSPACE = 131072,
  CG = 262144,
  RELAXED = 524288
};
enum Cmp {
  C_EQ,
  C_NE,
  C_LT,
  C_LE,
  C_GT,
  C_GE,
  C_LO,
  C_LS,
  C_HI,
  C_HS,
  C_EQU,
  C_NEU,
  C_LTU,
  C_LEU,
  C_GTU,
  C_GEU,
  C_NUM,
  C_NAN
};
enum BoolOp { B_NONE, B_AND, B_OR, B_XOR };
enum Atom { A_NONE, A_ADD, A_MIN, A_MAX, A_EXCH, A_CAS, A_AND, A_OR, A_XOR, A_INC, A_DEC };

// kind: 0 none, 1 register, 2 number, 3 register negated (a predicate), 4 an address among a lane's parameters.
struct Opnd {
  s32 kind, reg;
  u64 imm;
};
// d: where results go; s: the sources. guard: the predicate that lets a lane take part, or -1; gneg: it is negated.
struct Insn {
  s32 op, ty, ty2, guard, gneg, flags, round, cmp, boolop, space, vec, atom, nd, ns, target, line, func, aux;
  s64 off;
  Opnd d[8], s[10];
};
// A parameter of a call: from one place among a lane's parameters to another.
struct Arg {
  s32 from, to, size;
};
struct Call {
  s32 args_begin, args_end, rets_begin, rets_end;
};

struct Module {
  std::vector<Insn> code;
  std::vector<Arg> args;
  std::vector<Call> calls;
  int n_regs = 0;
  u32 lane_param_bytes = 0, local_bytes = 0;
  std::vector<std::vector<u64>> consts;  // each of them for all lanes
  std::vector<u64> hits;                 // how often each instruction ran
};
