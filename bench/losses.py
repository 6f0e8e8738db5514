"""Makes the sentence and the table "Where we lose" of docs/speed.md and docs/bench.md."""

from typing import NamedTuple

from . import tables

CLOSEST = 3  # the table shows all ways that a rival beats, and so many of the others: those with the smallest ratios


class Duel(NamedTuple):
    """How many times faster we are than the best rival of a kind, and whether the ratio can be told from noise."""

    rival: dict
    ratio: float
    told: bool

    @property
    def lost(self):
        return self.told and self.ratio < 1

    def cells(self):
        ratio = f"{self.ratio:.2f}x"
        so = f"**{ratio}**" if self.lost else ratio if self.told else f"{ratio}, a tie"
        return [f"{self.rival['name']}, {tables.time(self.rival)}", so]


class Way(NamedTuple):
    """One of our ways to write a case, with two duels: against the best eager form, and against the best compiled
    one."""

    what: str
    mine: dict
    eager: Duel
    compiled: Duel | None

    @property
    def duels(self):
        return [duel for duel in (self.eager, self.compiled) if duel]

    @property
    def slower(self):
        return any(duel.ratio < 1 for duel in self.duels)

    def order(self):
        """A key for sorting: losses come first, and the worst loss before the others; then the smallest ratio."""
        lost = [duel.ratio for duel in self.duels if duel.lost]
        return not lost, min(lost or [duel.ratio for duel in self.duels])

    def cells(self):
        compiled = self.compiled.cells() if self.compiled else ["-", "-"]
        return [self.what, self.mine["name"], tables.time(self.mine), *self.eager.cells(), *compiled]


def ways(comparison):
    """The Ways of a comparison."""
    eager, compiled, _ = tables.best(comparison)
    duel = lambda mine, rival: rival and Duel(rival, *comparison.faster(mine, rival))  # noqa: E731
    return [Way(comparison.what, mine, duel(mine, eager), duel(mine, compiled)) for mine in comparison.ways]


def losses(comparisons, missing=(), page=None):
    """The text: the cases that are missing, the number of comparisons that we lose, and a table. The table has every
    way to write a case that a rival beats, the worst first. The closest of the other ways follow, so the table is never
    empty. page: a link to the page that names the missing cases; without it they are named here."""
    found = sorted((way for c in comparisons for way in ways(c)), key=Way.order)
    duels = [duel for way in found for duel in way.duels]
    lost, ties = sum(duel.lost for duel in duels), sum(not duel.told for duel in duels)
    said = (
        f"In {len(duels)} comparisons of one of our ways to write a case with the best eager form, or with the best "
        f"compiled one, we lose {lost}, and {ties} are ties: within the noise. Here are all ways that a rival is "
        f"faster than, the worst loss first, and the {CLOSEST} closest of the others; a loss is bold:"
    )
    if missing:
        named = f"{len(missing)} cases ({page})" if page else "; ".join(missing)
        said = f"Not measured yet on this machine, and so not counted: {named}.\n\n{said}"
    head = ["case", "written as", "ours", "best eager", "we are faster by", "best compiled", "we are faster by"]
    shown = found[: sum(way.slower for way in found) + CLOSEST]
    return f"{said}\n\n{tables.markdown(head, [way.cells() for way in shown])}"
