"""Puts this folder on the import path, so that the tests below it find the zoo when they are run alone."""

from __future__ import annotations

import os

# Several workers share the cores: with as many threads each, all of them get slower.
os.environ.setdefault("OMP_NUM_THREADS", "1")
