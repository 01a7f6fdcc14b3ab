/* The live norms as plain functions over pointers. No framework, no C++ in the interface.
 *
 *   y = scale * d / (statistic + epsilon) + bias,  d = x - mean
 *
 * mean and statistic are those of the tensor at hand: per channel over batch and space, or per sample and channel
 * over space where `instance`, or per sample and group of channels over these and space where `num_groups`. n is the
 * number of elements reduced, C(n) = (1 + sqrt(pi ln 4)) / sqrt(8 ln max(n, 2)):
 *
 *   L1     sqrt(pi/2) * mean |d|
 *   Linf   C(n) * max |d|
 *   Top-k  C(n) * mean of the k largest |d|
 *   Range  0.35 C(L) * (mean over chunks of max d - mean over chunks of min d); the channel's elements, in the order
 *          of batch and then space, cut into m = ceil(n/L) chunks of L = max(2, ceil(n/chunks)), the last one shorter
 *   L2     sqrt(mean d^2)
 *
 * `correction` 0 is the factor above, any other value replaces it. n = 1 and constant channels give bias, a NaN or
 * an infinity makes its channel NaN, an empty tensor gives an empty result.
 *
 * int8 (the operators whose names start with Q). scale, bias and epsilon are float32 in units of the quantised
 * tensors: scale/s_y, bias/s_y + z_y, epsilon/s_x; the zero point of x leaves with the mean. Every byte is defined:
 *   S = sum q;  p = rint(S/n);  e = n*p - S  (exact integers);  |q - mean| = |(q - p) + e/n|
 *   statistic, float64:  (A + B/n) / count, A and B exact integers:
 *     L1 A = sum |q-p|, B = e*(#{q>p} - #{q<p}) + |e|*#{q=p}, count n;   Linf, Top-k: the largest |q - mean| by
 *     exact comparison, each giving A += |q-p|, B += e or -e, count 1 or k;  Range A = sum (max - min), B = 0, count m;
 *     L2 sqrt((sum (q-p)^2 - (e*e)/n) / n) in float64
 *   a = scale / (float32(factor) * float32(statistic) + epsilon)            float32, each operation rounded
 *   y = round_half_even(clamp(((q - p) + float32(e/n)) * a + bias, -128, 127))  float32, each operation rounded, no
 * FMA; NaN gives 0
 */
#ifndef NORMEXPORT_KERNELS_H
#define NORMEXPORT_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define NX_API __attribute__((visibility("default")))
#else
#define NX_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Raised when a struct, an enumerator or a signature changes. */
#define NX_ABI_VERSION 2

typedef enum NxKind { NX_L1 = 0, NX_LINF = 1, NX_TOPK = 2, NX_RANGE = 3, NX_L2 = 4 } NxKind;

/* Of x and y. scale and bias are float32; float64 for NX_FLOAT64, which the CPU alone has. */
typedef enum NxType { NX_FLOAT32 = 0, NX_FLOAT16 = 1, NX_BFLOAT16 = 2, NX_INT8 = 3, NX_FLOAT64 = 4 } NxType;

/* Where element (n, c, p) of (batch, channels, space) lies: ((n*Cb + c/v)*space + p)*v + c%v, Cb = ceil(C/v).
 * v = 1 for LINEAR, 2, 4, 32 for CHWv, C for HWC, C rounded up to 8 or 16 for HWC8 and HWC16. Lanes beyond the last
 * channel are padding: never read into a statistic, always written zero. */
typedef enum NxLayout {
  NX_LINEAR = 0,
  NX_CHW2 = 1,
  NX_CHW4 = 2,
  NX_CHW32 = 3,
  NX_HWC = 4,
  NX_HWC8 = 5,
  NX_HWC16 = 6
} NxLayout;

typedef enum NxStatus {
  NX_OK = 0,
  NX_BAD_ARGUMENT = 1, /* a null pointer, a negative size, an unknown enumerator */
  NX_BAD_K = 2,        /* Top-k: k < 1 or k > n */
  NX_BAD_CHUNKS = 3,   /* Range: chunks < 1 */
  NX_UNSUPPORTED = 4,  /* this back end lacks the type or layout */
  NX_WORKSPACE = 5,    /* the workspace is null, too small or not aligned to 256 bytes */
  NX_TOO_LARGE = 6,    /* n >= 2^31 for int8, or more than 2^62 elements */
  NX_NO_DEVICE = 7,    /* no CUDA device, or a driver too old for this build */
  NX_LAUNCH = 8,       /* CUDA refused the launch; ask cudaGetLastError */
  NX_BAD_GROUPS = 9    /* num_groups does not divide the channels, or instance is set beside it */
} NxStatus;

typedef struct NxNorm {
  int32_t kind;     /* NxKind */
  int32_t type;     /* NxType */
  int32_t layout;   /* NxLayout */
  int32_t instance; /* 0: statistics over batch and space; 1: over space, per sample */
  int64_t batch;    /* N */
  int64_t channels; /* C */
  int64_t space;    /* product of the spatial sizes, 1 where there are none */
  int64_t x_stride; /* elements from one sample to the next of x; 0: packed */
  int64_t y_stride; /* the same of y */
  int64_t k;        /* Top-k only */
  int64_t chunks;   /* Range only */
  float epsilon;    /* added to the statistic */
  float correction; /* its factor; 0: the kind's own */
  /* 0, or into how many groups of channels that follow each other a sample is cut, each with statistics of its own.
   * `instance` is 0 then, `layout` NX_LINEAR. The CPU alone has it. */
  int64_t num_groups;
} NxNorm;

