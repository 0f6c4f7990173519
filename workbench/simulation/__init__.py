"""The key-value policy simulator: exact attention over what a policy keeps, on the model under test, with its costs."""
