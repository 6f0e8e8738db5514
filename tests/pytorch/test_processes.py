"""Many threads at the same time, forked and spawned workers, and a fork while another thread uses the pool: all give
the bits of one thread alone."""

import os
import re
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
    """Like step(), but the results are so large that the pool gives their memory."""
    return step(seed, ["bernoulli"], LARGE)


@pytest.mark.full
def test_many_threads_at_once():
    """Each thread calls the same ops on its own inputs. The memory of some results comes from the pool."""
    takes = [(step if seed % 3 else large, seed) for seed in range(TAKES)]
    alone = [f(seed) for f, seed in takes]
    with ThreadPoolExecutor(8) as threads:
        at_once = list(threads.map(lambda take: take[0](take[1]), takes))
    for ours, theirs in zip(at_once, alone, strict=True):
        assert_same(ours, theirs)


class Steps(Dataset):
    """A dataset that calls our ops in its workers."""

    def __len__(self):
        return 6

    def __getitem__(self, seed):
        return large(seed) if seed % 3 == 0 else step(seed)


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.full)])
def test_workers_of_a_data_loader(method):
    """The workers start after this process has used threads and the pool. Their results must have the same bits."""
    alone = [Steps()[seed] for seed in range(6)]
    loader = DataLoader(Steps(), batch_size=None, num_workers=2, multiprocessing_context=method)
    for ours, theirs in zip(loader, alone, strict=True):
        assert_same(ours, theirs)
    assert_same(Steps()[0], alone[0])


def exit_code(f, seconds=20.0):
    """Runs f in a fork and gives its exit code: 0, or 1 if f raises, or None if f takes longer than `seconds`."""
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
    torch.set_num_threads(1)  # GNU OpenMP hangs in the child of a fork, so a worker of a DataLoader does this too
    assert (gradient(1) == 0.5).all() and vk.pool_bytes() >= 0


@pytest.mark.full
def test_a_fork_while_another_thread_is_in_the_pool():
    """The child of a fork can use the pool, even if another thread held the lock of the pool at the fork. A thread that
    gives blocks back to the system holds the lock for a long time."""
    done, about = threading.Event(), threading.Event()

    def busy():
        while not done.is_set():
            grads = [gradient(32) for _ in range(6)]
            grads.clear()
            about.set()
            vk.set_pool_limit(1)  # all six blocks are given back to the operating system while the lock is held
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
    """The library does not use Python, so it neither holds nor needs the GIL, and free-threaded Python can load it. The
    Python files of the package were not tried there."""
    # Names of symbols stand between zeros. Other bytes of 6 MB may spell "Py_" by chance.
    names = set(re.findall(rb"(?<=\0)\w{4,}(?=\0)", backends.choice._LIBRARY.read_bytes()))
    assert b"aoti_torch_empty_strided" in names
    assert not [name for name in names if re.match(rb"_?Py[A-Z_]", name)]
