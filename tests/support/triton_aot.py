"""Compiles the launches of the Triton backend for a GPU that need not be there, and prints properties of the code as
JSON.

    python triton_aot.py 90 [name ...]         sm_90, of NVIDIA
    python triton_aot.py gfx942 [name ...]     MI300, of AMD

A case runs the real host code on CPU tensors. The launch is only recorded. Then the kernel is compiled for the recorded
arguments: for their dtypes, alignment and integers, as Triton would specialize it. Do not set TRITON_INTERPRET.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import amd_code
import torch
import triton
from forms import of_form
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from vae_kernels.backends.triton import kernels, launch, tickets
from vae_kernels.core.objective import KlFloor
from vae_kernels.formulas import ALL
from vae_kernels.formulas.columns import KINDS as COLUMNS
from vae_kernels.formulas.columns import Columns

TYPES = {
    torch.float32: "fp32", torch.float64: "fp64", torch.bfloat16: "bf16", torch.float16: "fp16", torch.uint8: "u8",
    torch.int16: "i16", torch.int32: "i32", torch.int64: "i64", torch.bool: "i1",
}  # fmt: skip


def recorded(call):
    """The launches that call() makes: (kernel, {name: argument}, options)."""
    launches = []

    def record(self, *values):
        arguments = dict(zip(self.kernel.arg_names, self.bound(values)[0], strict=True))
        launches.append((self.kernel, arguments, self.options))

    launch.Launch.__call__ = record
    tickets.ticket = lambda device: torch.zeros(1, dtype=torch.int32)
    call()
    return launches


def compiled(kernel, arguments, options, arch):
    """arch: 90 for NVIDIA's sm_90, or the name of an AMD GPU."""
    amd = isinstance(arch, str)
    target = GPUTarget("hip", arch, amd_code.LANES) if amd else GPUTarget("cuda", arch, 32)
    return triton.compile(source_of(kernel, arguments, amd), target=target, options=options)


def source_of(kernel, arguments, amd=False):
    """The kernel as Triton would specialize it for these arguments."""
    signature, fixed, attributes = {}, {}, {}
    for i, parameter in enumerate(kernel.params):
        signature[parameter.name] = _specialized(arguments[parameter.name], (i,), parameter, fixed, attributes)
    if amd:  # Triton also looks at whether 32 bits reach every byte of a tensor
        for path, value in _tensors(arguments[parameter.name] for parameter in kernel.params):
            if value.untyped_storage().size() < 2**31 and path not in fixed:
                attributes[path] = [*attributes.get(path, ()), ["tt.pointer_range", 32]]
    return ASTSource(kernel, signature=signature, constexprs=fixed, attrs=attributes)


def _tensors(values, path=()):
    """The tensors among these arguments and in their tuples: (path, tensor)."""
    for i, value in enumerate(values):
        if isinstance(value, torch.Tensor):
            yield (*path, i), value
        elif isinstance(value, tuple):
            yield from _tensors(value, (*path, i))


def _specialized(value, path, parameter, fixed, attributes):
    """The type of the argument at this path; a path with several numbers is a member of a tuple. The do_not_specialize
    flags of a parameter do not hold for the members of a tuple."""
    inside = len(path) > 1
    specialize, align = (
        inside or not flag for flag in (parameter.do_not_specialize, parameter.do_not_specialize_on_alignment)
    )
    if parameter.is_constexpr or value is None or (type(value) is int and value == 1 and specialize):
        fixed[path] = value
        return "constexpr"
    if isinstance(value, tuple):
        types = [_specialized(v, (*path, i), parameter, fixed, attributes) for i, v in enumerate(value)]
        return type(value)(*types) if hasattr(value, "_fields") else tuple(types)
    if isinstance(value, float):
        return "fp32"
    if isinstance(value, torch.Tensor):
        kind, divisible = "*" + TYPES[value.dtype], align
    else:
        kind, divisible = "i64" if value.bit_length() > 31 else "i32", specialize and value % 16 == 0
    if divisible:
        attributes[path] = [["tt.divisibility", 16]]
    return kind


