"""A gauge: the number behind a verdict, and the thresholds on both sides of the number."""

import math
from dataclasses import dataclass

LEVELS = ("healthy", "watch", "ill")  # from best to worst


@dataclass(frozen=True)
class Gauge:
    """name: what the number is, with its unit. text: the number as the report shows it. stops: the edges of the zones,
    rising. levels: the level of each zone, one fewer than stops."""

    name: str
    value: float
    text: str
    stops: tuple[float, ...]
    levels: tuple[str, ...]

    @property
    def level(self) -> str:
        """The level of the zone that has the value. A value at a threshold belongs to the better of its two zones. The
        level of NaN is "ill"."""
        if self.value != self.value:
            return LEVELS[-1]
        value = min(max(self.value, self.stops[0]), self.stops[-1])
        zones = zip(self.stops, self.stops[1:], self.levels, strict=False)
        return min((level for low, high, level in zones if low <= value <= high), key=LEVELS.index)

    @property
    def place(self) -> float:
        """Where the value stands on a strip from 0 to 1, on which all zones have one width. Stops above 0 are placed by
        their logarithms, as those of a ratio."""
        zones, share, of = len(self.levels), 0.0, math.log if self.stops[0] > 0 else float
        if self.value <= self.stops[0]:
            return 0.0
        for i, (low, high) in enumerate(zip(self.stops, self.stops[1:], strict=False)):
            if self.value > low:
                share = i + min((of(self.value) - of(low)) / (of(high) - of(low)), 1.0)
        return share / zones


def rising(name, value, text, thresholds):
    """The gauge of a number that is worse the larger the number is. thresholds: those of "watch" and "ill"."""
    watch, ill = thresholds
    return Gauge(name, value, text, (0.0, watch, ill, 2 * ill - watch), LEVELS)


def falling(name, value, text, thresholds, most):
    """The gauge of a number that is worse the smaller the number is. most: the largest number of the strip."""
    watch, ill = thresholds
    return Gauge(name, value, text, (0.0, ill, watch, most), LEVELS[::-1])


def ratio(name, value, thresholds):
    """The gauge of a ratio that should be 1. thresholds: the factors of "watch" and "ill", to both sides."""
    watch, ill = thresholds
    stops = (1 / ill**2, 1 / ill, 1 / watch, watch, ill, ill**2)
    return Gauge(name, value, f"{value:.3g}", stops, ("ill", "watch", "healthy", "watch", "ill"))


def least(name, value, text, threshold):
    """The gauge of a number that must be above a threshold."""
    return Gauge(name, value, text, (0.0, threshold, max(3 * threshold, 1.0)), ("ill", "healthy"))
