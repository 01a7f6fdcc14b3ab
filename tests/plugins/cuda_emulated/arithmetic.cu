// CUDA's own functions, one by one, for comparison with what CUDA's documentation says of them.
#include "cuda/memory/device.cuh"

namespace {

using Word = unsigned (*)(unsigned a, unsigned b, unsigned c);

struct Named {
  const char* name;
  Word run;
};

float f(unsigned bits) { return __uint_as_float(bits); }

#define WORD(name, result)                                                                            \
  {#name, []([[maybe_unused]] unsigned a, [[maybe_unused]] unsigned b, [[maybe_unused]] unsigned c) { \
     return unsigned(result);                                                                         \
   }}
#define PAIR(name) WORD(name, name(a, b))

const Named kWords[] = {
    PAIR(__vadd4),
    PAIR(__vsub4),
    PAIR(__vaddss4),
    PAIR(__vsubss4),
    PAIR(__vmaxs4),
    PAIR(__vmins4),
    PAIR(__vmaxu4),
    PAIR(__vminu4),
    PAIR(__vabsdiffs4),
    PAIR(__vabsdiffu4),
    PAIR(__vcmpeq4),
    PAIR(__vcmpgts4),
    PAIR(__vcmplts4),
    PAIR(__vsads4),
    PAIR(__vsadu4),
    PAIR(__umulhi),
    WORD(__mulhi, __mulhi(int(a), int(b))),
    WORD(__dp4a_signed, __dp4a(int(a), int(b), int(c))),
    WORD(__dp4a_unsigned, __dp4a(a, b, c)),
    WORD(__byte_perm, __byte_perm(a, b, c)),
    WORD(__funnelshift_l, __funnelshift_l(a, b, c)),
    WORD(__funnelshift_r, __funnelshift_r(a, b, c)),
    WORD(__popc, __popc(a)),
    WORD(__clz, __clz(int(a))),
    WORD(__ffs, __ffs(int(a))),
    WORD(__float2int_rn, __float2int_rn(f(a))),
    WORD(__float2int_rz, __float2int_rz(f(a))),
    WORD(__fmul_rn, __float_as_uint(__fmul_rn(f(a), f(b)))),
    WORD(__fadd_rn, __float_as_uint(__fadd_rn(f(a), f(b)))),
    WORD(__fdiv_rn, __float_as_uint(__fdiv_rn(f(a), f(b)))),
    WORD(__fmaf_rn, __float_as_uint(__fmaf_rn(f(a), f(b), f(c)))),
    WORD(half, __half_as_ushort(__float2half_rn(f(a)))),
    WORD(bfloat16, __bfloat16_as_ushort(__float2bfloat16_rn(f(a)))),
};

// Each lane's value by a shuffle of the given kind.
__global__ void shuffle(int kind, int argument, int width, const int* x, int* y) {
  int t = int(threadIdx.x);
  switch (kind) {
    case 0: y[t] = __shfl_sync(~0u, x[t], argument, width); break;
    case 1: y[t] = __shfl_xor_sync(~0u, x[t], argument, width); break;
    case 2: y[t] = __shfl_up_sync(~0u, x[t], unsigned(argument), width); break;
    case 3: y[t] = __shfl_down_sync(~0u, x[t], unsigned(argument), width); break;
    case 4: y[t] = int(__ballot_sync(~0u, x[t])); break;
    case 5: y[t] = __any_sync(~0u, x[t]); break;
    default: y[t] = __all_sync(~0u, x[t]);
  }
}

}  // namespace

extern "C" {

// Applies a function to `count` triples; 0 if there is none of that name.
int nx_words(const char* name, int count, const unsigned* a, const unsigned* b, const unsigned* c, unsigned* out) {
  for (const Named& each : kWords) {
    if (strcmp(each.name, name)) continue;
    for (int i = 0; i < count; ++i) out[i] = each.run(a[i], b[i], c[i]);
    return 1;
  }
  return 0;
}

int nx_shuffle(int kind, int argument, int width, const int* x, int* y) {
  return int(nx::launch({dim3(1), dim3(32)}, shuffle, kind, argument, width, x, y));
}

}  // extern "C"
