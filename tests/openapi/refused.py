"""What a gateway with its default settings refuses, whatever is asked."""

# Without the operator's leave clients load nothing and share no memory.
REFUSED = ("model_load", "model_unload", "system_memory_register", "cuda_memory_register")
NOT_SERVED = ("v1_explain", "v1_classify", "v1_regress")


def never_granted(operation: str) -> bool:
    """There is one repository, and it has no name; and no region is registered."""
    return operation.startswith((*REFUSED, *NOT_SERVED)) or operation.endswith(
        ("of_repository", "of_region")
    )
