// The leaves of pytrees as one vector, and back, as custom calls.
#include "leaves.h"

#include <vector>

#include "call.h"

namespace {

// The memory and the row size of an array of `rows` rows.
jdarts::Part part_of(const ffi::AnyBuffer& buffer, Index rows) {
  return {static_cast<char*>(buffer.untyped_data()), rows ? Index(buffer.size_bytes()) / rows : 0};
}

void join(Call& call) {
  const Index rows = call.integer("rows");
  std::vector<jdarts::Part> parts;
  for (Index n = 0; n < call.num_operands(); ++n) parts.push_back(part_of(call.operand(n), rows));
  jdarts::join(parts, static_cast<char*>(call.result(0).untyped_data()), rows, false, call.pool);
}

void part(Call& call) {
  const Index rows = call.integer("rows");
  std::vector<jdarts::Part> parts;
  for (Index n = 0; n < call.num_results(); ++n) parts.push_back(part_of(call.result(n), rows));
  jdarts::join(parts, static_cast<char*>(call.operand(0).untyped_data()), rows, true, call.pool);
}

}  // namespace

JDARTS_EXPORT(join);
JDARTS_EXPORT(part);
