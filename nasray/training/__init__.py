"""Training: the loop, the supernet, and the evaluation of its sub-networks."""
