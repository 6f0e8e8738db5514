"""Repeats the tests of threads, forks and workers many times: `python -m soak.processes` in tests/."""

import test_processes as tests

from .record import record


def main(rounds=30):
    for _ in range(rounds):
        tests.test_many_threads_at_once()
        tests.test_a_fork_while_another_thread_is_in_the_pool()
    for method in ("fork", "spawn"):
        for _ in range(rounds // 5):
            tests.test_workers_of_a_data_loader(method)
    figures = {
        "steps on eight threads at once, each with the bits of one alone": rounds * tests.TAKES,
        "forks while another thread was in the pool, whose child could use it": rounds * tests.FORKS,
        "runs of forked and spawned workers of a DataLoader": 2 * (rounds // 5),
    }
    record("processes", "make soak-processes", figures)


if __name__ == "__main__":
    main()
