// What a likelihood of counts includes: the functions, and a mark for the preprocessor.
#pragma once
#include "special.h"

#define VK_COUNTS  // cpu/kernels/not_zero.h includes <immintrin.h> only where this is: the header takes long to compile
