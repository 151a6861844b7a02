"""From plain values to normalisation layers: what is a norm layer, and what does it say about its mode."""
