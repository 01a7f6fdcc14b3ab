// nx_cpu_norm: checks, and the method and the table that the element type calls for.
#include "byte_method.h"
#include "driver.h"
#include "float_method.h"

namespace nx::cpu {
namespace {

// The arguments of nx_cpu_norm, checked.
struct Call {
  const NxNorm& norm;        // what to compute
  const void* x;             // [batch][channels][space]
  const void* scale;         // [channel]
  const void* bias;          // [channel]
  void* y;                   // as x
  void* workspace;           // as much as nx_cpu_workspace says
  const NxThreads* threads;  // null: the calling thread alone
};

template <class Method, class Table>
void run(const Call& call, const Table& table) {
  const Geometry geometry(call.norm);
  const Method method(call.norm, geometry, table, call.scale, call.bias);
  Driver<Method>(method, call.norm, geometry, call.x, call.y, call.workspace, call.threads).run();
}

void run(const Call& call) {
  const Kernels& table = kernels();
  switch (call.norm.type) {
    case NX_FLOAT32: return run<FloatMethod<float>>(call, table.float32);
    case NX_FLOAT16: return run<FloatMethod<float>>(call, table.float16);
    case NX_BFLOAT16: return run<FloatMethod<float>>(call, table.bfloat16);
    case NX_FLOAT64: return run<FloatMethod<double>>(call, table.float64);
    default: return run<ByteMethod>(call, table.int8);
  }
}

size_t workspace(const NxNorm& norm) {
  const Geometry geometry(norm);
  if (norm.type == NX_INT8) return Driver<ByteMethod>::workspace(norm, geometry);
  if (norm.type == NX_FLOAT64) return Driver<FloatMethod<double>>::workspace(norm, geometry);
  return Driver<FloatMethod<float>>::workspace(norm, geometry);
}

bool usable(const NxThreads* threads) { return threads && threads->run && threads->threads > 1; }

}  // namespace
}  // namespace nx::cpu

extern "C" {

size_t nx_cpu_workspace(const NxNorm* norm) {
  if (nx_check(norm) != NX_OK || norm->layout != NX_LINEAR || nx::is_empty(*norm)) return 0;
  return nx::cpu::workspace(*norm);
}

int32_t nx_cpu_norm(const NxNorm* norm, const void* x, const void* scale, const void* bias, void* y, void* workspace,
                    size_t workspace_bytes, const void* queue) {
  if (int32_t status = nx_check(norm)) return status;
  if (norm->layout != NX_LINEAR) return NX_UNSUPPORTED;
  if (nx::is_empty(*norm)) return NX_OK;
  if (!x || !scale || !bias || !y) return NX_BAD_ARGUMENT;
  const size_t needed = nx_cpu_workspace(norm);
  if (needed && (!workspace || workspace_bytes < needed || reinterpret_cast<uintptr_t>(workspace) % 256))
    return NX_WORKSPACE;
  const auto* threads = static_cast<const NxThreads*>(queue);
  nx::cpu::run({*norm, x, scale, bias, y, workspace, nx::cpu::usable(threads) ? threads : nullptr});
  return NX_OK;
}

}  // extern "C"
