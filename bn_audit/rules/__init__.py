"""Rules: one file per rule, each with RULE, in folders by family."""
