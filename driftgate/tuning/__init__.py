"""What a model can take on this machine, and the settings that suit it.

`target` finds the model's bytes, `sweep` runs it, `words` prints; what is recommended
is decided in `serving.core.tuning`.
"""
