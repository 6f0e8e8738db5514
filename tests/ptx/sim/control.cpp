// Branches, calls, exits and barriers.
#include "step.h"

void Step::control() {
  switch (in.op) {
    case OP_bra:
      lanes(m, [&](int l) { w.pc[l] = pc + 1; });
      lanes(on, [&](int l) { w.pc[l] = in.target; });
      if ((in.flags & UNI) && on != m && on) note("bra.uni-diverges", in.line, "");
      return;
    case OP_brx: {
      const u64* a = S(0);
      lanes(m, [&](int l) { w.pc[l] = pc + 1; });
      lanes(on, [&](int l) {
        if (s64(a[l]) >= in.aux) throw Fatal("brx out of range");
        w.pc[l] = module->args[in.target + a[l]].to;
      });
      return;
    }
    case OP_ret:
    case OP_exit:
      lanes(m, [&](int l) { w.pc[l] = pc + 1; });
      lanes(on, [&](int l) {
        if (in.op == OP_exit || w.stack[l].empty()) {
          w.state[l] = DONE;
          blk.alive--;
          return;
        }
        Frame f = w.stack[l].back();
        w.stack[l].pop_back();
        const Call& c = module->calls[f.call];
        u8* lp = &w.lparam[u64(l) * module->lane_param_bytes];
        for (int i = c.rets_begin; i < c.rets_end; i++)
          memcpy(lp + module->args[i].to, lp + module->args[i].from, module->args[i].size);
        w.pc[l] = f.ret;
      });
      return;
    case OP_call: {
      next(m);
      const Call& c = module->calls[in.aux];
      lanes(on, [&](int l) {
        u8* lp = &w.lparam[u64(l) * module->lane_param_bytes];
        for (int i = c.args_begin; i < c.args_end; i++)
          memcpy(lp + module->args[i].to, lp + module->args[i].from, module->args[i].size);
        w.stack[l].push_back({pc + 1, in.aux});
        w.pc[l] = in.target;
      });
      return;
    }
    case OP_bar:
    case OP_barrier: {
      if (in.guard >= 0 && on != m) note("predicated-barrier-diverges", in.line, "");
      lanes(m & ~on, [&](int l) { w.pc[l] = pc + 1; });
      u64 id = in.ns ? S(0)[first] : 0;
      if (in.ns > 1) throw Fatal("bar with a number of threads");
      lanes(on, [&](int l) {
        w.state[l] = BARRIER;
        w.bar_id[l] = s32(id);
      });
      return;
    }
  }
}
