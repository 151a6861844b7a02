"""Every norm layer of one artifact with its numbers: to look at, or to export to another framework or to C."""
