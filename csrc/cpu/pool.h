// The memory of large results. A fresh block of tens of megabytes costs more than the arithmetic that fills it: the
// operating system clears each page at its first touch, and malloc gives the pages back as soon as the tensor dies. So
// a block of a megabyte or more is kept when its tensor dies, and handed to the next result that fits.
#pragma once
#include "torch_abi.h"

namespace vk {

// As empty(), with memory from the pool where the block is large and torch can hand it back (torch >= 2.11).
Tensor empty_pooled(const int64_t* sizes, const int64_t* strides, int64_t dim, int32_t dtype, int64_t bytes,
                    const Tensor& like);

// How many bytes of free blocks are kept, at most; 0 keeps none. The blocks beyond it are given back at once.
void set_pool_limit(int64_t bytes);
// Bytes in free blocks now.
int64_t pool_bytes();

}  // namespace vk
