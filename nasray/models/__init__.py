"""Networks with weights: elastic layers, the supernet, and the plain networks extracted from it."""
