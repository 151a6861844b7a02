"""Running models: one process for each, the experiments in order, their figures judged."""