def tool(name):
    path = Path(triton.__file__).parent / "backends/nvidia/bin" / name
    return str(path if path.exists() else name)


def report(code):
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(code.asm["cubin"])
        file.flush()
        run = lambda *a: subprocess.run(a, capture_output=True, text=True, check=True).stdout  # noqa: E731
        usage = run(tool("cuobjdump"), "-res-usage", file.name)
        sass = run(tool("cuobjdump"), "-sass", file.name)
    number = lambda key: int(re.search(key + r":(\d+)", usage).group(1))  # noqa: E731
    lines = re.findall(r"^\s*/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)(.*?);", sass, re.M)
    lines = [(int(at, 16), op, rest) for at, op, rest in lines]
    ops = [op for _, op, _ in lines]
    count = lambda *names: sum(op.startswith(names) for op in ops)  # noqa: E731
    return {
        "warps": code.metadata.num_warps,
        "registers": number("REG"),
        "local_bytes": max(number("STACK"), number("LOCAL")),  # spilled registers
        "local_in_loops": _local_in_loops(lines),
        "shared_bytes": code.metadata.shared,
        "instructions": len(ops) - count("NOP"),
        "loads": count("LDG"),
        "loads_128": sum(op.startswith("LDG") and ".128" in op for op in ops),
        "stores": count("STG"),
        "stores_128": sum(op.startswith("STG") and ".128" in op for op in ops),
        "loop": _busiest_loop(lines),
        "approximate": sorted({*re.findall(r"\b[a-z0-9]+\.(?:approx|full)[a-z0-9.]*", code.asm["ptx"])}),
    }


def _local_in_loops(lines):
    """The number of loads and stores of spilled registers inside loops, where they take time."""
    branches = [(at, re.search(r"0x([0-9a-f]+)", rest)) for at, op, rest in lines if op.startswith("BRA")]
    loops = [(int(target.group(1), 16), at) for at, target in branches if target]
    inside = lambda at: any(first <= at <= last for first, last in loops)  # noqa: E731
    return sum(op.startswith(("LDL", "STL")) and inside(at) for at, op, _ in lines)


def _busiest_loop(lines):
    """The number of instructions in the loop with the most 128-bit accesses. This is the loop over full tiles."""
    best = (0, 0)  # (128-bit accesses, minus the instructions): of two equal loops the shorter one, which has no masks
    for at, op, rest in lines:
        target = re.search(r"0x([0-9a-f]+)", rest) if op.startswith("BRA") else None
        if target and int(target.group(1), 16) < at:
            body = [o for a, o, _ in lines if int(target.group(1), 16) <= a <= at]
            best = max(best, (sum(".128" in o for o in body), -len(body)))
    return -best[1]


# ---------------------------------------------------------------- cases

NONE, MASK, WEIGHT = (None, None), ("element", torch.bool), ("element", torch.float32)


