"""Examples -> weights: one loop for every network."""
