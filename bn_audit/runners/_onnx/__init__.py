"""ONNX models that are run: loaded without their weights, rewritten in memory, given to a backend."""
