"""Differentiable search: relaxed networks, bilevel optimisation, expected costs and derivation."""
