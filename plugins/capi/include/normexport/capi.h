/* What libnormexport_kernels.so has beside kernels.h: threads for callers that bring none of their own. */
#ifndef NORMEXPORT_CAPI_H
#define NORMEXPORT_CAPI_H

#include "normexport/kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* sizeof(NxNorm) of this build: a binding in another language compares it with its own. */
NX_API size_t nx_norm_size(void);

typedef struct NxPool NxPool;

/* A pool that computes on `threads` threads, the caller's included: threads - 1 are started here and kept. Idle ones
 * sleep. Null where threads < 1 or the system refuses. Several callers may use one pool; their loops take turns. */
NX_API NxPool* nx_pool_create(int32_t threads);

/* What nx_cpu_norm takes as its queue; lives as long as the pool. */
NX_API const NxThreads* nx_pool_threads(const NxPool* pool);

/* Ends the pool's threads. No loop may be running. Null is allowed. */
NX_API void nx_pool_destroy(NxPool* pool);

typedef struct NxTeam NxTeam;

/* The threads of an OpenMP that the program runs already, by the address of its function GOMP_parallel: no threads
 * are started beside them. Null where that is null, threads < 1, or there is no memory. */
NX_API NxTeam* nx_team_create(void* gomp_parallel, int32_t threads);

/* As nx_pool_threads. */
NX_API const NxThreads* nx_team_threads(const NxTeam* team);

/* No loop may be running. Null is allowed. */
NX_API void nx_team_destroy(NxTeam* team);

#ifdef __cplusplus
}
#endif
#endif
