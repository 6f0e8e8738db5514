// Shared memory: bounds, alignment, reads before writes, and races between two barriers.
#include "machine.h"

void check_shared(Warp& w, int lane, const Insn& in, u64 off, int n, bool write, const u8* data) {
  Block& b = *w.block;
  s32 t = w.index * 32 + lane;
  if (off < SHARED_BASE || off + n > SHARED_BASE + b.shared.size())
    throw Fatal(str("line %d: shared %s of %d bytes at offset %ld of %zu; %s", in.line, write ? "store" : "load", n,
                    long(off) - SHARED_BASE, b.shared.size(), where(w, lane).c_str()));
  off -= SHARED_BASE;
  if (off % n)
    throw Fatal(
        str("line %d: misaligned shared access of %d bytes at %lu; %s", in.line, n, off, where(w, lane).c_str()));
  for (int i = 0; i < n; i++) {
    SharedShadow& s = b.sh[off + i];
    if (!write) {
      if (!s.init)
        note("shared-uninitialised-read", in.line, str("offset %lu; %s", off + i, where(w, lane).c_str()));
      else if (s.w_epoch == b.epoch && s.w_thread != t)
        note(s.w_thread / 32 == t / 32 ? "shared-same-warp-raw" : "shared-race-raw", in.line,
             str("offset %lu, written by thread %d; %s", off + i, s.w_thread, where(w, lane).c_str()));
      if (s.r_epoch != b.epoch) {
        s.r_epoch = b.epoch;
        s.r_thread = t;
        s.r_many = 0;
      } else if (s.r_thread != t) {
        if (s.r_thread / 32 != t / 32)
          s.r_many = 2;
        else if (!s.r_many)
          s.r_many = 1;
      }
    } else {
      if (s.init && s.w_epoch == b.epoch && s.w_thread != t && b.shared[off + i] != data[i])
        note(s.w_thread / 32 == t / 32 ? "shared-same-warp-waw" : "shared-race-waw", in.line,
             str("offset %lu, written by thread %d; %s", off + i, s.w_thread, where(w, lane).c_str()));
      if (s.r_epoch == b.epoch && (s.r_thread != t || s.r_many)) {
        bool other = s.r_many == 2 || s.r_thread / 32 != t / 32;
        note(other ? "shared-race-war" : "shared-same-warp-war", in.line,
             str("offset %lu, read by thread %d; %s", off + i, s.r_thread, where(w, lane).c_str()));
      }
      s.init = 1;
      s.w_epoch = b.epoch;
      s.w_thread = t;
    }
  }
}
