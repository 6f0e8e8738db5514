"""The harness of test_cuda_host.py finds what is wrong: faults planted in copies of csrc/cuda, and nothing else."""

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cuda_host
import pytest
from oracles import ORACLES
from places import PYTEST, TESTS

pytestmark = pytest.mark.full
if not cuda_host.CSRC.is_dir():
    pytest.skip("the tests run without the source tree beside them: there is no csrc/", allow_module_level=True)
if not shutil.which(cuda_host.CXX[0]):
    pytest.skip(f"no C++ compiler ({cuda_host.CXX[0]}) to compile csrc/cuda with", allow_module_level=True)

TABLE = Path(__file__).with_name("test_cuda_host.py")

# name -> file, what stands there, the fault in its place, the tests that see it
FAULTS = {
    "the tail of a row is one short": ("tile.h", "left = n - first;", "left = n - first - (n % V == 1);", "shapes"),
    "a head is read where a vector is": ("likelihood.h", "+ col - shift, type(", "+ col, type(", "shapes"),
    "an odd address counts as aligned": ("vector.h", "type, !wide && ", "type, !wide || ", "layouts"),
    "the first block finishes": ("elbo.h", "ticket) == at.blocks - 1", "ticket) == 0", "shapes"),
    "the ticket is not reset": ("elbo.h", "if (shared.last) *job.finish.ticket = 0;", "", "shapes"),
    "a barrier is missing": ("elbo.h", "(P == 2) Main::write_sums", "(P == 1) Main::write_sums", "shapes"),
    "a row of the next block is written": ("tile.h", "if (row < t.rows) out[", "if (row <= t.rows) out[", "shapes"),
    "levels that are not there": (
        "position.h", "run.n ? logits[j] : T(-INFINITY)", "run.n ? logits[j] : 0", "levels"),
    "a mixture's last sample": (
        "mixture_backward.h", "sample + i < job.samples", "sample + i + 1 < job.samples", "test_mixture"),
    "a mixture's last component": ("mixture.h", "!more && k < job.c", "!more && k + 1 < job.c", "test_mixture"),
    "a mixture's first tile is lost": ("mixture_backward.h", "if (turn > 0)", "if (turn > 1)", "test_mixture"),
    "a mixture's barrier is missing": (
        "mixture_backward.h", "if constexpr (P == 0) return respond(job, role, at, shared);\n    if constexpr (P == 1)",
        "if constexpr (P == 0) respond(job, role, at, shared);\n    if constexpr (P == 0)", "test_mixture"),
    "a missing element counts": ("likelihood.h", "return weight != 0;", "return true;", "poison"),
    "a missing position counts": ("position.h", "if (own != 0) {", "{", "padded"),
    "a missing latent counts": ("latent.h", "value = own != 0 ? own * value : T(0);", "value = own * value;", "poison"),
    "a sample's sum is another one": (
        "finish.h", "row_sum(job.samples[k], row)", "row_sum(job.nll, row)", "weights_beside"),
    "a unit that is closed has gradients": ("floor.h", "if (!closed) continue;", "if (closed) continue;", "floor"),
    "the KL has the incoming gradient of each sample": (
        "elbo.cpp", "if (average) average_incoming(mean);", "", "floor"),
    "a row is not corrected": ("jobs.h", "corrects && (*this)(i) == expected", "corrects", "corrected"),
    "the last element of a run is lost": (
        "jobs.h", "row == rows - 1 ? missing : 0", "row == rows - 1 ? missing + 1 : 0", "shapes"),
    "a term in a place of another column": (
        "log_prob.h", "i * job.tiling.cols + col, job.out", "i * job.tiling.cols + tile.lane, job.out", "terms"),
    "the last row of terms is lost": ("log_prob.h", "if (i >= job.tiling.rows ||", "if (i + 1 >= job.tiling.rows ||",
        "terms"),
    "the terms' run is read by the batch's rows": (
        "log_prob.cpp", "if (one_run) job.x.stride = job.tiling.cols;", "", "terms"),
    "a term without its logarithm": (
        "log_prob.h", "-(nll.value + log1p_unit(nll.e))", "-nll.value", "terms"),
    "the noise of a neighbour": ("latent.h", "= uint64_t(first) >> 2", "= uint64_t(first + 1) >> 2", "noise"),
}  # fmt: skip
NO_FAULT = "nothing is wrong"
# a file -> the object that its faults are in
ONE_UNIT = {
    "mixture.h": "mixture.cu", "mixture_backward.h": "mixture.cu", "position.h": "position.categorical",
    "floor.h": "latent.cu", "elbo.cpp": "elbo.cpp", "log_prob.cpp": "log_prob.cpp",
}  # fmt: skip
FEW = ("bernoulli", "gaussian")  # the likelihoods that these libraries have: a fault is in what all share


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """name -> the process that ran the tests on a copy of the source with this fault; two at a time."""

    def build(csrc, folder, unit=None):
        return cuda_host.build(csrc, folder / "build", FEW, optimize="-O0", threads=1, unit=unit)

    def build_sound():
        folder = tmp_path_factory.mktemp("sound")
        return build(Path(shutil.copytree(cuda_host.CSRC, folder / "csrc")), folder)

    def run(fault):
        folder = tmp_path_factory.mktemp("fault")
        csrc = Path(shutil.copytree(cuda_host.CSRC, folder / "csrc"))
        tests = "shapes or layouts or noise or test_mixture"
        if fault != NO_FAULT:
            name, there, wrong, tests = FAULTS[fault]
            source = csrc / "cuda" / name
            text = source.read_text()
            assert text.count(there) == 1, f"{there} is not once in {name}"
            source.write_text(text.replace(there, wrong))
        unit = ONE_UNIT.get(FAULTS[fault][0]) if fault != NO_FAULT else None
        if unit:
            shutil.copytree(sound.result().parent, folder / "build")
        library = sound.result() if fault == NO_FAULT else build(csrc, folder, unit)
        others = [name for name in ORACLES if name not in FEW]
        command = [*PYTEST, str(TABLE)]
        command += ["-k", f"({tests}) and not {' and not '.join(others)}"]
        env = os.environ | {cuda_host.LIBRARY: str(library)}
        return subprocess.run(command, cwd=TESTS, env=env, capture_output=True, text=True)

    with ThreadPoolExecutor(2) as pool:
        sound = pool.submit(build_sound)
        yield {fault: pool.submit(run, fault) for fault in (NO_FAULT, *FAULTS)}


@pytest.mark.parametrize("fault", [NO_FAULT, *FAULTS])
def test_a_planted_fault_is_found(planted, fault):
    done = planted[fault].result()
    found = done.returncode == 1 and "1 failed" in done.stdout
    nothing = done.returncode == 0 and " passed" in done.stdout
    assert nothing if fault == NO_FAULT else found, done.stdout[-2000:] + done.stderr[-2000:]
