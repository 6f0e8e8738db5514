// For a source that is compiled once for each formula of a kind; setup.py defines the name of the formula.
#pragma once

// clang-format off: a path is not a division
#define VK_TEXT(x) #x
#define VK_HEADER(name) VK_TEXT(formulas/name.h)
// clang-format on
#define VK_JOIN(a, b) a##b
#define VK_SYMBOL(prefix, name) VK_JOIN(prefix, name)
