"""The C++ runs through the table of tests/cpp/sanitized.cpp under AddressSanitizer, UndefinedBehaviorSanitizer and
ThreadSanitizer, which find nothing. Each sanitizer finds a fault that is planted. `python tests/support/sanitizers.py`
runs all likelihoods, a build for this processor, csrc/cuda and valgrind."""

import shutil

import pytest
import sanitizers

pytestmark = pytest.mark.full
if not sanitizers.CSRC.is_dir():
    pytest.skip("the tests run without the source tree beside them: there is no csrc/", allow_module_level=True)
if not shutil.which(sanitizers.CXX[0]):
    pytest.skip(f"no C++ compiler ({sanitizers.CXX[0]}) to compile csrc with", allow_module_level=True)

FEW = ("bernoulli", "zinb")  # one parameter and three, reals and counts; other likelihoods differ only by their formula
# ThreadSanitizer makes a program ten times slower, so it gets only the cases in which several threads work
HOW = {"address": "all", "thread": "few"}

# name: (sanitizer, file, the right code, the fault that replaces it, the words of the report)
FAULTS = {
    "a read past the end": (
        *(
            "address",
            "cpu/evaluation.cpp",
            "for (int64_t t = 0; t < tasks; ++t)",
            "for (int64_t t = 0; t <= tasks; ++t)",
        ),
        "heap-buffer-overflow",
    ),
    "a shift by more than there are bits": (
        *("address", "cpu/evaluation.cpp", "job.grad = term.any_wanted;", "job.grad = o.need[o.rows + 64];"),
        "shift exponent",
    ),
    "two tasks that add to one sum": (
        *("thread", "cpu/kernels/latent.cpp", "? job.per_dim + task.row / job.grid.task_rows * job.grid.cols :"),
        *("? job.per_dim :", "data race"),
    ),
    "a lock less": (
        *(
            "thread",
            "cpu/pool.cpp",
            "lock(mutex_);\n    free_.push_back",
            "lock(*new std::mutex);\n    free_.push_back",
        ),
        "data race",
    ),
}


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """For each sanitizer: the folder of its program without a fault, and the program's output."""
    built = {}

    def folder(sanitizer):
        if sanitizer not in built:
            place = tmp_path_factory.mktemp(sanitizer)
            built[sanitizer] = place, sanitizers.run(sanitizers.build(place, sanitizer, FEW), how=HOW[sanitizer])
        return built[sanitizer]

    return folder


@pytest.mark.parametrize("sanitizer", ["address", "thread"])
def test_nothing_is_found(folders, sanitizer):
    _, done = folders(sanitizer)
    assert done.returncode == 0 and done.stderr == "", done.stdout + done.stderr
    assert int(done.stdout.split()[0]) > {"all": 900, "few": 60}[HOW[sanitizer]]  # cases


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found(folders, fault):
    sanitizer, *plant, said = FAULTS[fault]
    folder, _ = folders(sanitizer)
    done = sanitizers.run_with_a_fault(sanitizers.build(folder, sanitizer, FEW, plant=plant), HOW[sanitizer])
    assert done.returncode != 0 and said in done.stderr, done.stdout + done.stderr
