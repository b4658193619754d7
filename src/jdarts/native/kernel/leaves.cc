// The leaves of pytrees as one vector, and back, as custom calls.
#include "leaves.h"

#include <vector>

#include "call.h"

namespace {

// One row of a matrix [lanes, n].
jdarts::Part part_of(const ffi::AnyBuffer& buffer) {
  const Index lanes = buffer.dimensions()[0];
  return {static_cast<char*>(buffer.untyped_data()), lanes ? Index(buffer.size_bytes()) / lanes : 0};
}

void join(Call& call) {
  std::vector<jdarts::Part> parts;
  for (Index n = 0; n < call.num_operands(); ++n) parts.push_back(part_of(call.operand(n)));
  const ffi::AnyBuffer out = call.result(0);
  jdarts::join(parts, static_cast<char*>(out.untyped_data()), out.dimensions()[0], false, call.pool);
}

void part(Call& call) {
  std::vector<jdarts::Part> parts;
  for (Index n = 0; n < call.num_results(); ++n) parts.push_back(part_of(call.result(n)));
  const ffi::AnyBuffer whole = call.operand(0);
  jdarts::join(parts, static_cast<char*>(whole.untyped_data()), whole.dimensions()[0], true, call.pool);
}

}  // namespace

JDARTS_EXPORT(join);
JDARTS_EXPORT(part);
