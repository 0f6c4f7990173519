"""The retrieval scan in parts: its work and its views."""
