"""Small networks of every shape that the audit must read, and what torch itself says about them."""
