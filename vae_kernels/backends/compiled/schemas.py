"""The ops: what they take and give, and who computes them.

csrc/ops.cpp attaches the C++ kernels when the compiled library is loaded. Ops are pure:
they mutate nothing, draw nothing, and read weights on the device. Their arguments were checked by functional.py.

    elbo             the loss, its terms, and the gradients that `need` asks for, in one pass:
                     [loss, terms if terms, *gradients]. The terms are one flat tensor, as a tensor costs more than what
                     is in it: the loss, or its mean where it is [B]; nll if params; kl if latent; kl_per_dim if it has
                     dims
    elbo_backward    those gradients alone, for an incoming gradient of the shape of the loss
    log_prob         log p of each element of x, for a likelihood of the element kind: of the shape of x, in the order
                     of params[0]. Its gradients are those of elbo_backward with the incoming gradient as `weight`
    sample           [z, kl if with_kl]
    sample_backward  the gradients that `need` asks for
    position         [nll, top_and_total] of a likelihood of the position kind
    position_backward  the gradient of the logits
    pixel            [nll, the gradient of packed if `ahead`], of a likelihood of the pixel kind
    pixel_backward   the gradient of packed, for an incoming gradient [B], or 0-d for all samples
    pixel_log_prob   log p of each pixel, [B, 1, ...], in the order of packed
    segments         [nll, terms, *gradients that `need` asks for] of a table, in one pass
    segments_backward  those gradients alone, for an incoming gradient of each sample
    mixture          [log_p, peak, log_sum, *gradients of log_p.sum() that `need` asks for]: log p(z) of a mixture, and
                     in float64 the two numbers whose sum it is; on the CPU, gradients of few components alone
    mixture_backward the gradients that `need` asks for
    decomposition    on the CPU alone: the results of formulas/decomposition.py, and `kept` for the backward pass:
                     float64 [2, B, 1 + L]. The sum of both halves is log q(z_i) and log q(z_id), less log_other
    decomposition_backward  the gradients of z, mu and logvar, under the incoming gradients of the three results

x           [B, ...] target, or None with params = []: no likelihood term. Except in log_prob, the parameters and
            with them all results may have K B samples: sample r is then beside sample r % B of x and of its weight
            (core/draws.py)
params      the likelihood's parameters: of the shape of x, x.shape[1:] (one row for all samples), [B, 1, ...] (one
            number for each sample) or 0-d; the first has the shape of x; trailing ones that are left out are 0. All in
            one dense order of their dimensions.
latent      [], [kl], [mu, logvar] or [mu, logvar, prior_mu, prior_logvar]
rec_weight  0-d, or None; the weight is this times rec_weight_factor. Likewise beta, also one for each latent dimension.
weight      of each term of the likelihood, or None: bool or floating, of the shape of x, x.shape[1:], [B, 1, ...] or
            0-d, in the order of x. A term of weight 0 is missing: its value and gradients are 0, whatever is there
latent_weight  likewise of the KL, against latent[0]; in sample and sample_backward against mu
nats        0-d, or None: nats * nats_factor is what a unit of the KL costs at least. floor is the unit, a number of
            KlFloor, 0 for none. beta is then no tensor of dimensions
log_total   [B, 1, ...], of any floating type, or None. With log_total, and with a likelihood of the row kind, params[0]
            has the logits of shares (core/objective.py)
table       int64 [C, 3], of each column its kind, its width, and the place of its first number in packed
            (formulas/columns.py). packed [B, W], x [B, W] one-hot or [B, C], logscale [C] or [B, C], weight 0-d, [C],
            [B, 1], [B, C] or None, terms [B, C]: each row in one run of memory. need: of (packed, logscale)
expected    the incoming gradient, of each loss, that the gradients of elbo are for
need        bit i: the gradient of input i of (*params, *latent, log_total); in sample: of (mu, logvar, *prior); in
            mixture: of (z, loc, logvar, log_weight). The gradient of log_total has the compute dtype
packed      mu and logvar are the halves of one tensor, [B, 2L, ...], and get one gradient, of its shape
z, loc, logvar, log_weight
            [N, D], [K, D], [K, D], [K]: contiguous, all float32 or all float64
rng         int64 [2]: seed and offset of the noise; or [4], for the samples of a shard (core/noise.py)
logits      [B, K, ...], x [B, ...] integers, levels 0..K-1: each sample dense, the levels outermost or innermost, and x
            in the order of the other dimensions.
packed      [B, P, ...], x [B, C, ...] floating or uint8: each sample dense, the numbers of a pixel outermost or
            innermost in both, and the pixels of both in one order. `options`: the numbers() of the formula
top_and_total  [2, B, positions], in the order of x: each position's largest logit, and the sum of e^{logit - top},
            which is NaN where x is no level: so are the value then, and the gradient.
"""

import torch

from ...core.objective import WITHOUT_KERNEL

