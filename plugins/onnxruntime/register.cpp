// The entry point that ONNX Runtime calls when a session registers this library.

#include <map>
#include <mutex>

#include "norm_op.h"
#include "status.h"

namespace nxort {
namespace {

constexpr const char* kDomain = "normexport";

// Sessions keep pointers to the domain, so it stays for good; one for each ONNX Runtime in the process.
OrtCustomOpDomain* domain_of(const OrtApi& api) {
  static std::mutex mutex;
  static auto* domains = new std::map<const OrtApi*, OrtCustomOpDomain*>;
  std::lock_guard<std::mutex> lock(mutex);
  OrtCustomOpDomain*& domain = (*domains)[&api];
  if (domain) return domain;
  OrtCustomOpDomain* made = nullptr;
  check(api, api.CreateCustomOpDomain(kDomain, &made));
  for (const NormOp& op : norm_ops(api)) check(api, api.CustomOpDomain_Add(made, &op));
  return domain = made;
}

// An ONNX Runtime that is too old has no API of our version. Returning null then would mean success, so the error is
// made through an older one: CreateStatus is the first function of every version.
OrtStatus* too_old(const OrtApiBase& base) {
  std::string words = "normexport: this library needs ONNX Runtime 1." + std::to_string(ORT_API_VERSION) +
                      " or later, this is " + base.GetVersionString() + "; run: pip install -U onnxruntime";
  for (uint32_t version = ORT_API_VERSION - 1; version > 0; --version)
    if (const OrtApi* api = base.GetApi(version)) return api->CreateStatus(ORT_FAIL, words.c_str());
  std::terminate();
}

}  // namespace
}  // namespace nxort

extern "C" NX_API OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
  const OrtApi* api = base->GetApi(ORT_API_VERSION);
  if (!api) return nxort::too_old(*base);
  return nxort::guarded(*api, [&] { nxort::check(*api, api->AddCustomOpDomain(options, nxort::domain_of(*api))); });
}
