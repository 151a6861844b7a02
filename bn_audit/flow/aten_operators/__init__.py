"""What ATen's operators do to the samples of a batch."""
