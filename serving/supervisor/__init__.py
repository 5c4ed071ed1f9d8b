"""The control plane: one process per state directory."""
