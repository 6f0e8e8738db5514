"""Times functions in turns, so that a slow minute of the machine affects all of them.

A clock is for one kind of device. times(function, arguments) gives a Run for each of the arguments.
"""

import gc
import itertools
import math
import os
import statistics
import time
from typing import NamedTuple

import torch

try:
    import resource
except ImportError:  # Windows
    resource = None

_TURN = 0.003  # seconds
_LONG = 0.05  # seconds: for such a long run the contents of the caches do not matter
_MOST = 50  # runs in a turn
_PATIENCE = 3  # how many times longer to measure if other programs disturb
_SLOW = 1.5  # how many times longer than at its best a control takes if other programs disturb
_WAIT = 0.02  # the share of a run that its threads may wait for a processor


class Run(NamedTuple):
    """disturbed: whether another program disturbed the run: a thread of this process waited for a processor, or the
    control beside the run was slow."""

    seconds: float
    disturbed: bool = False


def switches():
    """How often the system has taken a processor away from a thread of this process."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw if resource else 0


class Waits:
    """How long the threads of this process have waited for a processor that another program had.

    Linux counts this time for each thread. The files stay open, because to open them takes longer than a short run.
    Elsewhere each switch to another program counts as a second, so a run with a switch is disturbed.
    """

    def __enter__(self):
        root = "/proc/self/task"
        counted = hasattr(os, "pread") and os.path.exists(f"{root}/{os.getpid()}/schedstat")
        threads = os.listdir(root) if counted else []
        self.files = [os.open(f"{root}/{thread}/schedstat", os.O_RDONLY) for thread in threads]
        return self

    def __exit__(self, *_):
        for file in self.files:
            os.close(file)

    def seconds(self):
        """Seconds until now, of all threads that this process had at the beginning."""
        if not self.files:
            return float(switches())
        return sum(int(os.pread(file, 100, 0).split()[1]) for file in self.files) * 1e-9


class Control:
    """The same short work for all threads, again and again. Where this work is slow, other programs use the processors,
    or the processors' common caches and memory. The system need not take a processor away for that."""

    def __init__(self):
        self.least = math.inf  # seconds: the shortest control of this process
        self.threads = 0

    def slow(self):
        """Do the work, and say whether it took much longer than at its best."""
        if self.threads != torch.get_num_threads():
            self.threads, self.least = torch.get_num_threads(), math.inf
            self.numbers = torch.rand(self.threads << 15)  # the least that torch gives to each thread
        self.numbers.exp_().log_()  # the run before has taken the caches, which is no disturbance
        begin = time.perf_counter()
        self.numbers.exp_().log_()
        seconds = time.perf_counter() - begin
        self.least = min(self.least, seconds)
        return seconds > _SLOW * self.least


class Cpu:
    device = "cpu"

    def __init__(self):
        self.control = Control()

    def times(self, f, arguments):
        measured = []
        with Waits() as waits:
            for a in arguments:
                before, begin = waits.seconds(), time.perf_counter()
                result = f(*a)
                seconds = time.perf_counter() - begin
                measured.append(Run(seconds, waits.seconds() - before > _WAIT * seconds))
                del result  # free its memory outside the measured time
        return measured

    def busy(self):
        """Whether other programs disturb at this moment."""
        return self.control.slow()

    def synchronize(self):
        pass

    def graph(self, f, arguments):
        return None

    def host(self, f, arguments):
        return None


CPU = Cpu()


