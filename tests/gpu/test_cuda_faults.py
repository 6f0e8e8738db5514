"""The harness of test_cuda_host.py finds what is wrong: faults planted in copies of csrc/cuda, and nothing else.

Each fault takes half a minute: a compiler, and a run of test_cuda_host.py. CI takes a few faults, in several files: one
for which everything is compiled, and others for which one unit is.
"""

import os
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cuda_host
import pytest
from oracles import ORACLES
from places import PYTEST, TESTS

from vae_kernels.formulas import ROW

pytestmark = pytest.mark.full
if not cuda_host.CSRC.is_dir():
    pytest.skip("the tests run without the source tree beside them: there is no csrc/", allow_module_level=True)
if not shutil.which(cuda_host.CXX[0]):
    pytest.skip(f"no C++ compiler ({cuda_host.CXX[0]}) to compile csrc/cuda with", allow_module_level=True)

TABLE = Path(__file__).with_name("test_cuda_host.py")

ROWS = "test_rows or of_rows or in_rows"
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
    "a missing element counts": ("likelihood_columns.h", "return weight != 0;", "return true;", "poison"),
    "a missing position counts": ("position.h", "if (own != 0) {", "{", "padded"),
    "a missing pixel counts": ("pixel.h", "own != 0 ? own * value(s) : T(0)", "own * value(s)", "of_pixels"),
    "the first channel is every channel": ("pixel.h", "in_row(job, s, C, c);", "in_row(job, s, C, 0);", "pixels"),
    "a component has the numbers of the next": (
        "pixel.h", "p[j] = number(job, s, components + j * components + k)",
        "p[j] = number(job, s, components + j * components + (k + 1) % components)", "pixels"),
    "a component without a probability counts": ("pixel.h", "share == 0 ? T(0) : share * d[j]", "share * d[j]",
        "extreme_pixels"),
    "a pixel of the next sample": ("pixel.h", "s.row = pixel / job.cols;", "s.row = (pixel + 1) / job.cols;", "pixels"),
    "a table's last category is lost": ("segments.h", "k + j < c.width ?", "k + j + 1 < c.width ?", "test_tables"),
    "a missing cell counts": ("segments.h", "own != 0 ? own * by[0] : T(0)", "own * by[0]", "missing_cells"),
    "a cell has the weight of the row's first": ("segments.h", "(job.weights, row, column)", "(job.weights, row, 0)",
        "missing_cells"),
    "what is no category counts": ("segments.h", "if (chosen < 0) s.total = T(NAN);", "", "that_are_none"),
    "two hot numbers are one": ("segments.h", "ones == 1 && others == 1", "ones >= 1", "that_are_none"),
    "a table's last thread is not added up": (
        "segments.h", "if (at.thread < half)", "if (at.thread < half - 1)", "test_tables"),
    "a tanh without its slope": ("../formulas/mixed.h", "location.slope * d[0]", "d[0]", "test_tables"),
    "a table's second launch writes to the first rows": (
        "segments.cpp", "out[0].mut<char>() + first * bytes", "out[0].mut<char>()", "rows_of_a_table"),
    "a missing latent counts": ("latent.h", "value = own != 0 ? own * value : T(0);", "value = own * value;", "poison"),
    "a sample's sum is another one": (
        "finish.h", "row_sum(job.samples[k], row)", "row_sum(job.nll, row)", "weights_beside"),
    "a unit that is closed has gradients": ("floor.h", "if (!closed) continue;", "if (closed) continue;", "floor"),
    "the KL has the incoming gradient of each sample": (
        "elbo.cpp", "if (average) average_incoming(mean);", "", "floor"),
    "a draw has the next row of x": ("../matrix.h", "U(r) % U(rows)", "U(r + 1) % U(rows)", "draws"),
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
    "the last element has no share": (
        "row.h", "logits[j] = j * apart < n ?", "logits[j] = (j + 1) * apart < n ?", ROWS),
    "threads of a row are not joined": ("row.h", "(half >= job.along || lane >= half)", "(half > 1)", ROWS),
    "each element has the number of the row": ("row.h", "(first ? number : T(0))", "number", ROWS),
    "a row has one partial sum": ("row_gradients.h", "j < job.pieces; j += t.lanes", "j < 1; j += t.lanes", ROWS),
    "a share has no top": ("row_gradients.h", "exp_or_zero(logits[j] - top)", "exp_or_zero(logits[j])", ROWS),
    "a weight does not reach log_total": ("likelihood_columns.h", "by_total *= weights[0];", "", ROWS),
    "a weighted row is counted": ("row_plan.h", " && !likelihood.weights.col_stride", "", ROWS),
    "rows without their soft-max": ("elbo.cpp", "if (row) row->before();", "", ROWS),
}  # fmt: skip
IN_CI = (
    "the tail of a row is one short", "levels that are not there", "a mixture's last sample",
    "the last element has no share",
)  # fmt: skip
NO_FAULT, NO_FAULT_OF_ROWS = "nothing is wrong", "nothing is wrong with rows"
ALL = NO_FAULT, NO_FAULT_OF_ROWS, *FAULTS
# a file -> the object that its faults are in
ONE_UNIT = {
    "mixture.h": "mixture.cu", "mixture_backward.h": "mixture.cu", "position.h": "position.categorical",
    "pixel.h": "pixel.discretized_logistic_mixture",
    "segments.h": "segments.cu", "../formulas/mixed.h": "segments.cu", "segments.cpp": "segments.cpp",
    "floor.h": "latent.cu", "elbo.cpp": "elbo.cpp", "log_prob.cpp": "log_prob.cpp",
}  # fmt: skip
ONE_UNIT_OF_ROWS = {
    "row.h": "likelihood.poisson", "likelihood_columns.h": "likelihood.poisson", "row_gradients.h": "row.cu",
    "row_plan.h": "elbo.cpp", "elbo.cpp": "elbo.cpp",
}  # fmt: skip
# These libraries have few likelihoods, because each fault is in code that all likelihoods share.
FEW, FEW_OF_ROWS = ("bernoulli", "gaussian"), ("poisson",)
LIMIT = 900  # seconds, of two processes on two busy cores: a fault may be a loop without an end


