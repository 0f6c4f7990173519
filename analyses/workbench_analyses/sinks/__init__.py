"""The sink scan in parts: its work and its views."""
