"""The data plane: one share-nothing process per core. `python -m serving.worker`."""
