// Races in global memory, byte by byte. Two accesses, one of them a write, must be of one thread, or a barrier must lie
// between them, or the second thread must have seen the first access through an atomic and fences.
#include "machine.h"

namespace {

// One access that is checked against those before it.
struct Race {
  const Warp& w;
  const Block& b;
  s32 thread;
  const Insn& in;
  const Region& r;
  u64 offset;

  bool in_this_block(const Access& o) const { return o.block == b.id; }
  bool same_warp(const Access& o) const { return in_this_block(o) && o.thread / 32 == thread / 32; }
  bool now(const Access& o) const { return o.launch == launch_id && in_this_block(o) && o.epoch == b.epoch; }

  // Whether the other access is done before this one, in any schedule.
  bool ordered(const Access& o) const {
    if (o.launch != launch_id) return true;
    if (in_this_block(o) && (o.thread == thread || o.epoch < b.epoch)) return true;
    if (b.threads[thread].view.sees(o.block, o.thread, o.epoch)) return true;
    return !in_this_block(o) && b.view.sees(o.block, o.thread, o.epoch);
  }

  // A thread that has used this word as an atomic, as a ticket: it may also set it plainly.
  bool exempt() const {
    const auto users = atomic_users.find((r.base + offset) & ~3ull);
    return users != atomic_users.end() && users->second.count({b.id, thread});
  }

  void report(const char* what, bool one_warp, const char* done, const Access& o) const {
    const std::string kind = one_warp
                                 ? str("global-same-warp-%s", what)
                                 : str("global-race-%s-%s", what, in_this_block(o) ? "in-block" : "between-blocks");
    note(kind.c_str(), in.line,
         str("%s + %lu, %s by block %d thread %d epoch %u; %s epoch %u", r.name.c_str(), offset, done, o.block,
             o.thread, o.epoch, where(w, thread % 32).c_str(), b.epoch));
  }
};

}  // namespace

void check_race(Warp& w, int lane, const Insn& in, Region& r, u64 offset, bool write, bool atomic, const u8* data) {
  ByteShadow& s = r.shadow[offset];
  Block& b = *w.block;
  const s32 thread = w.index * 32 + lane;
  const Race race{w, b, thread, in, r, offset};
  const bool written = s.w.launch == launch_id;
  const bool unordered = written && !race.ordered(s.w) && !(atomic && s.w_atomic) && !race.exempt();
  const Access mine{launch_id, b.id, thread, b.epoch};
  if (!write || atomic) {
    if (written && (in.flags & NC))
      note("global-nc-load-of-written", in.line, str("%s + %lu; %s", r.name.c_str(), offset, where(w, lane).c_str()));
    if (unordered) race.report("raw", race.same_warp(s.w), "written", s.w);
  }
  if (!write) {
    if (!race.now(s.r))
      s.r_many = 0;
    else if (s.r.thread != thread)
      s.r_many = 1;
    s.r = mine;
    return;
  }
  if (unordered && data && *reinterpret_cast<const u8*>(r.base + offset) == *data)
    note("info-global-same-value-waw", in.line, str("%s + %lu; %s", r.name.c_str(), offset, where(w, lane).c_str()));
  else if (unordered)
    race.report("waw", race.same_warp(s.w), "written", s.w);
  const bool others_read = s.r_many && race.now(s.r);
  if (s.r.launch == launch_id && (!race.ordered(s.r) || others_read) && !race.exempt())
    race.report("war", race.same_warp(s.r) && !s.r_many, "read", s.r);
  s.w = mine;
  s.w_atomic = atomic;
}
