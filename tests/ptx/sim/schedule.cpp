// Who goes on: which blocks are resident, which warp is next, and which of its lanes.
#include "machine.h"

// The lanes that go on now: at one place, and of one depth of calls. Those of a lane that is drawn, or else of the lane
// that is deepest in calls and then has the first place: so lanes that have parted come together again.
static u32 group_of(Warp& w, bool random) {
  s32 best = -1;
  u32 m = 0;
  if (random) {
    u32 run = 0;
    for (int l = 0; l < 32; l++)
      if (w.state[l] == RUN && (w.live >> l & 1)) run |= 1u << l;
    if (!run) return 0;
    int k = rnd() % __builtin_popcount(run);
    while (k--) run &= run - 1;
    best = __builtin_ctz(run);
  } else
    for (int l = 0; l < 32; l++)
      if (w.state[l] == RUN && (w.live >> l & 1))
        if (best < 0 || w.stack[l].size() > w.stack[best].size() ||
            (w.stack[l].size() == w.stack[best].size() && w.pc[l] < w.pc[best]))
          best = l;
  if (best < 0) return 0;
  for (int l = 0; l < 32; l++)
    if (w.state[l] == RUN && (w.live >> l & 1) && w.pc[l] == w.pc[best] && w.stack[l].size() == w.stack[best].size() &&
        (w.stack[l].empty() || w.stack[l].back().ret == w.stack[best].back().ret))
      m |= 1u << l;
  return m;
}

// Where all threads that are alive wait, they go on.
static bool barrier_done(Block& b) {
  u32 waiting = 0;
  s32 id = -1;
  for (auto& w : b.warps)
    for (int l = 0; l < 32; l++)
      if ((w->live >> l & 1) && w->state[l] == BARRIER) {
        waiting++;
        if (id >= 0 && id != w->bar_id[l]) throw Fatal("threads wait at different barriers");
        id = w->bar_id[l];
      }
  if (!waiting || waiting < b.alive) return false;
  if (b.alive < u32(b.threads_n))
    note("info-barrier-after-some-threads-exited", module->code[b.warps[0]->pc[0]].line, "");
  for (auto& w : b.warps) {
    s32 pc = -1;
    for (int l = 0; l < 32; l++)
      if ((w->live >> l & 1) && w->state[l] == BARRIER) {
        if (pc >= 0 && pc != w->pc[l])
          note("barrier-in-diverged-code", module->code[w->pc[l]].line,
               str("lanes of warp %d wait at different bar.sync", w->index));
        pc = w->pc[l];
      }
  }
  s32 bpc = -1;
  for (auto& w : b.warps)
    for (int l = 0; l < 32; l++)
      if ((w->live >> l & 1) && w->state[l] == BARRIER) {
        if (bpc >= 0 && bpc != w->pc[l]) note("info-warps-at-different-barriers", module->code[w->pc[l]].line, "");
        bpc = w->pc[l];
        w->state[l] = RUN;
        w->pc[l]++;
      }
  for (auto& t : b.threads)
    if (t.view.any) {
      b.view.join(t.view);
      t.view = Clock();
    }
  b.epoch++;
  return true;
}

