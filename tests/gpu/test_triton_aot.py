"""What the Triton kernels look like when they are compiled for GPUs: no spilled register, few registers, wide accesses.

Under another Triton than the one installed: TRITON_PATH=<folder that holds it> pytest tests/gpu/test_triton_aot.py
"""

import importlib.util
import os
import re

import approximate
import other_triton
import pytest

pytestmark = pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="triton is not installed")

ARCHS = os.environ.get("TRITON_ARCHS", "90").split(",")  # of 80, 90 and 100: `make soak-triton` compiles for all
MIXTURE_TILES = re.compile("mixture_kernel|mixture_backward_kernel")
TILE = 1024  # elements


def compile_for(arch, *names):
    """What triton_aot.py says of these kernels, or of all."""
    return other_triton.run("triton_aot.py", arch, *names)


@pytest.fixture(scope="module", params=ARCHS, ids="sm_{}".format)
def compiled(request):
    return compile_for(request.param)


@pytest.mark.full
def test_the_two_that_run_most():
    """The gates of the whole table below, for Bernoulli and the sample: these two compile in seconds."""
    few = compile_for(90, "bernoulli large", "sample")
    assert all(k["local_bytes"] == 0 and k["registers"] <= 64 for k in few["kernels"].values()), few
    test_full_tiles_are_read_and_written_128_bits_wide(few, "bernoulli large")
    test_instructions_an_element(few, "bernoulli large")


def old(compiled):
    return tuple(map(int, compiled["triton"].split(".")[:2])) < (3, 9)


@pytest.mark.full
def test_no_register_is_spilled(compiled):
    spilled = {name: k for name, k in compiled["kernels"].items() if k["local_bytes"]}
    # Two registers once a program: 64 registers leave room for two programs of 16 warps.
    four = spilled.pop("counts 4 mask: elbo_kernel", None)
    assert four is None or (four["local_bytes"] <= 8 and not four["local_in_loops"]), four
    # Two registers once a program on sm_80, which gives 72 to seven programs
    for name in ("pixels forward: pixel_kernel", "pixels log_prob: pixel_kernel"):
        two = spilled.pop(name, None)
        assert two is None or (two["local_bytes"] <= 8 and not two["local_in_loops"]), two
    if old(compiled):
        # Four registers once a program: their assembler keeps 40 registers rather than that. Two of what adds up at the
        # end of a launch, in its loop.
        for name, kernel in [*spilled.items()]:
            once = kernel["local_bytes"] <= 16 and not kernel["local_in_loops"]
            if once or (kernel["local_bytes"] <= 8 and name.endswith("finish_kernel")):
                del spilled[name]
    assert spilled == {}


