"""The groups of a hierarchy of latents in the rows of Monitor, and a row as a table."""

import math

from ..controls.balance import ACTIVE_GROUP
from ..core.ranges import ints


def checked_groups(groups):
    """groups= of Monitor: None, an integer, or a tuple of sizes."""
    if groups is None:
        return None
    expected = "None, a positive integer, or the sizes of the groups"
    found = ints("groups", groups, expected, one=True)
    return found[0] if isinstance(groups, int) else found


def check_dims(groups, dims):
    """The groups must share out the latent dims of the terms."""
    if groups is None:
        return
    count = math.prod(dims) if dims else 0
    if not dims or (count % groups if isinstance(groups, int) else count != sum(groups)):
        came = f"{count} latent dims" if dims else "no kl_per_dim"
        raise ValueError(f"groups: got {groups}, but the terms have {came}; give the loss kl=[B, G] for G groups")


def of_groups(row, groups):
    """What a row has for the groups: {} without groups."""
    if groups is None or "kl_per_dim" not in row:
        return {}
    dims = row["kl_per_dim"]
    sizes = [len(dims) // groups] * groups if isinstance(groups, int) else groups
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
    each = [sum(dims[end - size : end]) for size, end in zip(sizes, ends, strict=True)]
    return {"kl_per_group": each, "active_groups": sum(nats > ACTIVE_GROUP for nats in each)}


def table(row: dict) -> str:
    """The KL of each group in a row of Monitor(groups=...), as text: its nats, its share of the KL, and whether the
    group is active.

        group     nats   share
            1    3.210   64.2 %
            2    1.790   35.8 %
            3    0.000    0.0 %  not active
    """
    if "kl_per_group" not in row:
        raise ValueError(
            f"row: got the keys {', '.join(row)}, expected kl_per_group, as a Monitor(groups=...) gives it"
        )
    each = row["kl_per_group"]
    whole = sum(each) or 1.0
    lines = [f"{'group':>5} {'nats':>9} {'share':>8}"]
    for i, nats in enumerate(each, 1):
        lines.append(f"{i:5} {nats:9.3f} {100 * nats / whole:6.1f} %{'' if nats > ACTIVE_GROUP else '  not active'}")
    return "\n".join(lines)