class Gpu:
    device = "cuda"

    def times(self, f, arguments):
        """Times by events on the stream."""
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(len(arguments) + 1)]
        marks[0].record()
        for a, mark in zip(arguments, marks[1:], strict=True):
            f(*a)
            mark.record()
        torch.cuda.synchronize()
        return [Run(a.elapsed_time(b) / 1e3) for a, b in itertools.pairwise(marks)]

    def busy(self):
        return False

    def synchronize(self):
        torch.cuda.synchronize()

    def graph(self, f, arguments, replays=20):
        """Seconds of one call of f in a CUDA graph. The graph has one call for each of the arguments."""
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(3):
                f(*arguments[0])
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            for a in arguments:
                f(*a)
        return median(self.times(graph.replay, [()] * replays)[2:]) / len(arguments)

    def host(self, f, arguments, n=50):
        """Seconds of the host for one call. The calls do not wait for the GPU."""
        torch.cuda.synchronize()
        begin = time.perf_counter()
        for _ in range(n):
            f(*arguments[0])
        seconds = (time.perf_counter() - begin) / n
        torch.cuda.synchronize()
        return seconds


class Dry(Cpu):
    """The measurements of a GPU, run on the CPU to test that they run. The times mean nothing."""

    def graph(self, f, arguments):
        return median(self.times(f, arguments))

    def host(self, f, arguments):
        return median(self.times(f, arguments[:1]))


def median(runs):
    return statistics.median(run.seconds for run in runs)


def interleave(functions, clock, seconds, least=5, warm_up=1):
    """Run the functions in turns until `seconds` are spent, each for at least `least` turns: {name: [Run, ...]}.

    functions: {name: (prepare, function)}. prepare(i) makes the i-th arguments outside the measured time. A turn is
    some runs of one function. The first run of a turn is not counted, because its time depends on what the function
    before left in the processor's caches. A function with long runs has turns of one run, which is counted. A control
    before and after each turn shows whether other programs disturb: a slow control marks the whole turn. After such a
    turn, the next turn of this function has a single counted run, because a short turn is more often left in peace. If
    other programs disturb nearly every run, the measurement goes on, up to three times longer.
    """
    runs = {name: [] for name in functions}
    shortest, loud = {}, set()
    start = time.perf_counter()
    gc.collect()
    gc.disable()  # a garbage collection inside a run would be counted
    try:
        for i in itertools.count():
            if i == warm_up:
                start = time.perf_counter()
            spent = time.perf_counter() - start
            enough = spent > seconds and (quiet(runs, least) or spent > _PATIENCE * seconds)
            if i >= warm_up + least and enough:
                return runs
            for name, (prepare, function) in functions.items():
                cold = shortest.get(name, 0) < _LONG
                n = cold + (1 if name in loud else max(1, min(_MOST, round(_TURN / shortest.get(name, _TURN)))))
                arguments = [prepare(j) for j in range(n)]
                busy = clock.busy()
                turn = clock.times(function, arguments)
                if busy | clock.busy():
                    turn = [run._replace(disturbed=True) for run in turn]
                (loud.add if all(run.disturbed for run in turn) else loud.discard)(name)
                shortest[name] = min(shortest.get(name, math.inf), *(run.seconds for run in turn))
                if i >= warm_up:
                    runs[name] += turn[cold:]
    finally:
        gc.enable()


def quiet(runs, least):
    """Whether each function has at least `least` runs that were not disturbed."""
    return all(sum(not run.disturbed for run in found) >= least for found in runs.values())


def summaries(runs, least=5):
    """{name: summary} of the runs of interleave(): median, 20th and 80th percentile in microseconds, number of runs.

    The disturbed runs are left out if every function has enough other runs. Otherwise they are kept for every function,
    and "disturbed" is their share: such times are for a look, not for a results file (`results.quiet`). Long runs are
    disturbed more often than short runs. So to leave them out for some functions only would not be fair.
    """
    leave_out = quiet(runs, least)
    return {
        name: summary([run.seconds for run in found if not (leave_out and run.disturbed)])
        | {"disturbed": 0.0 if leave_out else sum(run.disturbed for run in found) / len(found)}
        for name, found in runs.items()
    }


def summary(times):
    ordered = sorted(times)
    at = lambda share: ordered[min(len(ordered) - 1, int(share * len(ordered)))] * 1e6  # noqa: E731
    return {"median_us": statistics.median(ordered) * 1e6, "p20_us": at(0.2), "p80_us": at(0.8), "runs": len(ordered)}