@pytest.fixture(scope="module")
def planted(tmp_path_factory, request):
    """name -> the process that ran the tests on a copy of the source with this fault; two at a time."""

    def build(csrc, folder, few, unit=None):
        return cuda_host.build(csrc, folder / "build", few, optimize="-O0", threads=1, unit=unit)

    def build_sound(few):
        folder = tmp_path_factory.mktemp("sound")
        return build(Path(shutil.copytree(cuda_host.CSRC, folder / "csrc")), folder, few)

    def run(fault):
        folder = tmp_path_factory.mktemp("fault")
        csrc = Path(shutil.copytree(cuda_host.CSRC, folder / "csrc"))
        tests = ROWS if fault == NO_FAULT_OF_ROWS else "shapes or layouts or noise or test_mixture or tables"
        if fault in FAULTS:
            name, there, wrong, tests = FAULTS[fault]
            source = csrc / "cuda" / name
            text = source.read_text()
            assert text.count(there) == 1, f"{there} is not once in {name}"
            source.write_text(text.replace(there, wrong))
        few = FEW_OF_ROWS if tests == ROWS else FEW
        units = ONE_UNIT_OF_ROWS if tests == ROWS else ONE_UNIT
        unit = units.get(FAULTS[fault][0]) if fault in FAULTS else None
        if unit:
            shutil.copytree(sound[few].result().parent, folder / "build")
        library = build(csrc, folder, few, unit) if fault in FAULTS else sound[few].result()
        others = [name for name in (*ORACLES, *ROW) if name not in few]
        command = [*PYTEST, "--full", str(TABLE)]
        command += ["-k", f"({tests}) and not {' and not '.join(others)}"]
        env = os.environ | {cuda_host.LIBRARY: str(library)}
        return subprocess.run(command, cwd=TESTS, env=env, capture_output=True, text=True, timeout=LIMIT)

    chosen = {item.callspec.params["fault"] for item in request.session.items if item.path == request.path}
    with ThreadPoolExecutor(2) as pool:
        sound = {few: pool.submit(build_sound, few) for few in (FEW, FEW_OF_ROWS)}
        yield {fault: pool.submit(run, fault) for fault in ALL if fault in chosen}


@pytest.mark.parametrize("fault", [f if f in IN_CI else pytest.param(f, marks=pytest.mark.soak) for f in ALL])
def test_a_planted_fault_is_found(planted, fault):
    done = planted[fault].result()
    found = done.returncode == 1 and "1 failed" in done.stdout
    nothing = done.returncode == 0 and " passed" in done.stdout
    assert found if fault in FAULTS else nothing, done.stdout[-2000:] + done.stderr[-2000:]