def objective(dtype=torch.float32, of_x=None, shape=(256, 3072), dims=128, likelihood="bernoulli", form=None,
              reduction=1, need=None, terms=False, incoming=None, prior=False, weight=NONE,
              latent_weight=NONE, floor=KlFloor.NONE, expected=1.0, correct=False, log_total=False,
              draws=1):  # fmt: skip
    """The objective. form: of the parameters beside the first. weight, latent_weight: the form and the dtype. correct:
    the gradients are there, for the incoming gradient `expected`. log_total: there is one, with its gradient. draws: so
    many samples of the parameters, of which shape[0] is the number, stand beside one of x."""
    of_x, x_shape = of_x or dtype, (shape[0] // draws, *shape[1:])
    x = torch.zeros(x_shape, dtype=of_x)
    params = [torch.zeros(shape, dtype=dtype)]
    other = of_form(shape, form, dtype if form == "element" else torch.float32)
    params += [other] * (len(ALL[likelihood].PARAMETERS) - 1) * (form is not None)
    total = torch.zeros(shape[0], *[1] * (len(shape) - 1)) if log_total else None
    latent = [torch.zeros(shape[0], dims, dtype=dtype) for _ in range(4 if prior else 2)] if dims else []
    need = (1 << len(params) + len(latent) + log_total) - 1 if need is None else need
    weights = of_form(x_shape, *weight), of_form((shape[0], dims), *latent_weight)
    tensors = (x, params, likelihood, latent, None, None, *weights, None, total)
    common = (*tensors, 1.0, 0.5, 0.3, floor, reduction, need)
    if incoming is None:
        return lambda: kernels.elbo(*common, terms, expected)
    grad = torch.zeros(shape[:1] if incoming == "row" else ())
    if correct:
        return lambda: kernels.correct_([torch.zeros_like(t) for t in (*params, *latent)], grad, expected, *common)
    return lambda: kernels.elbo_backward(grad, *common)


def log_prob(dtype=torch.float32, of_x=None, shape=(512, 3072), likelihood="gaussian", form="element"):
    params = [torch.zeros(shape, dtype=dtype)]
    params += [of_form(shape, form, dtype)] * (len(ALL[likelihood].PARAMETERS) - 1)
    return lambda: kernels.log_prob(likelihood, torch.zeros(shape, dtype=of_x or dtype), params)


def sample(dtype=torch.float32, shape=(256, 128), draws=0, backward=False, prior=False, packed=False, shard=False,
           weight=NONE):  # fmt: skip
    mu, logvar, *rest = (torch.zeros(shape, dtype=dtype) for _ in range(4 if prior else 2))
    rng = torch.zeros(4 if shard else 2, dtype=torch.int64)
    weight = of_form(shape, *weight)
    if not backward:
        return lambda: kernels.sample(mu, logvar, rest, weight, rng, draws, True)
    grad_z = torch.zeros((draws, *shape) if draws else shape, dtype=dtype)
    need = (1 << 2 + len(rest)) - 1
    grad_kl = torch.zeros(shape[0])
    return lambda: kernels.sample_backward(grad_z, grad_kl, mu, logvar, rest, weight, rng, draws, need, packed)


def levels(dtype=torch.float32, shape=(64, 256, 3072), inner=False, of_x=torch.uint8, backward=False, weight=NONE):
    logits = torch.empty(shape, dtype=dtype)
    if inner:
        logits = torch.empty(shape[0], *shape[2:], shape[1], dtype=dtype).movedim(-1, 1)
    x = torch.zeros(shape[0], *shape[2:], dtype=of_x)
    weight = of_form(x.shape, *weight)
    if not backward:
        return lambda: kernels.position("categorical", x, logits, weight)
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    top_and_total = torch.zeros(2, shape[0], x[0].numel(), dtype=wide)
    grad = torch.zeros(shape[0], dtype=wide)
    return lambda: kernels.position_backward(grad, "categorical", x, logits, weight, top_and_total)


def pixels(dtype=torch.float32, shape=(16, 64, 64), components=10, channels=3, of_x=torch.uint8, inner=False,
           weight=NONE, what="ahead", options=(256.0, 0.0, 1.0, float("-inf"))):  # fmt: skip
    """what: "ahead" (the loss and its gradient), "forward", "backward", "correct", "log_prob". shape: the batch and the
    pixels."""
    batch, *sides = shape

    def made(n, of):
        flat = (batch, *sides, n) if inner else (batch, n, *sides)
        return torch.zeros(flat, dtype=of).movedim(-1, 1) if inner else torch.zeros(flat, dtype=of)

    name, x = "discretized_logistic_mixture", made(channels, of_x)
    packed = made(components * (3 if channels == 1 else 10), dtype)
    weight = of_form((batch, 1, *sides), *weight)
    if what == "log_prob":
        return lambda: kernels.pixel_log_prob(name, x, packed, options)
    if what == "correct":
        return lambda: kernels.pixel_correct_(packed, torch.zeros(batch), 0.1, name, x, packed, weight, options)
    if what == "backward":
        return lambda: kernels.pixel_backward(torch.zeros(batch), name, x, packed, weight, options)
    return lambda: kernels.pixel(name, x, packed, weight, options, what == "ahead", 0.1)


def table(dtype=torch.float32, rows=512, codes=False, by_cell=False, weight=NONE, backward=False):
    """A table with a column of each kind, and its gradients."""
    columns = Columns((*COLUMNS[:-1], ("categorical", 10)), codes)
    x, packed = torch.zeros(rows, columns.x_width), torch.zeros(rows, columns.width, dtype=dtype)
    logscale = torch.zeros((rows, columns.count) if by_cell else columns.count, dtype=dtype)
    arguments = x, packed, logscale, of_form((rows, columns.count), *weight), columns.table(x.device)
    if not backward:
        return lambda: kernels.segments(*arguments, 0, 1.0)
    return lambda: kernels.segments_backward(torch.zeros(rows), *arguments, 3)


def mixture(dtype=torch.float32, shape=(512, 500, 40), backward=False):
    n, k, d = shape
    inputs = [torch.zeros(s, dtype=dtype) for s in ((n, d), (k, d), (k, d), (k,))]
    if not backward:
        return lambda: kernels.mixture(*inputs, 0)
    of_samples = torch.zeros(n, dtype=dtype), *inputs, torch.zeros(n).double(), torch.zeros(n).double()
    # one kernel computes the gradient of z, and another the gradients of the components
    return lambda: kernels.mixture_backward(*of_samples, 1 if backward == "z" else 14)


BF16, U8, F16, F32, F64 = torch.bfloat16, torch.uint8, torch.float16, torch.float32, torch.float64
CASES = {
    "table": table(),
    "table codes bf16": table(BF16, codes=True),
    "table fp64": table(F64),
    "table mask": table(weight=MASK),
    "table backward": table(backward=True),
    "table backward codes bf16": table(BF16, codes=True, backward=True),
    "table backward fp64": table(F64, backward=True),
    "table backward by cell": table(by_cell=True, weight=WEIGHT, backward=True),
    "bernoulli": objective(),
    "bernoulli bf16": objective(BF16),
    "bernoulli bf16 x fp32": objective(BF16, torch.float32),
    "bernoulli bf16 x u8": objective(BF16, U8),
    "bernoulli fp16": objective(F16, need=0),
    "bernoulli fp64": objective(F64),
    "bernoulli no gradient": objective(need=0),
    "bernoulli terms": objective(terms=True),
    "bernoulli 784 terms": objective(shape=(128, 784), dims=20, terms=True),
    "bernoulli 785": objective(shape=(1024, 785), dims=20),
    "bernoulli per sample": objective(reduction=0, need=0),
    "bernoulli backward": objective(incoming="number"),
    "bernoulli backward per sample": objective(reduction=0, incoming="row"),
    "bernoulli alone": objective(dims=0),
    "bernoulli large": objective(shape=(256, 12288), dims=0),
    "bernoulli large bf16": objective(BF16, shape=(256, 12288), dims=0),
    "bernoulli large bf16 x u8": objective(BF16, U8, shape=(256, 12288), dims=0),
    "gaussian large": objective(shape=(256, 12288), dims=0, likelihood="gaussian"),
    "gaussian large number": objective(shape=(256, 12288), dims=0, likelihood="gaussian", form="number"),
    "gaussian large element": objective(shape=(256, 12288), dims=0, likelihood="gaussian", form="element"),
    "laplace large element": objective(shape=(256, 12288), dims=0, likelihood="laplace", form="element"),
    "continuous_bernoulli large": objective(shape=(256, 12288), dims=0, likelihood="continuous_bernoulli"),
    "discretized_logistic large element": objective(
        of_x=U8, shape=(256, 12288), dims=0, likelihood="discretized_logistic", form="element"
    ),
    "discretized_logistic large number": objective(
        of_x=U8, shape=(256, 12288), dims=0, likelihood="discretized_logistic", form="number"
    ),
    "bernoulli large terms": objective(shape=(256, 12288), terms=True),
    "gaussian unit": objective(likelihood="gaussian"),
    "gaussian number": objective(likelihood="gaussian", form="number"),
    "gaussian row": objective(likelihood="gaussian", form="row"),
    "gaussian element": objective(likelihood="gaussian", form="element"),
    "gaussian element bf16": objective(BF16, likelihood="gaussian", form="element"),
    "gaussian element backward": objective(likelihood="gaussian", form="element", incoming="row", reduction=0),
    "counts 1": objective(shape=(256, 12288), dims=0, likelihood="poisson"),
    "counts 2": objective(likelihood="negative_binomial", form="row"),
    "counts 3": objective(shape=(256, 12288), dims=0, likelihood="zinb", form="element"),
    "counts 3 i16": objective(F32, torch.int16, likelihood="zinb", form="row"),
    "counts 4": objective(shape=(256, 12288), dims=0, likelihood="negative_binomial_mixture", form="element"),
    "counts 4 row": objective(likelihood="negative_binomial_mixture", form="row"),
    "counts 4 mask": objective(likelihood="negative_binomial_mixture", form="element", weight=MASK),
    "bernoulli large mask": objective(shape=(256, 12288), dims=0, weight=MASK),
    "gaussian large number weight": objective(
        shape=(256, 12288), dims=0, likelihood="gaussian", form="number", weight=WEIGHT
    ),
    "gaussian large element mask": objective(
        shape=(256, 12288), dims=0, likelihood="gaussian", form="element", weight=MASK
    ),
    "gaussian row mask": objective(likelihood="gaussian", form="row", weight=MASK),
    "gaussian sample": objective(likelihood="gaussian", form="sample"),
    "counts 3 mask": objective(likelihood="zinb", form="row", weight=MASK),
    "prior weight": objective(prior=True, terms=True, latent_weight=WEIGHT),
    "prior": objective(prior=True),
    "many rows": objective(shape=(1 << 17, 8), dims=4, terms=True, reduction=0),
    "few columns": objective(shape=(8192, 5), dims=2),
    "few columns mask": objective(shape=(8192, 10), dims=0, weight=MASK),
    "few columns per sample": objective(shape=(8192, 5), dims=0, reduction=0, expected=0.1),
    "one column per sample": objective(shape=(65536, 1), dims=0, reduction=0, expected=0.1, weight=MASK),
    "bernoulli ahead": objective(reduction=0, expected=0.1),
    "bernoulli ahead alone": objective(shape=(256, 784), dims=0, reduction=0, expected=0.1),
    "bernoulli correct": objective(reduction=0, expected=0.1, incoming="row", correct=True),
    "gaussian correct": objective(likelihood="gaussian", form="element", reduction=0, incoming="row", correct=True),
    "free bits of dims": objective(floor=KlFloor.PER_DIM),
    "free bits of dims backward": objective(floor=KlFloor.PER_DIM, reduction=0, incoming="row"),
    "free bits of samples": objective(floor=KlFloor.PER_SAMPLE),
    "free bits of many dims": objective(shape=(512, 64), dims=4096, floor=KlFloor.PER_BATCH_MEAN, terms=True),
    "product row": objective(shape=(128, 50000), dims=0, likelihood="bernoulli_product", form="row"),
    "product element": objective(shape=(256, 12288), dims=0, likelihood="bernoulli_product", form="element"),
    "rows": objective(shape=(128, 20000), dims=0, likelihood="negative_binomial", form="row", log_total=True),
    "rows bf16 x i16": objective(
        BF16, torch.int16, (128, 20000), 0, likelihood="negative_binomial", form="row", log_total=True
    ),
    "rows zinb mask": objective(
        shape=(128, 20000), dims=0, likelihood="zinb", form="element", log_total=True, weight=MASK
    ),
    "rows alike": objective(shape=(128, 20000), dims=0, likelihood="poisson", log_total=True),
    "rows multinomial": objective(shape=(500, 20108), dims=0, likelihood="multinomial"),
    "log_prob": log_prob(),
    "log_prob bf16 x u8": log_prob(BF16, U8, likelihood="bernoulli"),
    "log_prob row": log_prob(form="row"),
    "log_prob counts": log_prob(likelihood="zinb"),
    "log_prob counts 4": log_prob(likelihood="negative_binomial_mixture"),
    "log_prob 5": log_prob(shape=(8192, 5)),
    "sample": sample(),
    "sample bf16": sample(BF16),
    "sample fp64": sample(F64),
    "sample 20": sample(shape=(128, 20)),
    "sample 21": sample(shape=(128, 21)),
    "sample long": sample(shape=(8, 4096)),
    "sample prior": sample(prior=True),
    "sample shard": sample(shard=True),
    "sample shard 21": sample(shape=(128, 21), shard=True),
    "sample weight": sample(weight=WEIGHT),
    "sample backward": sample(backward=True),
    "sample backward mask": sample(backward=True, weight=MASK),
    "sample backward bf16 draws": sample(BF16, draws=5, backward=True),
    "sample backward prior": sample(backward=True, prior=True),
    "sample backward packed": sample(backward=True, packed=True),
    "sample backward shard": sample(draws=5, backward=True, shard=True),
    "levels": levels(),
    "levels inner": levels(inner=True),
    "levels bf16": levels(BF16),
    "levels fp64": levels(F64, of_x=torch.int64),
    "levels 1000": levels(shape=(4096, 1000), of_x=torch.int16),
    "levels many": levels(shape=(8, 5000, 64), of_x=torch.int64),
    "levels mask": levels(weight=MASK),
    "levels backward": levels(backward=True),
    "levels backward mask": levels(backward=True, weight=MASK),
    "levels backward inner": levels(inner=True, backward=True),
    "levels backward bf16": levels(BF16, backward=True),
    "levels backward fp64": levels(F64, backward=True, of_x=torch.int64),
    "levels backward many": levels(shape=(8, 5000, 64), backward=True),
    "pixels": pixels(),
    "pixels forward": pixels(what="forward"),
    "pixels correct": pixels(what="correct"),
    "pixels backward mask": pixels(what="backward", weight=MASK),
    "pixels bf16 inner": pixels(BF16, inner=True),
    "pixels grey least": pixels(channels=1, of_x=F32, options=(256.0, -1.0, 1.0, -7.0)),
    "pixels log_prob": pixels(what="log_prob"),
    "mixture": mixture(shape=(1 << 16, 10, 20)),
    "mixture backward z": mixture(backward="z"),
    "mixture backward components": mixture(backward="components"),
    "draws": objective(shape=(6400, 784), dims=0, draws=50),
    "draws weight": objective(shape=(6400, 784), dims=0, draws=50, likelihood="gaussian", form="row", weight=WEIGHT),
    "rescale": lambda: kernels.rescale_([torch.zeros(1 << 20), torch.zeros(64), torch.zeros(64)], torch.ones(())),
    "rescale bf16": lambda: kernels.rescale_([torch.zeros(1 << 20, dtype=BF16)], torch.ones(())),
}
# These cases take too long for the tests; name them on the command line.
MORE = {
    "draws few columns": objective(shape=(65536, 2), dims=0, draws=16),
    "mixture shared": mixture(),  # several programs work on each sample, and their results are joined
    "rows fp64": objective(F64, shape=(128, 2000), dims=0, likelihood="negative_binomial", form="row", log_total=True),
    "mixture fp64": mixture(F64),
    "pixels fp64": pixels(F64, of_x=F64),
    "mixture backward z fp64": mixture(F64, backward="z"),
    "mixture backward components fp64": mixture(F64, backward="components"),
}


def main():
    arch, *names = sys.argv[1:]
    arch, of_code = (arch, amd_code.report) if arch.startswith("gfx") else (int(arch), report)
    results = {}
    for name in names or CASES:
        for kernel, arguments, options in recorded((CASES | MORE)[name]):
            code = compiled(kernel, arguments, options, arch)
            results[f"{name}: {kernel.fn.__name__}"] = of_code(code)
    print(json.dumps({"triton": triton.__version__, "arch": arch, "kernels": results}, indent=1))


if __name__ == "__main__":
    main()
