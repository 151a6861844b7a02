"""ONNX graphs as the audit sees them: what each node means for batch norms."""
