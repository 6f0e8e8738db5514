// ldmatrix and stmatrix: matrices of 8 x 8 numbers of 16 bits. Row r of matrix k is at the address of lane 8 k + r.
// Lane l has the numbers 2 (l % 4) and the next of row l / 4; or, with .trans, of column l / 4.
#include "step.h"

namespace {
void whole(u32 m) {
  if (m != ~0u) throw Fatal("ldmatrix or stmatrix of a part of a warp");
}
}  // namespace

void Step::load_matrix() {
  whole(m);
  const bool trans = in.aux & 1;
  u16 rows[8][8];
  u64 results[4][32];  // no destination is written before the last address is read
  for (int k = 0; k < in.vec; k++) {
    for (int r = 0; r < 8; r++)
      mem(w, 8 * k + r, in, u32(S(0)[8 * k + r] + in.off), 16, false, reinterpret_cast<u8*>(rows[r]));
    for (int l = 0; l < 32; l++) {
      const int r = l / 4, c = l % 4 * 2;
      const u32 low = trans ? rows[c][r] : rows[r][c], high = trans ? rows[c + 1][r] : rows[r][c + 1];
      results[k][l] = high << 16 | low;
    }
  }
  for (int k = 0; k < in.vec; k++) memcpy(D(k), results[k], sizeof results[k]);
}

void Step::store_matrix() {
  whole(m);
  const bool trans = in.aux & 1;
  u16 rows[8][8];
  for (int k = 0; k < in.vec; k++) {
    for (int l = 0; l < 32; l++) {
      const int r = l / 4, c = l % 4 * 2;
      const u32 v = u32(S(1 + k)[l]);
      (trans ? rows[c][r] : rows[r][c]) = u16(v);
      (trans ? rows[c + 1][r] : rows[r][c + 1]) = u16(v >> 16);
    }
    for (int r = 0; r < 8; r++)
      mem(w, 8 * k + r, in, u32(S(0)[8 * k + r] + in.off), 16, true, reinterpret_cast<u8*>(rows[r]));
  }
}
