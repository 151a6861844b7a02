"""The ONNX operators as declarations over the algebra of the batch flow."""
