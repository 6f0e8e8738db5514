"""What a report says of a training, besides the diagnosis of its model."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Facts:
    """try_: the command to try first, or "". options: {name: text}, how and when the model was trained. curves:
    {metric: its value after each epoch}, or {}. dims: {epoch: the KL of each latent in nats}, or {}. columns: the
    names of the columns of a table, or ()."""

    try_: str = ""
    options: dict[str, str] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)
    dims: dict[int, list[float]] = field(default_factory=dict)
    columns: tuple[str, ...] = ()
