"""What is known about an artifact: plain data without I/O.

``None`` always means "the artifact does not say"; a reader never fills in a framework's default.
"""
