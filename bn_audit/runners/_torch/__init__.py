"""What the runners of torch modules, TorchScript and exported programs share; imported only when a model is opened."""
