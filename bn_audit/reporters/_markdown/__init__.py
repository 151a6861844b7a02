"""The comment, and the Markdown that no name can break."""
