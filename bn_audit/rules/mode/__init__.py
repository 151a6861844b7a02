"""Which mode a layer will run in."""
