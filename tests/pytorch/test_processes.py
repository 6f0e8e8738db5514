"""Many threads at once, forked and spawned workers, a fork while others are in the pool: the bits of one alone."""

import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from known import compiled
from steps import LARGE, assert_same, step
from torch.utils.data import DataLoader, Dataset

import vae_kernels as vk
from vae_kernels import backends

pytestmark = compiled
MIB = 1 << 20
TAKES, FORKS = 18, 15


def large(seed):
    """As step(), of results in memory of the pool."""
    return step(seed, ["bernoulli"], LARGE)


def test_many_threads_at_once():
    """Each calls the same ops on inputs of its own, with results of the pool among them."""
    takes = [(step if seed % 3 else large, seed) for seed in range(TAKES)]
    alone = [f(seed) for f, seed in takes]
    with ThreadPoolExecutor(8) as threads:
        at_once = list(threads.map(lambda take: take[0](take[1]), takes))
    for ours, theirs in zip(at_once, alone, strict=True):
        assert_same(ours, theirs)


class Steps(Dataset):
    """What a dataset does that calls our ops in its workers."""

    def __len__(self):
        return 6

    def __getitem__(self, seed):
        return large(seed) if seed % 3 == 0 else step(seed)


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.full)])
def test_workers_of_a_data_loader(method):
    """After this process has used the pool, and threads."""
    alone = [Steps()[seed] for seed in range(6)]
    loader = DataLoader(Steps(), batch_size=None, num_workers=2, multiprocessing_context=method)
    for ours, theirs in zip(loader, alone, strict=True):
        assert_same(ours, theirs)
    assert_same(Steps()[0], alone[0])


def exit_code(f, seconds=20.0):
    """That of a fork which runs f: 0, 1 if f raises, or None if it takes longer than so many seconds."""
    pid = os.fork()
    if pid == 0:
        try:
            f()
            os._exit(0)
        except BaseException:
            os._exit(1)
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return None


def gradient(megabytes):
    logits = torch.zeros(1, megabytes * MIB // 4, requires_grad=True)
    return torch.autograd.grad(vk.nll(logits, torch.zeros_like(logits)).sum(), logits)[0]


def in_the_child():
    torch.set_num_threads(1)  # as a worker of a DataLoader does: GNU OpenMP hangs in the child of a fork
    assert (gradient(1) == 0.5).all() and vk.pool_bytes() >= 0


@pytest.mark.full
def test_a_fork_while_another_thread_is_in_the_pool():
    """The child can use the pool, whoever held its lock: a thread that gives back blocks holds it for long."""
    done, about = threading.Event(), threading.Event()

    def busy():
        while not done.is_set():
            grads = [gradient(32) for _ in range(6)]
            grads.clear()
            about.set()
            vk.set_pool_limit(1)  # all six are given back to the operating system, under the lock
            vk.set_pool_limit(1 << 30)

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        codes = []
        while len(codes) < FORKS and None not in codes:
            about.wait()
            about.clear()
            codes.append(exit_code(in_the_child))
    finally:
        done.set()
        thread.join()
    assert codes == [0] * FORKS, codes


def test_the_library_has_no_symbol_of_python():
    """So there is no GIL that it holds or needs: free-threaded Python loads it as any other does. The same wheel's
    Python files were not run there."""
    symbols = backends.choice._LIBRARY.read_bytes()
    assert b"aoti_torch_empty_strided" in symbols
    assert b"PyObject" not in symbols and b"Py_" not in symbols and b"PyGIL" not in symbols
