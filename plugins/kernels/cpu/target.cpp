// The vectorised kernels, compiled once per instruction set. CMake defines NX_TARGET, the name of the set.
#define HWY_COMPILE_ONLY_STATIC
#include "byte_apply-inl.h"
#include "byte_second-inl.h"
#include "float_apply-inl.h"
#include "float_first-inl.h"
#include "float_second-inl.h"
#include "training_backward-inl.h"

#if defined(NX_EXPECTED) && HWY_TARGET != NX_EXPECTED
#error "the compiler flags do not enable the instruction set that this file is meant for"
#endif

#define NX_JOIN_(a, b) a##b
#define NX_JOIN(a, b) NX_JOIN_(a, b)
#define NX_TEXT_(a) #a
#define NX_TEXT(a) NX_TEXT_(a)

HWY_BEFORE_NAMESPACE();
namespace nx::cpu {
namespace {

template <class T>
constexpr FloatTable kFloats = {float_first<T>, float_second<T>, float_apply<T>, float_each<T>};

template <class T>
constexpr TrainingTable kTraining = {training_first<T>, training_second<T>, training_apply<T>,
                                     training_gradient_sums<T>, training_gradient<T>};

}  // namespace

extern const Kernels NX_JOIN(kernels_, NX_TARGET);
const Kernels NX_JOIN(kernels_, NX_TARGET) = {
    NX_TEXT(NX_TARGET),       kFloats<float>,    kFloats<hwy::float16_t>,
    kFloats<hwy::bfloat16_t>, kFloats<double>,   {byte_first, byte_second, byte_apply, byte_each},
    kTraining<float>,         kTraining<double>,
};

}  // namespace nx::cpu
HWY_AFTER_NAMESPACE();
