// One launch: the KL's blocks, then those of the likelihood or the sample, and the last of all to end finishes.
#pragma once
#include "finish.h"
#include "latent.h"

namespace vk::cuda {

template <class Main, class T>
struct Elbo {
  static constexpr int rows_each = Main::rows_each, blocks_per_sm = Main::blocks_per_sm;
  using Latent = Kl<T>;
  using Job = ElboJob<typename Main::Job>;
  using Shared = Sums<rows_each>;
  struct Local {
    union {
      typename Main::Local main;
      T kl;  // a sum of a column
    };
  };

  // 0: elements; 1, 2: sums of rows; 3, 4 and 5, 6 ...: sums of the columns of parameters 1, 2, ...; the ticket; then
  // the finish
  static constexpr int ticket_at = 1 + 2 * kMaxParameters, finish_at = ticket_at + 1;
  static constexpr int phases = finish_at + Finish::one_block_phases;

  template <int P>
  VK_GPU static void phase(const Job& job, Place at, Local& local, Shared& shared) {
    const int64_t kl_blocks = job.kl.tiling.blocks(), block = at.block - kl_blocks;
    if constexpr (P >= finish_at) {
      if (shared.last) Finish::step<P - finish_at>(job.finish, {0, 1, at.thread}, shared.of[0], shared.last);
    } else if constexpr (P == ticket_at) {
      if (at.thread > 0) return;
      shared.last = job.finish.ticket && take_ticket(job.finish.ticket) == at.blocks - 1;
      if (shared.last) *job.finish.ticket = 0;
    } else if (block < 0) {
      double *sums = shared.of[0], *weighted = shared.of[1];
      if constexpr (P == 0) local.kl = Latent::walk(job.kl, at.block, at.thread, sums, weighted);
      if constexpr (P == 1) Latent::fold_sums(job.kl, at.thread, sums, weighted);
      if constexpr (P == 2) Latent::write_sums(job.kl, at.block, at.thread, sums, weighted);
      if constexpr (P == 3) Latent::share(job.kl, at.block, at.thread, local.kl, shared.columns);
      if constexpr (P == 4) Latent::write(job.kl, at.block, at.thread, shared.columns);
    } else {
      if constexpr (P == 0) Main::walk(job.main, block, at.thread, local.main, shared);
      if constexpr (P == 1) Main::fold_sums(job.main, block, at.thread, shared);
      if constexpr (P == 2) Main::write_sums(job.main, block, at.thread, shared);
      if constexpr (P > 2 && P % 2 == 1) Main::template share<P / 2>(job.main, block, at.thread, local.main, shared);
      if constexpr (P > 2 && P % 2 == 0) Main::template write<P / 2 - 1>(job.main, block, at.thread, shared);
    }
  }
};

}  // namespace vk::cuda
