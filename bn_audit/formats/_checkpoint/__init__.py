"""The reader of checkpoints written by torch.save or pickle."""
