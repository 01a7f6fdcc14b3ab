"""float16 and bfloat16: which nodes compute in it, the edit of the graph, and the baseline that it is judged by."""
