"""The demo: a real model on real scans, drifting, rolled back and retrained.

Needs the extra `demo` (scikit-learn, skl2onnx, tritonclient).
"""
