"""Makes the builders of this folder importable from the folders below."""
