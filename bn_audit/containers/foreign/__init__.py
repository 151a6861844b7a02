"""What a file is that no format reads."""
