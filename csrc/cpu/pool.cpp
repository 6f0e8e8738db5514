#include "pool.h"

#include <pthread.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdlib>
#include <mutex>
#include <vector>

namespace vk {
namespace {

constexpr size_t kSmallest = size_t(1) << 20, kHugePage = size_t(2) << 20;

struct Block {
  void* data;
  size_t bytes;
};

class Pool {
 public:
  Block take(size_t bytes) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      size_t best = free_.size();  // the smallest that fits, if it is not twice too large
      for (size_t i = 0; i < free_.size(); ++i)
        if (free_[i].bytes >= bytes && free_[i].bytes <= 2 * bytes)
          if (best == free_.size() || free_[i].bytes < free_[best].bytes) best = i;
      if (best < free_.size()) {
        const Block block = free_[best];
        free_.erase(free_.begin() + best);
        kept_ -= block.bytes;
        return block;
      }
    }
    const size_t rounded = (bytes + kHugePage - 1) / kHugePage * kHugePage;
    void* data = nullptr;
    VK_CHECK(posix_memalign(&data, kHugePage, rounded) == 0, "no memory for ", bytes, " bytes");
#ifdef MADV_HUGEPAGE
    madvise(data, rounded, MADV_HUGEPAGE);  // a wish: fewer faults where it is granted
#endif
    return {data, rounded};
  }

  void give_back(Block block) {
    std::lock_guard<std::mutex> lock(mutex_);
    free_.push_back(block);
    kept_ += block.bytes;
    trim();
  }

  void set_limit(size_t bytes) {
    std::lock_guard<std::mutex> lock(mutex_);
    limit_ = bytes;
    trim();
  }

  size_t kept() {
    std::lock_guard<std::mutex> lock(mutex_);
    return kept_;
  }

  bool enabled() { return limit_ > 0; }

  void lock() { mutex_.lock(); }
  void unlock() { mutex_.unlock(); }

 private:
  std::mutex mutex_;
  std::vector<Block> free_;  // the longest unused first
  size_t kept_ = 0;
  std::atomic<size_t> limit_ = size_t(1) << 30;  // read without the lock, by enabled()

  void trim() {
    size_t n = 0;
    for (; kept_ > limit_; ++n) {
      kept_ -= free_[n].bytes;
      std::free(free_[n].data);
    }
    free_.erase(free_.begin(), free_.begin() + n);
  }
};

Pool& pool() {
  static Pool* const one = new Pool;  // never destroyed: tensors may die after static objects do
  return *one;
}

// A fork copies the lock as it is: held for ever, if by a thread that the child does not have. So the forking thread
// takes it before, and both processes let it go.
const int at_fork = pthread_atfork([] { pool().lock(); }, [] { pool().unlock(); }, [] { pool().unlock(); });

}  // namespace

Tensor empty_pooled(const int64_t* sizes, const int64_t* strides, int64_t dim, int32_t dtype, int64_t bytes,
                    const Tensor& like) {
  if (bytes < int64_t(kSmallest) || !torch_from_blob || !pool().enabled())
    return empty(sizes, strides, dim, dtype, like);
  const Block block = pool().take(bytes);
  AtenTensorHandle handle;
  const auto deleter = [](void* data, void* size) { pool().give_back({data, reinterpret_cast<size_t>(size)}); };
  const int32_t strided = aoti_torch_layout_strided();
  const int32_t error = torch_from_blob(block.data, dim, sizes, strides, 0, dtype, like.device_type(), like.device(),
                                        &handle, strided, nullptr, 0, deleter, reinterpret_cast<void*>(block.bytes));
  if (error) pool().give_back(block);
  VK_CHECK(error == 0, "torch_from_blob failed");
  return Tensor(handle);
}

void set_pool_limit(int64_t bytes) {
  VK_CHECK(bytes >= 0, "pool limit: got ", bytes, " bytes, expected 0 or more");
  pool().set_limit(size_t(bytes));
}

int64_t pool_bytes() { return int64_t(pool().kept()); }

}  // namespace vk
