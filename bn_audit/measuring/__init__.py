"""Running a model: the child process, the order of the measurements, and what the figures mean."""
