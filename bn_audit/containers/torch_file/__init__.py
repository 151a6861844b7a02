"""Files written by torch.save and its like, as inert values and tensors that are read on demand."""
