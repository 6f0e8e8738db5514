// Whether the matrices of a term have no gaps. Then, where no row has a result or a weight of its own, the batch is one
// long row: to begin a row costs as much as some hundred elements.
#pragma once
#include "request.h"

namespace vk {

inline bool is_one_run(const Source& s, int64_t cols) { return s.stride == cols && s.rows == kAllRows; }
inline bool is_one_run(const ElementWeights& w, int64_t cols) {
  return !w.data || (w.row_stride == (w.col_stride ? cols : 0) && w.rows == kAllRows);
}
inline bool is_one_run(const LikelihoodTerm& term) {
  bool all = is_one_run(term.x, term.cols) && is_one_run(term.weights, term.cols);
  for (const ParameterOfRequest& p : term.params)
    all &= p.layout == Layout::number || (p.layout == Layout::full && is_one_run(p.in, term.cols));
  return all;
}
inline bool is_one_run(const LatentTerm& term) {
  bool all = is_one_run(term.weights, term.cols);
  for (const Source& s : term.inputs) all &= !s.data || is_one_run(s, term.cols);
  return all;
}

}  // namespace vk
