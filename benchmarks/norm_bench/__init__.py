"""Parts of `benchmarks/norms.py`: what is timed (cases, candidates), how (interleave, cuda_graphs), how it is shown."""
