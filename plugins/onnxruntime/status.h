// Failures inside the callbacks: thrown as Failure, handed to ONNX Runtime as OrtStatus. Nothing else leaves.
#pragma once

#include <onnxruntime_c_api.h>

#include <exception>
#include <string>

namespace nxort {

// What went wrong, in words; the code is one of ONNX Runtime's.
class Failure : public std::exception {
 public:
  Failure(OrtErrorCode code, std::string words) : code_(code), words_(std::move(words)) {}
  const char* what() const noexcept override { return words_.c_str(); }
  OrtErrorCode code() const { return code_; }

 private:
  OrtErrorCode code_;
  std::string words_;
};

// Turns a status of ONNX Runtime's own into a Failure that says the same.
inline void check(const OrtApi& api, OrtStatus* status) {
  if (!status) return;
  Failure failure(api.GetErrorCode(status), api.GetErrorMessage(status));
  api.ReleaseStatus(status);
  throw failure;
}

// Runs `body`; what it throws becomes the status returned.
template <typename Body>
OrtStatus* guarded(const OrtApi& api, Body body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const Failure& failure) {
    return api.CreateStatus(failure.code(), failure.what());
  } catch (const std::exception& error) {
    return api.CreateStatus(ORT_FAIL, error.what());
  } catch (...) {
    return api.CreateStatus(ORT_FAIL, "normexport: unknown failure");
  }
}

}  // namespace nxort
