"""How the keys of a weights file fit the model."""
