"""ONNX graphs in memory: what a node is called and reads, fresh names, shapes, and which module made what."""
