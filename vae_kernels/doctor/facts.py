"""What a report says of a training, besides the diagnosis of its model."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Facts:
    """try_: the command to try first, or "". options: {name: text}, how and when the model was trained. curves:
    {metric: its value after each epoch}, or {}. dims: [epochs][latents], the KL of each latent in nats after each
    epoch, or []. first: the epoch of the first list in dims."""

    try_: str = ""
    options: dict[str, str] = field(default_factory=dict)
    curves: dict[str, list[float]] = field(default_factory=dict)
    dims: list[list[float]] = field(default_factory=list)
    first: int = 1
