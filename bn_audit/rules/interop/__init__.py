"""Rules about what other frameworks call and do otherwise."""
