// The functions of recurrent networks as custom calls.
#include "call.h"
#include "cell.h"
#include "cell_backward.h"
#include "cell_tangent.h"
#include "dropped.h"
#include "highway.h"

namespace {

// Sizes of the highway functions' second operand [P, …].
Index predecessors(const Call& call) { return call.shape(1)[0]; }
Index length(const Call& call) { return row_length(call.shape(1)); }

void mixed_highway(Call& call) {
  jdarts::mixed_highway<T>(predecessors(call), length(call), call.read(0), call.read(1), call.read(2), call.read(3),
                           call.written(0), call.pool);
}

void mixed_highway_backward(Call& call) {
  jdarts::mixed_highway_backward<T>(predecessors(call), length(call), call.read(0), call.read(1), call.read(2),
                                    call.read(3), call.read(4), call.written(0), call.written(1), call.written(2),
                                    call.written(3), call.pool);
}

void mixed_highway_second(Call& call) {
  jdarts::mixed_highway_second<T>(predecessors(call), length(call), call.read(0), call.read(1), call.read(2), call.read(3),
                                  call.read(4), call.read(5), call.read(6), call.read(7), call.read(8), call.written(0),
                                  call.written(1), call.written(2), call.written(3), call.written(4), call.pool);
}

// The first operands of the cell's functions: mixture, recurrent, matrices, projected, hidden, mask, length.
jdarts::Cell cell_of(const Call& call) {
  const Shape matrices = call.shape(2), projected = call.shape(3);
  const Index length = call.read<int32_t>(6)[0];
  const Integers concat = call.integers("concat");
  return {Index(projected[0]), Index(projected[1]), Index(projected[2]) / 2, Index(matrices[0]),
          length, concat.begin(), Index(concat.size())};
}

// The arguments that derivatives reach from operand n on: mixture, recurrent, matrices, projected, hidden.
jdarts::CellInputs<T> cell_inputs(const Call& call, Index n = 0) {
  return {call.read(n), call.read(n + 1), call.read(n + 2), call.read(n + 3), call.read(n + 4), call.read(5)};
}

// Residuals, from operand n on: states, products, scales.
jdarts::CellKept<T, const T> cell_kept(const Call& call, Index n) {
  return {call.read(n), call.read(n + 1), call.read(n + 2)};
}

// Cotangents of outputs, last, means and variances, from operand n on.
jdarts::CellCotangents<T> cell_cotangents(const Call& call, Index n) {
  return {call.read(n), call.read(n + 1), call.read(n + 2), call.read(n + 3)};
}

// Results: cotangents of mixture, projected and hidden; if needed, of recurrent and matrices; if needed, of the normalised
// states.
jdarts::CellGradients<T> cell_gradients(const Call& call) {
  jdarts::CellGradients<T> to = {call.written(0), call.written(1), call.written(2)};
  if (call.num_results() > 4) to.recurrent = call.written(3), to.matrices = call.written(4);
  if (call.num_results() % 2 == 0) to.states = call.written(call.num_results() - 1);
  return to;
}

// Results: outputs, last, means, variances, and residuals.
void search_cell(Call& call) {
  const jdarts::CellKept<T> kept = {call.written(4), call.written(5), call.written(6)};
  jdarts::search_cell<T>(cell_of(call), cell_inputs(call), call.written(0), call.written(1), call.written(2),
                         call.written(3), kept, call.pool);
}

// Further operands: outputs, residuals, cotangents.
void search_cell_backward(Call& call) {
  jdarts::search_cell_backward<T>(cell_of(call), cell_inputs(call), call.read(7), cell_kept(call, 8),
                                  cell_cotangents(call, 11), cell_gradients(call), call.pool);
}

// Further operands: outputs, residuals, tangents of the arguments. Results: tangents of the results of `search_cell`.
void search_cell_tangent(Call& call) {
  const jdarts::CellKept<T> kept = {call.written(4), call.written(5), call.written(6)};
  jdarts::search_cell_tangent<T>(cell_of(call), cell_inputs(call), call.read(7), cell_kept(call, 8), cell_inputs(call, 11),
                                 call.written(0), call.written(1), call.written(2), call.written(3), kept, call.pool);
}

// Further operands than those of `search_cell_backward`: its cotangents of the normalised states; tangents of the arguments,
// outputs, residuals, and cotangents. Results: tangents of its results except the normalised states.
void search_cell_backward_tangent(Call& call) {
  const jdarts::CellPass<T> pass = {cell_inputs(call), call.read(7), cell_kept(call, 8), cell_cotangents(call, 11)};
  const jdarts::CellPass<T> tangents = {cell_inputs(call, 16), call.read(21), cell_kept(call, 22),
                                        cell_cotangents(call, 25)};
  jdarts::search_cell_backward_tangent<T>(cell_of(call), pass, call.read(15), tangents, cell_gradients(call), call.pool);
}

// From x or y [T, B, H], the mask [B, H] and q or the result [T, B, V].
jdarts::Streams streams(Shape narrow, Shape wide) {
  return {Index(narrow[0]), Index(narrow[1]), Index(narrow[2]), Index(wide[2])};
}

// Operands: x, matrix, mask.
void dropped_product(Call& call) {
  jdarts::dropped_product<T>(streams(call.shape(0), call.result_shape(0)), call.read(0), call.read(2), call.read(1),
                             call.written(0), call.pool);
}

// Operands: q, matrix, mask.
void dropped_pull(Call& call) {
  jdarts::dropped_pull<T>(streams(call.result_shape(0), call.shape(0)), call.read(0), call.read(2), call.read(1),
                          call.written(0), call.pool);
}

// Operands: q, x, mask.
void dropped_outer(Call& call) {
  jdarts::dropped_outer<T>(streams(call.shape(1), call.shape(0)), call.read(0), call.read(1), call.read(2),
                           call.written(0), call.pool);
}

// Operands: logits, bias, targets. Results: losses, probabilities.
void word_losses(Call& call) {
  jdarts::word_losses<T>(call.operand(2).element_count(), call.shape(1)[0], call.read(0), call.read(1),
                         call.read<int32_t>(2), call.written(0), call.written(1), call.pool);
}

// Operands: logits, bias, probabilities, targets. Results: tangents of losses and of probabilities.
void word_losses_tangent(Call& call) {
  jdarts::word_losses_tangent<T>(call.operand(3).element_count(), call.shape(1)[0], call.read(0), call.read(1),
                                 call.read(2), call.read<int32_t>(3), call.written(0), call.written(1), call.pool);
}

// Operands: probabilities, cotangents, targets. Results: cotangents of logits and of the bias.
void word_losses_pull(Call& call) {
  jdarts::word_losses_pull<T>(call.operand(2).element_count(), call.result_shape(1)[0], call.read(0), call.read<int32_t>(2),
                              call.read(1), call.written(0), call.written(1), call.pool);
}

}  // namespace

JDARTS_EXPORT(mixed_highway);
JDARTS_EXPORT(mixed_highway_backward);
JDARTS_EXPORT(mixed_highway_second);
JDARTS_EXPORT(search_cell);
JDARTS_EXPORT(search_cell_backward);
JDARTS_EXPORT(search_cell_tangent);
JDARTS_EXPORT(search_cell_backward_tangent);
JDARTS_EXPORT(dropped_product);
JDARTS_EXPORT(dropped_pull);
JDARTS_EXPORT(dropped_outer);
JDARTS_EXPORT(word_losses);
JDARTS_EXPORT(word_losses_tangent);
JDARTS_EXPORT(word_losses_pull);
