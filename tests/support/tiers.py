"""The tiers of the tests: plain `pytest` runs the quick tier, `pytest --rest` runs the other tests and other cases of
the same tests, `pytest --pairs` runs every test with many of its cases, and `pytest --full` runs everything.

The quick tier leaves out a test that is marked `full`. If a test is marked `full("triton")`, the quick tier leaves out
its cases with "triton". If a test has many cases, the quick tier takes few of them: every value of every argument is in
one of these cases, and so is every likelihood on every backend. For example, a test with 11 shapes, 3 reductions and 10
pairs of backend and likelihood has 330 cases, and the quick tier takes about 12.

`--rest` takes nothing that the quick tier takes. It takes the tests marked `full`, and of each test a few of the cases
that are left: again every value of every argument is in one of these cases, so each value meets two others.

`--pairs` takes the tests of both. If a test has many cases, every pair of values of two arguments is in one of the
cases that `--pairs` takes: most faults need one value or two together, and few faults need three (Kuhn, Wallace and
Gallo 2004, doi:10.1109/TSE.2004.24). All choices depend only on the list of cases, so all machines choose the same. A
test that is marked `soak` takes minutes: only `--full` runs this test.
"""

import itertools

import pytest
from places import TESTS

FULL, PAIRS, REST = "--full", "--pairs", "--rest"


def every(step, values):
    """The values for parametrize, of which the quick tier takes the first of every `step`."""
    return [pytest.param(value, marks=[pytest.mark.full] * (i % step > 0)) for i, value in enumerate(values)]


# The files that take longest, in this order. Each process of pytest-xdist runs whole files, so a long file that comes
# last keeps one process waiting for the other.
LONGEST = (
    *("gpu/test_triton_kernels.py", "ptx/test_ptx.py", "kernels/test_objective.py", "project/test_sanitizers.py"),
    *("gpu/test_cuda_host.py", "command/test_bench.py", "pytorch/test_compile.py", "gpu/test_cuda_faults.py"),
    *("kernels/test_weights.py", "pytorch/test_transforms.py", "gpu/test_triton_aot.py", "pytorch/test_ranks.py"),
    *("kernels/test_noise.py", "kernels/test_pixels.py", "kernels/test_mixed.py", "formulas/test_counts.py"),
    *("gpu/test_approximate.py", "kernels/test_mixture.py", "formulas/test_elementwise.py"),
    *("project/test_examples.py", "command/test_bench_gpu.py"),
)


def longest_first(items):
    """Sorts the tests of the longest files to the front. pytest-xdist would begin with the files of most tests."""
    places = {TESTS / file: i for i, file in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(LONGEST)))


def add_option(parser):
    parser.addoption(FULL, action="store_true", help="every test and every case, not the quick tier alone")
    parser.addoption(PAIRS, action="store_true", help="every test, and every pair of values of its arguments")
    parser.addoption(REST, action="store_true", help="the tests marked full, and other cases than the quick tier's")


def choose(config, items):
    """Removes the tests from `items` that do not belong to the chosen tier."""
    if config.getoption(FULL):
        return
    short = [item for item in items if not item.get_closest_marker("soak")]
    quick = set(few([item for item in short if not is_full(item)], values_of))
    if config.getoption(PAIRS):
        kept = set(few(short, pairs_of))
    elif config.getoption(REST):
        kept = set(few([item for item in short if item not in quick], values_of))
    else:
        kept = quick
    kept |= {item for item in items if is_named(config, item)}
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


def is_full(item):
    """Whether a test is marked `full`, or is marked `full("triton")` and has "triton" as an argument."""
    arguments = item.callspec.params.values() if hasattr(item, "callspec") else ()
    named = {value for value in arguments if isinstance(value, str)}
    return any(not marker.args or named & set(marker.args) for marker in item.iter_markers("full"))


def is_named(config, item):
    """Whether the user named this test on the command line. A named test always runs."""
    return any("::" in given and item.nodeid.endswith(given.partition("::")[2]) for given in config.args)


def few(items, covers):
    """The tests without cases, and a few cases of every other test."""
    by_function = itertools.groupby(items, key=lambda item: (item.path, item.cls, getattr(item, "originalname", item)))
    return [item for _, cases in by_function for item in covering(list(cases), covers)]


def covering(cases, covers):
    """A few cases, in their order, that together have everything that the cases cover. The choice is greedy: the next
    case is always the one with the most new values.

    covers(arguments): the set that a case with these arguments covers."""
    values = {case: covers(case.callspec.params) for case in cases if hasattr(case, "callspec")}
    if not values:
        return cases
    missing, chosen = set().union(*values.values()), set()
    while missing:
        best = max(cases, key=lambda case: len(values[case] & missing))  # of several equal cases, the first
        chosen.add(best)
        missing -= values[best]
    return [case for case in cases if case in chosen]


def values_of(arguments):
    """The values that a case covers: each of its arguments, and the pair of backend and likelihood."""
    pair = (
        [("pair", arguments["backend"], arguments["likelihood"])] if {"backend", "likelihood"} <= set(arguments) else []
    )
    return {(name, repr(value)) for name, value in arguments.items()} | set(pair)


def pairs_of(arguments):
    """The pairs of two arguments' values that a case covers. A case of one argument covers its value."""
    values = [(name, repr(value)) for name, value in arguments.items()]
    return set(itertools.combinations(values, 2)) or set(values)
