"""From an ONNX file to what a registry stores: signature, golden samples, reference.

Used by `driftgate model push` and by the demo. ONNX Runtime is imported inside
functions, so that the command line starts quickly.
"""
