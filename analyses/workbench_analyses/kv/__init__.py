"""Parts of the simulation of cache policies."""