library = torch.library.Library("vae_kernels", "DEF")
_OBJECTIVE = (
    "Tensor? x, Tensor[] params, str likelihood, Tensor[] latent, Tensor? rec_weight, Tensor? beta, Tensor? weight, "
    "Tensor? latent_weight, Tensor? nats, Tensor? log_total, float rec_weight_factor, float beta_factor, "
    "float nats_factor, int floor, int reduction, int need"
)
_SAMPLE = "Tensor mu, Tensor logvar, Tensor[] prior, Tensor? latent_weight, Tensor rng, int n_samples"
_POSITION = "str likelihood, Tensor x, Tensor logits, Tensor? weight"
_PIXEL = "str likelihood, Tensor x, Tensor packed"
_SEGMENTS = "Tensor x, Tensor packed, Tensor logscale, Tensor? weight, Tensor table"
_MIXTURE = "Tensor z, Tensor loc, Tensor logvar, Tensor log_weight"
_SCHEMAS = {
    "elbo": f"({_OBJECTIVE}, bool terms, float expected) -> Tensor[]",
    "elbo_backward": f"(Tensor grad, {_OBJECTIVE}) -> Tensor[]",
    "log_prob": "(str likelihood, Tensor x, Tensor[] params) -> Tensor",
    "sample": f"({_SAMPLE}, bool with_kl) -> Tensor[]",
    "position": f"({_POSITION}) -> Tensor[]",
    "position_backward": f"(Tensor grad, {_POSITION}, Tensor top_and_total) -> Tensor",
    "pixel": f"({_PIXEL}, Tensor? weight, float[] options, bool ahead, float expected) -> Tensor[]",
    "pixel_backward": f"(Tensor grad, {_PIXEL}, Tensor? weight, float[] options) -> Tensor",
    "pixel_log_prob": f"({_PIXEL}, float[] options) -> Tensor",
    "sample_backward": f"(Tensor? grad_z, Tensor? grad_kl, {_SAMPLE}, int need, bool packed) -> Tensor[]",
    "segments": f"({_SEGMENTS}, int need, float expected) -> Tensor[]",
    "segments_backward": f"(Tensor grad, {_SEGMENTS}, int need) -> Tensor[]",
    "mixture": f"({_MIXTURE}, int need) -> Tensor[]",
    "mixture_backward": f"(Tensor grad, {_MIXTURE}, Tensor peak, Tensor log_sum, int need) -> Tensor[]",
}
_DECOMPOSITION = "Tensor z, Tensor mu, Tensor logvar, float log_own, float log_other"
_OF_THE_CPU = {
    "decomposition": f"({_DECOMPOSITION}) -> Tensor[]",
    "decomposition_backward": (
        f"(Tensor information, Tensor correlation, Tensor each, {_DECOMPOSITION}, Tensor kept) -> Tensor[]"
    ),
}
# exact strides: the kernels run in storage order, which Inductor must not change behind their back
_TAGS = (torch.Tag.pt2_compliant_tag, torch.Tag.needs_exact_strides)
for _name, _schema in _SCHEMAS.items():
    library.define(f"{_name}{_schema}", tags=_TAGS)  # C++, by the device
    library.define(f"triton_{_name}{_schema}", tags=_TAGS)
for _name, _schema in _OF_THE_CPU.items():
    library.define(f"{_name}{_schema}", tags=_TAGS)

# CUDA alone. rescale_: times the 0-d factor, in place; the kernel reads it, and does nothing if it is 1
library.define("rescale_(Tensor(a!)[] tensors, Tensor factor) -> ()")
# correct_: the gradients of elbo for the incoming gradient `expected`, in place. The kernel compares grad with the
# expectation, and computes the rows anew where another number came. All gradients have the shape of x or of mu.
library.define(f"correct_(Tensor(a!)[] grads, Tensor grad, float expected, {_OBJECTIVE}) -> ()")
library.define(
    f"pixel_correct_(Tensor(a!) out, Tensor grad, float expected, {_PIXEL}, Tensor? weight, float[] options) -> ()"
)  # likewise the gradient of pixel
# raises RuntimeError with what CUDA says, where the compiled kernels do not run on this device
library.define("check_device(int device) -> ()")
library.define("set_pool_limit(int bytes) -> ()")
library.define("pool_bytes() -> int")
# CPU alone: the number that all elements of a tensor [n] or 0-d are, or NaN
library.define("one_number(Tensor values) -> float")


def flat(settings, tensors):
    """The arguments of _OBJECTIVE, but for need, from the settings of a request and its tensors()."""
    likelihood, n, rec_weight_factor, beta_factor, nats_factor, floor, reduction, *_ = settings
    x, *weights = tensors[:WITHOUT_KERNEL]
    params, latent = tensors[WITHOUT_KERNEL : WITHOUT_KERNEL + n], tensors[WITHOUT_KERNEL + n : -1]
    numbers = rec_weight_factor, beta_factor, nats_factor, floor, reduction
    return x, params, likelihood, latent, *weights, tensors[-1], *numbers


def _overloads(names, prefix=""):
    return {name: getattr(torch.ops.vae_kernels, prefix + name).default for name in names}


_IN_PLACE = "rescale_", "correct_", "pixel_correct_"

# Who computes. "triton" is its functions, without the dispatcher, which takes longer than a launch, and "triton ops"
# what a compiler may see of them.
KERNELS = {
    "compiled": _overloads((*_SCHEMAS, *_OF_THE_CPU, *_IN_PLACE)),
    "triton ops": _overloads(_SCHEMAS, "triton_"),
}


def attach_triton(kernels, key):
    """The functions of vae_kernels/backends/triton/kernels.py, for tensors of this dispatch key."""
    KERNELS["triton"] = {name: getattr(kernels, name) for name in (*_SCHEMAS, *_IN_PLACE)}
    for name in _SCHEMAS:
        library.impl(f"triton_{name}", getattr(kernels, name), key)
