"""ONNX models as records: the messages of onnx.proto, with tensors left in the file."""
