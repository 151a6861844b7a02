"""An interpreter of pickles that imports and executes nothing."""
