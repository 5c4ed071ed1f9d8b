"""What the control plane keeps on disk: commands, desired state, audit."""
