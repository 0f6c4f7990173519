"""Parts of the circuit analyses."""
