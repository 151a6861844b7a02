"""What the other samples of a batch, a sample's place in it and its size do to the answer."""