@pytest.mark.full
def test_registers_leave_room_for_other_programs(compiled):
    """64 are 8 programs of 4 warps on a multiprocessor: half of its threads, and enough loads on their way."""
    registers = {name: k["registers"] for name, k in compiled["kernels"].items()}
    # Two deviances and Stirling's formula three times: with 8 warps 2 programs, or 1, and nothing spilled. Four
    # deviances: one program of 16 warps. Three parameters and their gradients: 2 programs.
    names = "counts 2: elbo", "counts 3", "counts 4", "product"
    of_rows = [name for name in registers if name.startswith("rows") and name.endswith(": elbo_kernel")]
    long = {name: registers.pop(name) for name in [*registers] if name.startswith(names) or name in of_rows}
    assert max(long.values()) <= 168, long
    # float64, which is there to be right. 65 to 72 on one of the architectures: seven programs. And a formula of 110
    # to 150 instructions an element: arithmetic is its limit and not memory, and three programs are enough for that.
    doubles = {name: registers.pop(name) for name in [*registers] if name.startswith("levels") and "fp64" in name}
    assert max(doubles.values()) <= 128, doubles
    # The nine numbers of a component and their gradients: arithmetic is the limit, and seven programs are enough. Where
    # the numbers of a pixel lie side by side, the soft-max has a tile of 16 of them for each pixel: three programs.
    of_pixels = {name: registers.pop(name) for name in [*registers] if name.endswith(": pixel_kernel")}
    assert of_pixels.pop("pixels bf16 inner: pixel_kernel") <= 168 and max(of_pixels.values()) <= 72, of_pixels
    # A table: the formulas of all kinds of columns in one kernel. float64 is there to be right.
    tables = {name: registers.pop(name) for name in [*registers] if name.startswith("table")}
    if old(compiled):  # three programs of 4 warps instead of four, on sm_80
        assert tables.pop("table backward by cell: segments_kernel") <= 136, tables
    assert max(n for name, n in tables.items() if "fp64" not in name) <= 128 and max(tables.values()) <= 168, tables
    # A mixture's limit is arithmetic: 16 independent sums a thread need no more than the four programs that 128 leave.
    of_mixture = {name: registers.pop(name) for name in [*registers] if MIXTURE_TILES.search(name)}
    assert len(of_mixture) == 3 and max(of_mixture.values()) <= 128, of_mixture
    # 80 on sm_80, where 8 warps a program make three programs of it: as many threads as six of 4 warps
    assert registers.pop("levels backward inner: position_backward_kernel") <= 80, registers
    assert registers.pop("log_prob counts: log_prob_kernel") <= 72, registers  # the formula of zinb: seven programs
    many = {name for name, n in registers.items() if n > 64}
    seven = {"many rows", "continuous_bernoulli large"}
    if old(compiled):  # one program fewer than under 3.9
        seven |= {"gaussian large element", "bernoulli 785", "few columns", "few columns per sample"}
        assert registers["levels backward bf16: position_backward_kernel"] <= 72, registers
        many -= {"levels backward bf16: position_backward_kernel"}
        # 72 under 3.8: a launch of a few programs, which leaves room anyway
        strips = {name for name in many if name.endswith(": strips_kernel")}
        assert all(registers[name] <= 72 for name in strips), registers
        many -= strips
    three = {"discretized_logistic large number", "discretized_logistic large element"}
    six = {"gaussian row"} if old(compiled) else set()  # of 4 warps, where 80 registers leave room for six
    assert many <= {f"{name}: elbo_kernel" for name in {"bernoulli fp64"} | seven | six | three}, registers
    assert all(registers[f"{name}: elbo_kernel"] <= 80 for name in six)
    assert all(registers[f"{name}: elbo_kernel"] <= 72 for name in seven)
    assert all(registers[f"{name}: elbo_kernel"] <= 168 for name in three)


@pytest.mark.full
def test_levels_are_read_and_written_128_bits_wide(compiled):
    """16 elements a thread of a tile, whichever way the levels lie; and what is read of x, and of the forward pass."""
    kernels = compiled["kernels"]
    for name, wide in {"": 4, " inner": 4, " bf16": 2}.items():
        forward = kernels[f"levels{name}: position_kernel"]
        backward = kernels[f"levels backward{name}: position_backward_kernel"]
        assert forward["loads_128"] >= wide and backward["loads_128"] >= wide, name
        assert backward["stores_128"] == backward["stores"] == wide, name


@pytest.mark.full
@pytest.mark.parametrize(("name", "most"), {"levels: position": 20, "levels backward: position_backward": 21}.items())
def test_instructions_a_level(compiled, name, most):
    """At 3 TB/s an H100 has time for 39 at 4 bytes an element, and for 78 at 8."""
    assert 0 < compiled["kernels"][f"{name}_kernel"]["loop"] / 16 <= most, compiled["kernels"][f"{name}_kernel"]


@pytest.mark.full
def test_rows_are_read_and_written_128_bits_wide(compiled):
    """16 elements a thread of row_kernel, and 8 of row_gradients_kernel, which reads two arrays."""
    kernels = compiled["kernels"]
    for name, (of_row, wide, out) in {"rows": (4, 4, 2), "rows bf16 x i16": (2, 3, 1)}.items():
        before, behind = kernels[f"{name}: row_kernel"], kernels[f"{name}: row_gradients_kernel"]
        assert before["loads_128"] >= of_row and behind["loads_128"] >= wide and behind["stores_128"] >= out, name
    assert kernels["rows alike: row_kernel"]["loads_128"] >= 8  # of x too


