// One node of a session: its attributes, read once, and what it does on every run.
#pragma once

#include <string>
#include <vector>

#include "norm_op.h"
#include "pool.h"

namespace nxort {

class NormKernel {
 public:
  // Reads epsilon, correction, k and chunks. Throws Failure where they make no sense for any input.
  NormKernel(const NormOp& op, const OrtApi& api, const OrtKernelInfo& info);
  ~NormKernel();
  NormKernel(const NormKernel&) = delete;
  NormKernel& operator=(const NormKernel&) = delete;

  // Inputs X (N, C, *), scale (C), bias (C); output Y like X. Throws Failure.
  void compute(OrtKernelContext& context) const;

  const OrtApi& api() const { return api_; }

 private:
  struct Tensor {
    void* data;                  // the first element
    std::vector<int64_t> shape;  // (N, C, *space), or (C)
  };

  [[noreturn]] void fail(const std::string& cause) const;
  void require(int32_t status) const;
  float float_attribute(const OrtKernelInfo& info, const char* name, float otherwise) const;
  int64_t integer_attribute(const OrtKernelInfo& info, const char* name, int64_t otherwise) const;
  Tensor input(const OrtKernelContext& context, size_t index) const;
  NxNorm shaped(const std::vector<int64_t>& x) const;
  const void* parameter(const Tensor& given, std::vector<double>& room) const;
  void run_cpu(OrtKernelContext& context, const NxNorm& norm, const Tensor& x, const Tensor& scale, const Tensor& bias,
               void* y) const;
  void run_cuda(OrtKernelContext& context, const NxNorm& norm, const Tensor& x, const Tensor& scale, const Tensor& bias,
                void* y) const;

  const NormOp& op_;
  const OrtApi& api_;
  std::string node_;
  NxNorm norm_{};  // all but the sizes
  OrtAllocator* allocator_ = nullptr;
  mutable PoolSize pool_size_;
};

}  // namespace nxort
