"""The two tiers of the tests: plain `pytest` is the quick one, `pytest --full` is everything.

The quick tier leaves out what is marked `full`. Of a test that is marked `full("triton")` it leaves out the cases of
"triton". Of a test with many cases it takes as few as give every value of every argument at least once, and every
likelihood on every backend. A table of 11 shapes, 3 reductions and 10 pairs of backend and likelihood has 330 cases, of
which the quick tier takes some 12. The choice depends on nothing but the list of cases: two machines choose the same.
"""

import itertools

FLAG = "--full"


def add_option(parser):
    parser.addoption(FLAG, action="store_true", help="every test and every case, not the quick tier alone")


def choose(config, items):
    """Take the tests out of `items` that do not belong to the tier that was asked for."""
    if config.getoption(FLAG):
        return
    kept = set(quick([item for item in items if not is_full(item)]))
    kept |= {item for item in items if is_named(config, item)}
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = [item for item in items if item in kept]


def is_full(item):
    """Whether a test is marked `full`, or marked `full("triton")` and "triton" is one of its arguments."""
    marker = item.get_closest_marker("full")
    arguments = item.callspec.params.values() if hasattr(item, "callspec") else ()
    return marker is not None and (
        not marker.args or any(isinstance(value, str) and value in marker.args for value in arguments)
    )


def is_named(config, item):
    """Whether the user gave the name of this very test: then the user wants it, whatever its tier."""
    return any("::" in given and item.nodeid.endswith(given.partition("::")[2]) for given in config.args)


def quick(items):
    """The tests without cases, and a few cases of each of the others."""
    by_function = itertools.groupby(items, key=lambda item: (item.path, item.cls, getattr(item, "originalname", item)))
    return [item for _, cases in by_function for item in covering(list(cases))]


def covering(cases):
    """The cases, in their order, that together have every value of every argument: each next one has the most new."""
    values = {case: values_of(case.callspec.params) for case in cases if hasattr(case, "callspec")}
    if not values:
        return cases
    missing, chosen = set().union(*values.values()), set()
    while missing:
        best = max(cases, key=lambda case: len(values[case] & missing))  # the first of equals
        chosen.add(best)
        missing -= values[best]
    return [case for case in cases if case in chosen]


def values_of(arguments):
    """What a case covers: each of its arguments, and the likelihood on this backend as a pair."""
    pair = (
        [("pair", arguments["backend"], arguments["likelihood"])] if {"backend", "likelihood"} <= set(arguments) else []
    )
    return {(name, repr(value)) for name, value in arguments.items()} | set(pair)
