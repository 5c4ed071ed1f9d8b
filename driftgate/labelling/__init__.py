"""Labels from a file to a gateway."""
