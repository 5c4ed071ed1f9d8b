"""gRPC over libnghttp2, in the worker's own event loop."""
