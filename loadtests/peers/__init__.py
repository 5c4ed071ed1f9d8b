"""Other servers of the same model, each started from an environment of its own."""
