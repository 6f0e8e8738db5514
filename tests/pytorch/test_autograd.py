"""The backward pass of every backend can be repeated, is right for every incoming gradient, and computes only the
gradients that are needed."""

import pytest
import torch
from known import B, assert_grads, compiled, draw, elbo, exact

import vae_kernels as vk
from vae_kernels.backends import compiled as ops
from vae_kernels.backends.compiled import expected as expectation

close = torch.testing.assert_close


# --- again and again


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_two_backward_passes_with_different_incoming_gradients(backend, inputs, reduction):
    loss = elbo(*inputs, reduction=reduction, backend=backend)
    scale = B if reduction == "mean" else 1
    for weight in (1.0, -3.5, 1.0, 0.0):
        grads = torch.autograd.grad(loss, inputs[:3], torch.full_like(loss, weight), retain_graph=True)
        assert_grads(grads, exact(inputs, weight / scale))
        for g in grads:
            g.fill_(float("nan"))  # the gradient belongs to the caller: a change must not disturb the next pass
    assert_grads(torch.autograd.grad(loss, inputs[:3], torch.full_like(loss, 2.0)), exact(inputs, 2 / scale))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_the_sum_over_a_broadcast_parameter_of_16_bits_is_rounded_once(backend, dtype):
    """A broadcast parameter of 16 bits sums the gradients of many elements. These terms have both signs, and their sum
    is a hundredth of one term, so rounding each term to 16 bits would spoil the sum."""
    given = [1.28, -1.95, 0.4], [[[1.3, 0.4]] * 3, [[0.9, 1.12]] * 3], [0.69], [[0.01], [0.02], [0.0]]
    found = {}
    for to, who in ((dtype, backend), (torch.float64, "torch")):
        mu, x, prior, logvar = (torch.tensor(t, dtype=dtype).to(to) for t in given)
        prior.requires_grad_(), logvar.requires_grad_()
        kl = vk.gaussian_kl(mu, mu, prior=(torch.zeros_like(mu), prior), reduction="sum", backend=who)
        nll = vk.nll((torch.zeros_like(x), logvar), x, likelihood="gaussian", reduction="sum", backend=who)
        found[to] = torch.autograd.grad(kl + nll, [prior, logvar])
    for ours, truth in zip(found[dtype], found[torch.float64], strict=True):
        close(ours.double(), truth, rtol=torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize("weight", [1.0, 3.0])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_a_second_pass_without_retain_graph_is_autograds_error(backend, inputs, reduction, weight):
    loss = elbo(*inputs, reduction=reduction, backend=backend)
    incoming = torch.full_like(loss, weight)
    loss.backward(incoming)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward(incoming)
    _, kl = vk.sample_kl(*inputs[1:3], backend=backend)
    kl.sum().backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        kl.sum().backward()


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_one_input_at_a_time_then_all(backend, inputs, reduction):
    loss = elbo(*inputs, reduction=reduction, backend=backend).sum()
    expected = exact(inputs, 1 / B if reduction == "mean" else 1)
    for i in (0, 0, 2):
        (grad,) = torch.autograd.grad(loss, inputs[i], retain_graph=True)
        close(grad, expected[i])
    loss.backward()
    assert_grads([t.grad for t in inputs[:3]], expected)


def test_gradients_add_up_over_calls(backend, inputs):
    for _ in range(2):
        elbo(*inputs, backend=backend).backward()
    assert_grads([t.grad for t in inputs[:3]], exact(inputs, 2 / B))


def test_two_losses_in_one_graph(backend, inputs):
    (elbo(*inputs, backend=backend) * 3 + elbo(*inputs, reduction="sum", backend=backend)).backward()
    assert_grads([t.grad for t in inputs[:3]], exact(inputs, 3 / B + 1))


# --- the incoming gradient


@pytest.mark.parametrize("weight", [65536.0, 1 / 3, 0.0, -1.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_scaled_losses(backend, dtype, weight):
    """torch.amp.GradScaler multiplies the loss by a scale. Each gradient has the dtype of its input, and the accuracy
    of that dtype, as in torch's own operations. For float16 the scale keeps small gradients from underflow."""
    inputs = draw(dtype)
    (elbo(*inputs, backend=backend) * weight).backward()
    grads = [t.grad for t in inputs[:3]]
    assert [g.dtype for g in grads] == [dtype] * 3
    # a gradient is rounded once when it is stored and once when it is rescaled; subnormal float16 has a fixed spacing
    info = torch.finfo(dtype)
    rtol = 2 * info.eps if dtype in (torch.bfloat16, torch.float16) else 8 * info.eps
    for grad, expected in zip(grads, exact(inputs, weight / B), strict=True):
        error = (grad.double() - expected).abs()
        # terms cancel in sigmoid(l) - x and in e^logvar - 1: the error is eps of the compute type, times the larger
        # term
        compute = torch.finfo(torch.float64 if dtype == torch.float64 else torch.float32).eps
        bound = rtol * expected.abs() + 8 * compute * abs(weight) / B + info.smallest_normal * info.eps
        assert (error <= bound).all()


@pytest.mark.full("triton")
def test_a_gradient_that_float16_could_not_hold_unscaled(backend):
    """The smallest positive float16 is 2^-24. This gradient is 2^-30, and 2^-10 under a scale of 2^20. The result is
    2^-10, so the kernel never stored the gradient without the scale."""
    recon = torch.zeros(1 << 14, 1, dtype=torch.float16, requires_grad=True)
    x = torch.full((1 << 14, 1), 0.5 - 2.0**-16)
    (vk.nll(recon, x, reduction="mean", backend=backend) * 2.0**20).backward()
    assert (recon.grad == 2.0**-10).all()


@pytest.mark.parametrize("form", ["expanded", "stride 0", "strided", "transposed"])
def test_layouts_of_the_incoming_gradient(backend, inputs, form):
    _, mu, logvar, _ = inputs
    w = torch.rand(B, dtype=torch.float64)
    of_loss = {
        "expanded": lambda: torch.tensor(0.7, dtype=torch.float64).expand(B),
        "stride 0": lambda: torch.full((1,), 0.7, dtype=torch.float64).as_strided((B,), (0,)),
        "strided": lambda: torch.stack([w, -w], 1)[:, 0],
        "transposed": lambda: torch.stack([w, -w]).t()[:, 0],
    }[form]()
    loss = elbo(*inputs, reduction="none", backend=backend)
    assert_grads(torch.autograd.grad(loss, inputs[:3], of_loss), exact(inputs, of_loss))

    gen = torch.Generator().manual_seed(3)
    z, kl = vk.sample_kl(mu, logvar, n_samples=2, generator=gen, backend=backend)
    w = torch.rand(6, B, 2, dtype=torch.float64)
    of_z = {
        "expanded": lambda: torch.tensor(0.7, dtype=torch.float64).expand(2, B, 6),
        "stride 0": lambda: w[:, :, 0].t().expand(2, B, 6),
        "strided": lambda: torch.stack([w, -w])[0].permute(2, 1, 0),
        "transposed": lambda: w.permute(2, 1, 0),
    }[form]()
    noise = z.detach() - mu.detach()
    grads = torch.autograd.grad([z, kl], [mu, logvar], [of_z, of_loss])
    of_kl = of_loss[:, None]
    expected = of_z.sum(0) + of_kl * mu, 0.5 * (of_z * noise).sum(0) + of_kl * 0.5 * torch.expm1(logvar)
    assert_grads(grads, [e.detach() for e in expected])


# --- mu and logvar in one tensor

PACKED = [(5, 6), (3, 8, 2, 3), (1, 2), (130, 14), (2, 4100), (0, 4)]  # a tile may have many rows or a part of a row


@pytest.mark.full("triton")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", PACKED, ids=str)
def test_moments_are_their_halves(backend, shape, dtype):
    both = torch.randn(shape, dtype=dtype, requires_grad=True)
    prior = [torch.randn(both[:1].chunk(2, 1)[0].shape[1:], dtype=dtype, requires_grad=True) for _ in range(2)]
    results = []
    for moments in ((both,), both.chunk(2, 1)):
        draw = {"n_samples": 2, "backend": backend}
        z, kl = vk.sample_kl(*moments, prior=prior, generator=torch.Generator().manual_seed(3), **draw)
        assert torch.equal(z, vk.reparameterize(*moments, generator=torch.Generator().manual_seed(3), **draw))
        incoming = torch.linspace(-1, 2, z.numel(), dtype=dtype).view_as(z), torch.linspace(-1, 2, len(kl)).to(kl)
        results.append([z, kl, *torch.autograd.grad([z, kl], [both, *prior], incoming)])
    for packed, halves in zip(*results, strict=True):
        assert torch.equal(packed, halves)


@pytest.mark.full("triton")
def test_moments_that_are_no_run_of_memory(backend):
    """Moments in channels_last, with gaps between rows, or expanded give the same gradient as contiguous moments."""
    both = torch.randn(3, 8, 2, 5)
    forms = both.contiguous(memory_format=torch.channels_last), torch.cat([both, both], 1)[:, :8]
    (expected,) = _moments_gradient(both, backend)
    for form in forms:
        assert torch.equal(_moments_gradient(form, backend)[0], expected)
    row = both[:1].requires_grad_()
    (grad,) = _moments_gradient(row.expand(3, 8, 2, 5), backend, row)
    (of_rows,) = _moments_gradient(both[:1].detach().repeat(3, 1, 1, 1), backend)
    torch.testing.assert_close(grad, of_rows.sum(0, keepdim=True))


def _moments_gradient(both, backend, leaf=None):
    leaf = both.requires_grad_() if leaf is None else leaf
    z, kl = vk.sample_kl(both, generator=torch.Generator().manual_seed(3), backend=backend)
    return torch.autograd.grad((z * z).sum() + kl.sum(), [leaf])


@compiled
def test_moments_get_one_gradient_from_one_kernel():
    """The graph has no node of torch.chunk between the encoder and the sample, so one kernel writes one gradient. The
    gradient of the prior is right too when the moments need no gradient."""
    both, prior = torch.randn(3, 8, requires_grad=True), [torch.randn(4, requires_grad=True) for _ in range(2)]
    z, kl = vk.sample_kl(both, backend="cpu")
    assert [type(node).__name__ for node, _ in z.grad_fn.next_functions if node] == ["AccumulateGrad"]
    results = []
    for moments in ((both.detach(),), both.detach().chunk(2, 1)):
        _, kl = vk.sample_kl(*moments, prior=prior, backend="cpu")
        results.append(torch.autograd.grad(kl.sum(), prior))
    for packed, halves in zip(*results, strict=True):
        assert torch.equal(packed, halves)


@pytest.mark.full("triton")
def test_second_derivatives_of_moments(backend):
    both = torch.randn(3, 8, dtype=torch.float64, requires_grad=True)
    sample = lambda t: vk.sample_kl(t, generator=torch.Generator().manual_seed(3), backend=backend)  # noqa: E731
    assert torch.autograd.gradgradcheck(sample, [both])


# --- what is computed, and when


@pytest.fixture
def nothing_remembered(monkeypatch):
    monkeypatch.setattr(expectation, "_last", {})


@compiled
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("wanted", [(0,), (1,), (2,), (0, 2), ()], ids=str)
def test_no_gradient_that_nobody_asked_for(inputs, wanted, reduction, nothing_remembered, monkeypatch):
    """Of a loss per sample, the backward pass computes the gradients again if the incoming gradient is none of the
    expected ones. Only then does it compute any."""
    needs = []
    kernels = ops.KERNELS["compiled"]
    for name in ("elbo", "elbo_backward"):
        op = kernels[name]
        at = [a.name for a in op._schema.arguments].index("need")
        monkeypatch.setitem(kernels, name, lambda *a, op=op, at=at: (needs.append(a[at]), op(*a))[1])
    inputs = [t.detach().requires_grad_(i in wanted) for i, t in enumerate(inputs)]
    loss = elbo(*inputs, reduction=reduction, backend="cpu")
    need = sum(1 << i for i in wanted)
    if wanted:
        loss.mean().backward(retain_graph=True)
        assert needs == [need]
        loss.backward(torch.rand(loss.shape))
    assert needs == ([need] if reduction == "mean" or not wanted else [need, need])
    assert [i for i, t in enumerate(inputs) if t.grad is not None] == list(wanted)


@pytest.mark.full("triton")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_sample_alone_gives_its_prior_no_gradient(backend, dtype):
    """If only z is used, the gradient of the prior is 0. It must not be what the kernel's buffers held before: the
    first pass leaves values in these buffers."""
    mu, logvar, m, v = (torch.randn(B, 600, dtype=dtype, requires_grad=True) for _ in range(4))
    vk.sample_kl(mu, logvar, prior=(m, v), backend=backend)[1].sum().backward()
    z, _ = vk.sample_kl(mu, logvar, prior=(m, v), backend=backend)
    for grad in torch.autograd.grad(z.sum(), [m, v], allow_unused=True):
        assert grad is None or not grad.any()


@compiled
def test_no_gradient_of_the_sample_that_nobody_asked_for(inputs, monkeypatch):
    needs, kernels = [], ops.KERNELS["compiled"]
    op = kernels["sample_backward"]
    monkeypatch.setitem(kernels, "sample_backward", lambda *a: (needs.append(a[-2]), op(*a))[1])
    _, mu, logvar, _ = inputs
    prior = torch.zeros(6), torch.zeros(6, requires_grad=True)
    z, kl = vk.sample_kl(mu.detach(), logvar, prior=prior, backend="cpu")
    (z.sum() + kl.sum()).backward()
    assert needs == [0b1010] and mu.grad is None and prior[0].grad is None


def test_nll_and_kl_carry_no_gradient_of_their_own(backend, inputs):
    """The terms are detached: using them must not change the gradient of the loss."""
    terms = elbo(*inputs, return_terms=True, backend=backend)
    (terms.loss + terms.nll.sum() + terms.kl.sum() + terms.kl_per_dim.sum()).backward()
    assert_grads([t.grad for t in inputs[:3]], exact(inputs, 1 / B))


class NoGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, t):
        return t.clone()

    @staticmethod
    def backward(ctx, grad):
        return None


@pytest.mark.parametrize("create_graph", [False, True])
def test_no_incoming_gradient(backend, inputs, create_graph):
    """A function between our result and the loss may return None as its gradient. None means a gradient of 0."""
    _, mu, logvar, _ = inputs
    z, kl = vk.sample_kl(mu, logvar, backend=backend)
    for result in (z, kl, elbo(*inputs, backend=backend)):
        loss = NoGradient.apply(result).sum()
        (grad,) = torch.autograd.grad(loss, mu, create_graph=create_graph, retain_graph=True, allow_unused=True)
        assert grad is None or not grad.any()


def change(t):
    with torch.no_grad():
        t.mul_(2)


@compiled
@pytest.mark.parametrize("which", [0, 1, 3])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_in_place_changes_before_the_backward_pass(inputs, which, reduction, nothing_remembered):
    """The gradient for the expected incoming gradient was computed together with the value, so a later change of an
    input does no harm. For another incoming gradient of the samples, the backward pass reads the inputs again, and
    autograd must say that they were changed."""
    truth = exact(inputs, 1 / B)
    loss = elbo(*inputs, reduction=reduction, backend="cpu")
    change(inputs[which])
    assert_grads(torch.autograd.grad(loss.mean(), inputs[:3], retain_graph=True), truth)
    if reduction == "none":
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward(torch.rand(B))


@compiled
def test_in_place_changes_where_the_gradient_is_computed_again(inputs):
    """A second derivative runs the reference, and the backward pass of a sample draws the noise again. Both read the
    inputs again, so autograd must refuse inputs that were changed."""
    _, mu, logvar, _ = inputs
    loss = elbo(*inputs, backend="cpu")
    z, _ = vk.sample_kl(mu, logvar, backend="cpu")
    change(mu)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(loss, mu, create_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        z.sum().backward()
