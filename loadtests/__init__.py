"""Load, peers and benchmark results: everything here speaks only the wire."""