static void new_block(std::unique_ptr<Block>& b, s32 id) {
  b.reset(new Block);
  b->id = id;
  b->cx = id % cfg.grid[0];
  b->cy = id / cfg.grid[0] % cfg.grid[1];
  b->cz = id / cfg.grid[0] / cfg.grid[1];
  int n = cfg.block[0] * cfg.block[1] * cfg.block[2];
  b->threads_n = n;
  b->alive = n;
  b->shared.assign(cfg.shared_bytes, 0xff);
  b->sh.resize(cfg.shared_bytes);
  b->threads.resize(n);
  for (int i = 0; i * 32 < n; i++) {
    std::unique_ptr<Warp> w(new Warp);
    w->block = b.get();
    w->index = i;
    w->live = n - i * 32 >= 32 ? ~0u : (1u << (n - i * 32)) - 1;
    w->regs.assign(u64(module->n_regs) * 32, 0xfff7deadfff7deadull);
    w->lparam.assign(u64(module->lane_param_bytes) * 32, 0xff);
    w->local.assign(u64(module->local_bytes) * 32, 0xff);
    for (int l = 0; l < 32; l++) {
      w->pc[l] = cfg.entry;
      w->state[l] = RUN;
      u32 t = i * 32 + l;
      u64 v[] = {t % cfg.block[0],
                 t / cfg.block[0] % cfg.block[1],
                 t / cfg.block[0] / cfg.block[1],
                 cfg.block[0],
                 cfg.block[1],
                 cfg.block[2],
                 b->cx,
                 b->cy,
                 b->cz,
                 cfg.grid[0],
                 cfg.grid[1],
                 cfg.grid[2],
                 u64(l),
                 u64(i),
                 u64(1u << l),
                 u64((1u << l) - 1),
                 u64((2ull << l) - 1),
                 u64(~((2ull << l) - 1) & 0xffffffff),
                 u64(~((1ull << l) - 1) & 0xffffffff),
                 0,
                 1,
                 u64(n / 32),
                 u64(cfg.shared_bytes),
                 32};
      for (size_t k = 0; k < sizeof v / 8; k++) w->regs[k * 32 + l] = v[k];
    }
    b->warps.push_back(std::move(w));
  }
}

void run() {
  s64 total = s64(cfg.grid[0]) * cfg.grid[1] * cfg.grid[2];
  std::vector<s32> order(total);
  for (s64 i = 0; i < total; i++) order[i] = s32(i);
  if (cfg.order == 1) std::reverse(order.begin(), order.end());
  if (cfg.order == 2)
    for (s64 i = total - 1; i > 0; i--) std::swap(order[i], order[rnd() % (i + 1)]);
  std::vector<std::unique_ptr<Block>> resident;
  s64 next = 0;
  s64 budget = cfg.budget;
  size_t turn = 0;
  while (true) {
    while (s64(resident.size()) < cfg.resident && next < total) {
      resident.emplace_back();
      new_block(resident.back(), order[next++]);
    }
    if (resident.empty()) return;
    // choose a warp
    bool progressed = false;
    if (cfg.policy == 0) {  // block after block (of those that are resident, by turns), warp after warp
      Block& b = *resident[turn++ % resident.size()];
      for (auto& w : b.warps)
        while (u32 m = group_of(*w, cfg.diverge)) {
          step(*w, m);
          progressed = true;
          if (--budget < 0) throw Fatal("budget of instructions");
        }
      if (barrier_done(b)) progressed = true;
      if (!progressed && b.alive) throw Fatal("deadlock");
    } else {
      std::vector<std::pair<Block*, Warp*>> can;
      for (auto& b : resident)
        for (auto& w : b->warps) {
          bool r = false;
          for (int l = 0; l < 32; l++) r |= (w->live >> l & 1) && w->state[l] == RUN;
          if (r) can.push_back({b.get(), w.get()});
        }
      if (!can.empty()) {
        auto [b, w] = can[rnd() % can.size()];
        int burst = 1 + int(cfg.policy == 2 ? rnd() % 7 : rnd() % 400);
        (void)b;
        u32 m;
        while (burst-- > 0 && (m = group_of(*w, cfg.diverge))) {
          if (cfg.diverge) {
            s32 p0;
            int in_group = 1 + int(rnd() % 60);
            s32 f = __builtin_ctz(m);
            while (in_group-- > 0) {
              p0 = w->pc[f];
              step(*w, m);
              if (--budget < 0) throw Fatal("budget of instructions");
              u32 same = 0;
              for (int l = 0; l < 32; l++)
                if ((m >> l & 1) && w->state[l] == RUN && w->pc[l] == p0 + 1) same |= 1u << l;
              if (same != m) break;
            }
          } else {
            step(*w, m);
            if (--budget < 0) throw Fatal("budget of instructions");
          }
        }
        progressed = true;
      }
      for (auto& b : resident)
        if (barrier_done(*b)) progressed = true;
      if (!progressed) {
        bool alive = false;
        for (auto& b : resident) alive |= b->alive > 0;
        if (alive) throw Fatal("deadlock");
      }
    }
    for (size_t i = 0; i < resident.size();)
      if (!resident[i]->alive)
        resident.erase(resident.begin() + i);
      else
        i++;
  }
}
