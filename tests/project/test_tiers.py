"""The tiers take what they promise: every value, or every pair of values, in few cases."""

import itertools
from types import SimpleNamespace

import pytest
import tiers
from places import TESTS


class Case:
    def __init__(self, params=None):
        if params:
            self.callspec = Case()
            self.callspec.params = params


def cases_of(*sizes):
    """All cases of a test whose arguments have these numbers of values. One case of three is left out, as in a test
    that skips what does not fit together."""
    grids = itertools.product(*map(range, sizes))
    params = [{f"argument{i}": value for i, value in enumerate(case)} for case in grids if sum(case) % 3]
    return [Case(p) for p in params]


@pytest.mark.parametrize("sizes", [(5,), (7, 3), (11, 3, 10), (4, 4, 4, 4)])
@pytest.mark.parametrize("covers", [tiers.values_of, tiers.pairs_of])
def test_everything_is_covered(covers, sizes):
    cases = cases_of(*sizes)
    chosen = tiers.covering(cases, covers)
    covered, possible = (set().union(*(covers(c.callspec.params) for c in some)) for some in (chosen, cases))
    assert covered == possible and len(chosen) <= len(cases)


def test_pairs_are_a_fraction_of_the_cases():
    cases = cases_of(11, 3, 10)
    values, pairs = (tiers.covering(cases, covers) for covers in (tiers.values_of, tiers.pairs_of))
    assert 11 <= len(values) < len(pairs) and 11 * 10 * 2 // 3 <= len(pairs) < len(cases)


class Marked:
    """A test without cases that has this mark, or none, as pytest would collect it."""

    path = cls = None

    def __init__(self, mark=None):
        self.nodeid = self.originalname = f"test_{mark}"
        self.marks = [getattr(pytest.mark, mark).mark] if mark else []

    def iter_markers(self, name):
        return (mark for mark in self.marks if mark.name == name)

    def get_closest_marker(self, name):
        return next(self.iter_markers(name), None)


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (None, ["test_None"]),
        (tiers.PAIRS, ["test_None", "test_full"]),
        (tiers.REST, ["test_full"]),
        (tiers.FULL, ["test_None", "test_full", "test_soak"]),
    ],
)
def test_which_tier_runs_a_marked_test(option, expected):
    items = [Marked(), Marked("full"), Marked("soak")]
    hook = SimpleNamespace(pytest_deselected=lambda items: None)
    tiers.choose(SimpleNamespace(getoption=lambda name: name == option, args=[], hook=hook), items)
    assert [item.nodeid for item in items] == expected


def test_the_longest_files_come_first():
    assert [file for file in tiers.LONGEST if not (TESTS / file).exists()] == []
    short, other = (SimpleNamespace(path=TESTS / "api" / name) for name in ("test_api.py", "test_errors.py"))
    last, first = (SimpleNamespace(path=TESTS / file) for file in (tiers.LONGEST[-1], tiers.LONGEST[0]))
    items = [short, last, other, first]
    tiers.longest_first(items)
    assert items == [first, last, short, other]


def test_a_test_without_cases_stays():
    alone = [Case()]
    assert tiers.covering(alone, tiers.pairs_of) == alone


class Numbered(Case):
    """A case of one test, with arguments."""

    path, cls, nodeid = None, None, "test"

    def __init__(self, params):
        super().__init__(params)
        self.originalname = "test"

    def get_closest_marker(self, name):
        return None

    def iter_markers(self, name):
        return iter(())


def test_the_rest_has_every_value_again_in_other_cases():
    cases = [Numbered(case.callspec.params) for case in cases_of(11, 3, 10)]
    chosen = {}
    for tier in (None, tiers.REST):
        items, hook = list(cases), SimpleNamespace(pytest_deselected=lambda items: None)
        tiers.choose(SimpleNamespace(getoption=lambda name, tier=tier: name == tier, args=[], hook=hook), items)
        chosen[tier] = items
    assert not set(chosen[None]) & set(chosen[tiers.REST])
    quick, rest = (set().union(*(tiers.values_of(c.callspec.params) for c in some)) for some in chosen.values())
    assert quick == rest and len(chosen[tiers.REST]) < 20
