"""Timings beside eager PyTorch and torch.compile: `vae-kernels bench`. The library itself never imports this.

case.py        what is timed, and the tensors for it
rivals.py      how others write it
helpers.py     free bits and the decomposition of the KL, by hand and ours
contenders.py  all that compete in a case: rivals, compiled rivals, this library
check.py       whether a contender is right, in float64; one that is not is not timed
clock.py       how it is timed, on a CPU and on a GPU: in turns
counts.py      bytes and operations
measure.py     a case -> rows, of results.py's columns
steps.py       the same for whole training steps
suites.py      the cases that the published results are made of
gpu.py         the check of a GPU
"""
