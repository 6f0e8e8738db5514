"""How bench/gpu.py times: on a GPU by events and graphs, dry by the clock, to see that all of it runs."""

import itertools
import statistics
import time

import torch


class Gpu:
    device = "cuda"

    def events(self, f, arguments):
        """Seconds of f on each of the arguments, by events on the stream."""
        marks = [torch.cuda.Event(enable_timing=True) for _ in range(len(arguments) + 1)]
        marks[0].record()
        for a, mark in zip(arguments, marks[1:], strict=True):
            f(*a)
            mark.record()
        torch.cuda.synchronize()
        return [a.elapsed_time(b) / 1e3 for a, b in itertools.pairwise(marks)]

    def graph(self, f, arguments, replays=20):
        """Seconds of f, by replaying a graph of one call on each of the arguments."""
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
        times = self.events(graph.replay, [()] * replays)
        return statistics.median(times[2:]) / len(arguments)

    def peak_bytes(self, f, arguments):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = f(*arguments)
        torch.cuda.synchronize()
        del result
        return torch.cuda.max_memory_allocated() - before

    def synchronize(self):
        torch.cuda.synchronize()

    def describe(self):
        p = torch.cuda.get_device_properties(0)
        return f"{p.name}, {p.multi_processor_count} SMs, {p.total_memory >> 30} GiB, CUDA {torch.version.cuda}"


class Dry(Gpu):
    device = "cpu"

    def events(self, f, arguments):
        times = []
        for a in arguments:
            begin = time.perf_counter()
            f(*a)
            times.append(time.perf_counter() - begin)
        return times

    def graph(self, f, arguments, replays=2):
        return statistics.median(self.events(f, arguments))

    def peak_bytes(self, f, arguments):
        f(*arguments)
        return 0

    def synchronize(self):
        pass

    def describe(self):
        return "no GPU: the times mean nothing"