@pytest.mark.full
@pytest.mark.parametrize(("name", "most"), {"rows": 12, "rows alike": 15}.items())
def test_instructions_of_a_soft_max(compiled, name, most):
    """At 3 TB/s an H100 has time for 39 at 4 bytes an element."""
    assert 0 < compiled["kernels"][f"{name}: row_kernel"]["loop"] / 16 <= most, compiled["kernels"]


WIDE = {  # name -> 128-bit loads and stores of one tile: arrays read and written times their bytes, over 16
    "bernoulli large": (4, 2),
    "bernoulli large bf16": (2, 1),
    "bernoulli large bf16 x u8": (1, 1),  # x: 64 bits, eight levels a thread
    "gaussian large": (4, 2),
    "gaussian large number": (4, 2),
    "gaussian large element": (6, 4),
    "laplace large element": (6, 4),
    "continuous_bernoulli large": (4, 2),
    "discretized_logistic large element": (4, 4),  # and x: 64 bits, eight levels a thread
    "bernoulli large mask": (2, 1),  # by 8 warps: four elements a thread, and 32 bits of the mask
    "gaussian large number weight": (3, 1),
    "gaussian large element mask": (3, 2),
    "few columns": (4, 2),  # as one long row
    "few columns mask": (2, 1),
    "bernoulli ahead alone": (4, 2),
    "draws": (4, 2),
    "bernoulli correct": (4, 2),
}


@pytest.mark.full
@pytest.mark.parametrize("name", WIDE)
def test_full_tiles_are_read_and_written_128_bits_wide(compiled, name):
    kernel = compiled["kernels"][f"{name}: elbo_kernel"]
    loads, stores = WIDE[name]
    assert kernel["loads_128"] >= loads and kernel["stores_128"] >= stores, kernel


@pytest.mark.full
def test_odd_row_lengths_do_not_stop_the_wide_accesses(compiled):
    """1024 x 785 is read as one long row."""
    kernel = compiled["kernels"]["bernoulli 785: elbo_kernel"]
    assert kernel["loads_128"] >= 4 and kernel["stores_128"] >= 2


INSTRUCTIONS = {  # an element, in the loop over full tiles; under Triton before 3.9
    "bernoulli large": (30, 36),
    "bernoulli large bf16": (32, 37),
    "bernoulli large bf16 x u8": (34, 40),
    "gaussian large": (12, 14),
    "gaussian large number": (20, 22),
    "gaussian large element": (33, 35),
    "laplace large element": (35, 36),
    "continuous_bernoulli large": (64, 69),
    "discretized_logistic large element": (153, 156),
    "discretized_logistic large number": (122, 128),
    "bernoulli large mask": (36, 40),
    "gaussian large number weight": (30, 31),
    "gaussian large element mask": (41, 42),
}


@pytest.mark.full
@pytest.mark.parametrize("name", INSTRUCTIONS)
def test_instructions_an_element(compiled, name):
    """At 3 TB/s an H100 has time for 196 at 20 bytes an element, 118 at 12, 59 at 6 and 49 at 5. With 8-bit x
    the discretized_logistic moves 17 bytes, or 9 with one logscale, and has time for 167 or 88."""
    kernel = compiled["kernels"][f"{name}: elbo_kernel"]
    a_thread = TILE / (32 * kernel["warps"])
    assert 0 < kernel["loop"] / a_thread <= INSTRUCTIONS[name][old(compiled)], kernel


@pytest.mark.full
def test_the_noise_costs_few_instructions(compiled):
    """Everything included: Philox, Box-Muller, exp, the KL, addresses and sums. tl.randn alone is 170 to 220."""
    for name in ("sample: sample_kernel", "sample bf16: sample_kernel", "sample backward: sample_backward_kernel"):
        assert compiled["kernels"][name]["instructions"] / 4 <= 150, name


@pytest.mark.full
def test_approximate_instructions_are_those_whose_error_is_known(compiled):
    """tests/gpu/test_approximate.py holds the kernels to their budget under the errors of these, in float32."""
    found = {name for kernel in compiled["kernels"].values() for name in kernel["approximate"]}
    assert {name for name in found if not name.endswith("f64")} <= {*approximate.INSTRUCTIONS}
