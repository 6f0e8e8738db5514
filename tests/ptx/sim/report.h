// What is found: noted once for each kind and line of PTX, with a count. Fatal ends the launch.
#pragma once
#include <cstdio>
#include <map>
#include <stdexcept>
#include <string>
#include <utility>

#include "types.h"

struct Fatal : std::runtime_error {
  using runtime_error::runtime_error;
};

struct Report {
  std::string kind;
  s32 line;
  std::string text;
  u64 count;
};
inline std::map<std::pair<std::string, s32>, Report> reports;

inline void note(const char* kind, s32 line, const std::string& text) {
  auto& r = reports[{kind, line}];
  if (!r.count) {
    r.kind = kind;
    r.line = line;
    r.text = text;
  }
  r.count++;
}

// As printf.
template <class... A>
std::string str(const char* f, A... a) {
  char b[512];
  snprintf(b, sizeof b, f, a...);
  return b;
}
