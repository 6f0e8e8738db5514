"""Makes the rows of a case: checks every contender, warms it up, times it in turns with the others, and counts."""

import time
from dataclasses import asdict, dataclass

import torch

from . import check, counts
from .case import draw, least_bytes
from .clock import CPU, Cpu, Gpu, interleave, summaries
from .contenders import COMPILE, COPY, OURS, contenders

AGAIN = "again"  # our first contender, timed a second time: it shows how much two equal contenders differ in this run
COLD = 160 << 20  # bytes of inputs on a GPU, used in turn: more than any level-2 cache holds


@dataclass(frozen=True)
class Options:
    """seconds: the time to measure each case. least: the least number of turns. modes: of torch.compile. few: only the
    best eager form and our best form. backends: our backends to time. memory: whether to measure the peak memory."""

    clock: Cpu | Gpu = CPU
    seconds: float = 1.0
    least: int = 5
    modes: tuple | None = ("default",)
    few: bool = False
    backends: tuple = ("auto",)
    memory: bool = True


def measure(case, options):
    """The rows of a case: dicts with the columns of results.py, without the columns of results.where()."""
    threads = torch.get_num_threads()
    torch.set_num_threads(case.threads or threads)
    try:
        return _measure(case, options)
    finally:
        torch.set_num_threads(threads)


def line_up(case, options):
    """(functions, rows, tensors) of a case.

    functions: {(kind, name): (prepare, function)} for interleave(): every contender whose results are right, and a
    copy.
    rows: {(kind, name): the columns that are known so far}. tensors: the tensors of the first run.

    A rival with wrong results has a row and no function, so it is not timed. check.WrongResult if our results are
    wrong.
    """
    device = options.clock.device
    sets = [draw(case).to(device)]
    if device == "cuda":
        size = sum(t.numel() * t.element_size() for t in sets[0].wanted()) * 2
        sets += [draw(case, seed).to(device) for seed in range(1, max(2, min(64, COLD // size)))]
    expected = check.truth(case, sets[0])
    rows, runs = {}, {}
    for contender in contenders(case, options.modes or (), options.few, options.backends):
        key = contender.kind, contender.name
        try:
            runs[key], rows[key] = _ready(contender, case, sets, expected, options)
        except check.WrongResult as wrong:
            if contender.kind == OURS:
                raise
            rows[key] = {"error": wrong.error}  # a row without times
        if contender.kind == OURS and (OURS, AGAIN) not in runs:
            runs[OURS, AGAIN], rows[OURS, AGAIN] = runs[key], {}
    runs[COPY, ""], rows[COPY, ""] = _copy(sets), {}
    return runs, rows, sets[0]


def _measure(case, options):
    runs, rows, tensors = line_up(case, options)
    times = summaries(interleave(runs, options.clock, options.seconds, options.least), options.least)
    copy = times[COPY, ""]["median_us"]
    source = (tensors.params or (tensors.mu,))[0]
    for key, row in rows.items():
        row |= asdict(case) | {"threads": torch.get_num_threads(), "kind": key[0], "name": key[1]}
        row |= {"least_bytes": least_bytes(case, tensors)} | times.get(key, {"median_us": None, "disturbed": None})
        row["copy_bytes_per_s"] = round(2 * source.numel() * source.element_size() / copy * 1e6)
        if key in runs and key[0] != COPY and key[1] != AGAIN:
            row |= _count(key, runs[key], options)
    return list(rows.values())


def _ready(contender, case, sets, expected, options):
    """((prepare, function), row) of a contender whose first results are right."""
    torch._dynamo.reset()
    objective = contender.ready()
    whole = step(objective, case)
    with counts.generated_kernels() as generated:
        begin = time.perf_counter()
        results = whole(sets[0].leaves())
        options.clock.synchronize()
        row = {"first_us": (time.perf_counter() - begin) * 1e6}
        if contender.kind == COMPILE:
            row["kernels"] = generated()
    try:
        row["error"] = check.worst(check.errors(case, sets[0], expected, *results), contender.kind == OURS)
    except check.WrongResult as error:
        title = f"{contender.kind}, {contender.name}, {case.shape} {case.likelihood}"
        raise check.WrongResult(f"{title}: {error}", error.error) from None
    return _run(objective, whole, case, sets), row


def _run(objective, whole, case, sets):
    """(prepare, function) for the direction of the case."""

    def leaves(i):
        return (sets[i % len(sets)].leaves(),)

    def graph(i):
        tensors = sets[i % len(sets)].leaves()
        return tensors, *_outputs(objective, tensors)

    if case.direction == "forward":
        return leaves, lambda tensors: _outputs(objective, tensors)
    if case.direction == "backward":
        return graph, lambda tensors, loss, z: _gradients(tensors, loss, z, case)
    return leaves, whole


def step(objective, case):
    """Forward and backward: a function of tensors -> (loss, z, gradients)."""

    def run(tensors):
        loss, z = _outputs(objective, tensors)
        return loss, z, _gradients(tensors, loss, z, case)

    return run


def _outputs(objective, tensors):
    return objective(tensors.params, tensors.x, tensors.mu, tensors.logvar)


def _gradients(tensors, loss, z, case):
    incoming = None if case.incoming == 1 else torch.full_like(loss, case.incoming)
    outputs, gradients = ([loss], [incoming]) if z is None else ([loss, z], [incoming, tensors.grad_z])
    return torch.autograd.grad(outputs, tensors.wanted(), gradients)


def _copy(sets):
    """(prepare, function) of a copy of the reconstruction, or of mu if the case has no reconstruction."""
    sources = [(s.params or (s.mu,))[0] for s in sets]
    target = torch.empty_like(sources[0])
    return lambda i: (sources[i % len(sources)],), lambda source: target.copy_(source)


def _count(key, run, options):
    prepare, function = run
    clock, arguments = options.clock, [prepare(i) for i in range(8 if options.clock.device == "cuda" else 1)]
    micro = lambda seconds: None if seconds is None else seconds * 1e6  # noqa: E731
    row = {"host_us": micro(clock.host(function, arguments))}
    if key[0] != COMPILE:
        row["kernels"] = counts.operations(function, prepare(0), clock.device)
        row["graph_us"] = micro(clock.graph(function, arguments))
    if options.memory:
        row["peak_bytes"] = counts.peak_bytes(function, prepare(0), clock.device)
    return row
