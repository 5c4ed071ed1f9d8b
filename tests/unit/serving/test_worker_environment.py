"""What workers inherit, and what is added to it."""

import pytest

from serving.supervisor.process import worker_environment


@pytest.mark.parametrize(
    ("tunables", "expected"),
    [
        (None, "glibc.malloc.hugetlb=1"),
        ("", "glibc.malloc.hugetlb=1"),
        ("glibc.malloc.arena_max=2", "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1"),
        ("glibc.malloc.hugetlb=0", "glibc.malloc.hugetlb=0"),
    ],
)
def test_weights_get_huge_pages_unless_the_user_says_otherwise(tunables, expected):
    own = {"PATH": "/bin"} | ({} if tunables is None else {"GLIBC_TUNABLES": tunables})
    assert worker_environment(own) == {"PATH": "/bin", "GLIBC_TUNABLES": expected}
