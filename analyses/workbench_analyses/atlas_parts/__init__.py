"""Parts of the head atlas: what is read, how it becomes scores, how it is shown."""