/* One task of a parallel loop; tasks of a loop are independent of each other. */
typedef void (*NxTask)(void* data, int64_t index);

/* How the CPU kernels get threads. */
typedef struct NxThreads {
  /* Calls task(data, i) for every i in [0, count), on whatever threads it has, and returns when all have returned. */
  void (*run)(void* context, int64_t count, NxTask task, void* data);
  void* context;   /* what run is called with */
  int32_t threads; /* how many it has */
} NxThreads;

NX_API int32_t nx_abi_version(void);

/* What a status means and what to do, in one line; never null, static storage. */
NX_API const char* nx_message(int32_t status);

/* NX_OK where the norm can be computed by some back end. */
NX_API int32_t nx_check(const NxNorm* norm);

/* Elements that a packed tensor of this layout holds, padding included; also the default stride times batch. */
NX_API int64_t nx_elements(const NxNorm* norm);

/* Bytes of workspace needed, 0 for none. The same norm always needs the same. */
NX_API size_t nx_cpu_workspace(const NxNorm* norm);
NX_API size_t nx_cuda_workspace(const NxNorm* norm);

/* Computes y. y may be x itself, else they must not overlap; pointers are aligned to their element.
 * workspace: at least the queried bytes, aligned to 256, contents arbitrary, free again when the work is done.
 * queue: nx_cpu_norm takes a const NxThreads*, null for the calling thread alone; nx_cuda_norm takes a cudaStream_t,
 * does not synchronise, allocates nothing and may be captured into a graph; its pointers are device pointers.
 * The result depends on the arguments alone: not on the number of threads, nor on the run. */
NX_API int32_t nx_cpu_norm(const NxNorm* norm, const void* x, const void* scale, const void* bias, void* y,
                           void* workspace, size_t workspace_bytes, const void* queue);
NX_API int32_t nx_cuda_norm(const NxNorm* norm, const void* x, const void* scale, const void* bias, void* y,
                            void* workspace, size_t workspace_bytes, void* queue);

/* Training, on the CPU: float32 and float64, statistics of channels, layout NX_LINEAR or NX_HWC, packed. All pointers
 * are of the type of x; epsilon and correction stand in place of the norm's own, which are floats. The larger results
 * are written once; what a channel's NaN or infinity makes of forward is in kernels above, and of backward NaN. */
typedef struct NxForward {
  const void* x;
  const void* scale;
  const void* bias;
  void* y;
  void* mean;  /* (C) */
  void* stat;  /* (C): with its factor, without epsilon */
  void* marks; /* (nx_cpu_marks, C), for nx_cpu_backward; null where there are none */
  double epsilon;
  double correction;
} NxForward;

/* Gradients: T = grad_stat - sum(grad_y * scale * d) / (stat + epsilon)^2 is what a larger statistic is worth, and
 *   grad_x = a*grad_y + T*slope(d) + (grad_mean - sum(a*grad_y) - T*sum(slope(d))) / n,  a = scale / (stat + epsilon)
 *   grad_scale = sum(grad_y * d) / (stat + epsilon),  grad_bias = sum(grad_y)
 * slope(d) is the derivative of the statistic; equals share evenly, and the sign of 0 is 0. */
typedef struct NxBackward {
  const void* x;
  const void* grad_y;
  const void* grad_mean; /* (C), or null for zeros */
  const void* grad_stat; /* (C), or null for zeros */
  const void* scale;
  const void* mean;  /* as forward gave it */
  const void* stat;  /* the same */
  const void* marks; /* the same */
  void* grad_x;
  void* grad_scale; /* (C) */
  void* grad_bias;  /* (C) */
  double epsilon;
  double correction;
} NxBackward;

/* Values a channel that backward needs of forward beside mean and stat: 0; 1 for the largest or k-th largest |d|; for
 * Range the largest and the smallest d of every chunk. */
NX_API int64_t nx_cpu_marks(const NxNorm* norm);

/* Bytes of workspace that nx_cpu_forward and nx_cpu_backward need. */
NX_API size_t nx_cpu_training_workspace(const NxNorm* norm);

/* Workspace, queue and what results depend on are those of nx_cpu_norm. Tensors must not overlap. */
NX_API int32_t nx_cpu_forward(const NxNorm* norm, const NxForward* tensors, void* workspace, size_t workspace_bytes,
                              const void* queue);
NX_API int32_t nx_cpu_backward(const NxNorm* norm, const NxBackward* tensors, void* workspace, size_t workspace_bytes,
                               const void* queue);

/* The instruction set the CPU kernels chose: "AVX3_DL", "AVX3", "AVX2" or "SSE2" (the baseline of the build).
 * The environment variable NORMEXPORT_CPU names a lower one. */
NX_API const char* nx_cpu_target(void);

#ifdef __cplusplus
}
#endif
#endif
