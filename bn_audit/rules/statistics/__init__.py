"""Parameters, running statistics and counters."""
