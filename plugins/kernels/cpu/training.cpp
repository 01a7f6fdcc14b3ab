// nx_cpu_forward and nx_cpu_backward: checks, and the step that the element type calls for.
#include <algorithm>
#include <initializer_list>

#include "training_backward_step.h"
#include "training_forward_step.h"

namespace nx::cpu {
namespace {

// What training takes: statistics of channels, packed.
int32_t check(const NxNorm* norm) {
  if (int32_t status = nx_check(norm)) return status;
  if (norm->layout != NX_LINEAR && norm->layout != NX_HWC) return NX_UNSUPPORTED;
  if (norm->type != NX_FLOAT32 && norm->type != NX_FLOAT64) return NX_UNSUPPORTED;
  if (norm->instance || norm->num_groups || norm->x_stride || norm->y_stride) return NX_UNSUPPORTED;
  return NX_OK;
}

size_t workspace(const NxNorm& norm) {
  return norm.type == NX_FLOAT32 ? TrainingStep<float>::workspace(norm) : TrainingStep<double>::workspace(norm);
}

int32_t check_workspace(const NxNorm& norm, const void* workspace_, size_t bytes) {
  const bool good = workspace_ && bytes >= workspace(norm) && reinterpret_cast<uintptr_t>(workspace_) % 256 == 0;
  return good ? NX_OK : NX_WORKSPACE;
}

bool any_null(std::initializer_list<const void*> pointers) {
  return std::find(pointers.begin(), pointers.end(), nullptr) != pointers.end();
}

const NxThreads* usable(const void* queue) {
  const auto* threads = static_cast<const NxThreads*>(queue);
  return threads && threads->run && threads->threads > 1 ? threads : nullptr;
}

// One pass over tensors of the type at hand: Step<float> or Step<double>.
template <template <class> class Step, class Tensors>
void run(const NxNorm& norm, const Tensors& tensors, void* workspace, const void* queue) {
  if (norm.type == NX_FLOAT32)
    Step<float>(norm, tensors, kernels().training32, workspace, usable(queue)).run();
  else
    Step<double>(norm, tensors, kernels().training64, workspace, usable(queue)).run();
}

}  // namespace
}  // namespace nx::cpu

extern "C" {

int64_t nx_cpu_marks(const NxNorm* norm) {
  return nx::cpu::check(norm) != NX_OK || nx::is_empty(*norm) ? 0 : nx::cpu::marks(*norm);
}

size_t nx_cpu_training_workspace(const NxNorm* norm) {
  return nx::cpu::check(norm) != NX_OK || nx::is_empty(*norm) ? 0 : nx::cpu::workspace(*norm);
}

int32_t nx_cpu_forward(const NxNorm* norm, const NxForward* tensors, void* workspace, size_t workspace_bytes,
                       const void* queue) {
  if (int32_t status = nx::cpu::check(norm)) return status;
  if (nx::is_empty(*norm)) return NX_OK;
  if (!tensors) return NX_BAD_ARGUMENT;
  const NxForward& t = *tensors;
  if (nx::cpu::any_null({t.x, t.scale, t.bias, t.y, t.mean, t.stat})) return NX_BAD_ARGUMENT;
  if (nx::cpu::marks(*norm) && !t.marks) return NX_BAD_ARGUMENT;
  if (int32_t status = nx::cpu::check_workspace(*norm, workspace, workspace_bytes)) return status;
  nx::cpu::run<nx::cpu::ForwardStep>(*norm, t, workspace, queue);
  return NX_OK;
}

int32_t nx_cpu_backward(const NxNorm* norm, const NxBackward* tensors, void* workspace, size_t workspace_bytes,
                        const void* queue) {
  if (int32_t status = nx::cpu::check(norm)) return status;
  if (nx::is_empty(*norm)) return NX_OK;
  if (!tensors) return NX_BAD_ARGUMENT;
  const NxBackward& t = *tensors;
  if (nx::cpu::any_null({t.x, t.grad_y, t.scale, t.mean, t.stat, t.grad_x, t.grad_scale, t.grad_bias}))
    return NX_BAD_ARGUMENT;
  if (nx::cpu::marks(*norm) && !t.marks) return NX_BAD_ARGUMENT;
  if (int32_t status = nx::cpu::check_workspace(*norm, workspace, workspace_bytes)) return status;
  nx::cpu::run<nx::cpu::BackwardStep>(*norm, t, workspace, queue);
  return NX_OK;
}

}  // extern "C"
