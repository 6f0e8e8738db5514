// Global memory: bounds, alignment, reads before writes, stores into inputs.
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
  for (int i = 0; i < n; i++) {
    u8& state = r->state[off + i];
    const auto fatal = [&](const char* what) {
      throw Fatal(str("line %d: %s, %s + %lu; %s", in.line, what, r->name.c_str(), off + i, where(w, lane).c_str()));
    };
    if (!(state & ADDRESSABLE))
      fatal(write ? "global store of a byte that no tensor has" : "global load of a byte that no tensor has");
    if (write && (state & READ_ONLY)) fatal("store into an input");
    if ((!write || atomic) && !(state & WRITTEN))
      note("global-uninitialised-read", in.line, str("%s + %lu; %s", r->name.c_str(), off + i, where(w, lane).c_str()));
    check_race(w, lane, in, *r, off + i, write, atomic, data ? data + i : nullptr);
    if (write) state |= WRITTEN;
  }
}
