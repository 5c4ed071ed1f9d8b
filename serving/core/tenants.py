"""Rows in flight by tenant, and who of them takes more than its share.

A share is what everybody would get of some rows if those who have any in flight, and one
more that may come, took as much as they could. Who is below it comes first; who is above
it may take what is left over, but for a fifth that is kept for the others. Nobody has a
quota, and what one does not use is there for all.

A tenant is a name that a request gives, known here while it has rows in flight. Names are
the client's own text: they are bounded in length and number, and are told to nobody.
Source: what is left for whom is the dynamic threshold of Choudhury and Hahne (IEEE/ACM
Transactions on Networking 6(2), 1998), as for the versions in `core/admission.py`.
"""

TENANTS_MAX = 1024  # with rows in flight; beyond it, the next ones share one place
CHARACTERS_MAX = 128  # longer names are told apart by these
NAMELESS = ""
THE_REST = "\n"  # no header's value


class Tenants:
    """Of one worker."""

    __slots__ = ("_rows",)

    def __init__(self) -> None:
        self._rows: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def known_as(self, name: str) -> str:
        """The tenant that a request with this name counts for; requests without one are one's."""
        name = name[:CHARACTERS_MAX]
        return name if name in self._rows or len(self._rows) < TENANTS_MAX else THE_REST

    def rows_of(self, tenant: str) -> int:
        """That it has in flight."""
        return self._rows.get(tenant, 0)

    def has_a_share(self, tenant: str, rows: int, of: int) -> bool:
        """Whether so many rows more leave a tenant within its share of `of` rows."""
        held = self._rows.get(tenant, 0)
        sharing = len(self._rows) + (1 if held else 2)  # itself, the others, and one to come
        return (held + rows) * sharing <= of

    def came(self, tenant: str, rows: int) -> None:
        self._rows[tenant] = self._rows.get(tenant, 0) + rows

    def left(self, tenant: str, rows: int) -> None:
        held = self._rows[tenant] - rows
        assert held >= 0, "more rows of a tenant freed than it held"
        if held:
            self._rows[tenant] = held
        else:
            del self._rows[tenant]
