"""The reader of TorchScript archives."""
