"""What a user calls on a running module: a guard around inference, and layers that stay frozen."""
