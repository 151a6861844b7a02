"""``[tool.bn-audit]``: where settings are found, which keys there are, and what their values mean."""
