"""The tiers take what they promise: every value, or every pair of values, in few cases."""

import itertools

import pytest
import tiers


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


def test_a_test_without_cases_stays():
    alone = [Case()]
    assert tiers.covering(alone, tiers.pairs_of) == alone
