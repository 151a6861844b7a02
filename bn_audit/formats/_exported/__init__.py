"""The reader of exported programs."""
