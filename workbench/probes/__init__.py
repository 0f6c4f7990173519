"""Probes: which statistics of a forward they need, and how these become scores of heads."""
