"""The reader of live modules."""
