"""Hierarchies of latents: grouped_kl, and the groups of a Monitor, against the formulas by hand."""

import csv

import pytest
import torch

import vae_kernels as vk
from vae_kernels.controls import balance_groups, free_bits, grouped_kl
from vae_kernels.monitor import table

close = torch.testing.assert_close
B, G = 5, 4


def kl_of_groups():
    """[B, G]: the group 0 is large, 1 and 2 are small, and 3 is the prior."""
    g = torch.Generator().manual_seed(0)
    kl = torch.rand(B, G, generator=g, dtype=torch.float64) * torch.tensor([9.0, 0.3, 0.001, 0.0], dtype=torch.float64)
    return kl.requires_grad_()


def by_hand(kl, nats, balance, sizes):
    costs = kl if nats is None else torch.stack([torch.where(m <= nats, nats, m) for m in kl.mean(0)]).expand(B, G)
    if not balance:
        return costs.sum(1)
    gamma = (kl.detach().abs().mean(0) + 0.01) / torch.tensor(sizes or [1.0] * G, dtype=kl.dtype)
    return (costs * gamma / gamma.mean()).sum(1)


@pytest.mark.parametrize("nats", [None, 0.1, torch.tensor(0.1, dtype=torch.float64)], ids=str)
@pytest.mark.parametrize(("balance", "sizes"), [(False, None), (True, None), (True, [1.0, 2, 3, 4])])
def test_values_and_gradients(nats, balance, sizes):
    kl = kl_of_groups()
    given = nats if nats is None else torch.as_tensor(nats, dtype=kl.dtype)
    found, truth = grouped_kl(kl, free_bits=nats, balance=balance, sizes=sizes), by_hand(kl, given, balance, sizes)
    close(found.kl, truth)
    incoming = torch.linspace(-1, 2, B, dtype=kl.dtype)
    gradient, true_gradient = (torch.autograd.grad(t, kl, incoming)[0] for t in (found.kl, truth))
    close(gradient, true_gradient)
    if nats is not None:
        assert (gradient[:, 2:] == 0).all() and (gradient[:, 0] != 0).all()
    close(found.per_group, kl.detach().mean(0))
    assert not found.per_group.requires_grad and found.active.item() == 2 and found.active.dtype == torch.int64


def test_the_parts_are_the_functions_of_controls():
    kl = kl_of_groups()
    close(grouped_kl(kl, balance=True).kl, balance_groups(kl))
    close(grouped_kl(kl, free_bits=0.2).kl, free_bits(kl, 0.2, unit="per_group"))
    close(grouped_kl(list(kl.unbind(1))), grouped_kl(kl))
    close(grouped_kl(kl, free_bits=vk.controls.Constant(0.2)).kl, grouped_kl(kl, free_bits=0.2).kl)


def test_the_loss_of_two_groups():
    """The loss is the -ELBO of a chain of two latents, each with a prior that depends on the latent before."""
    torch.manual_seed(0)
    x, recon = torch.rand(B, 6), torch.randn(B, 6)
    q1, q2 = torch.randn(2, B, 3), torch.randn(2, B, 2)
    z1, kl1 = vk.sample_kl(*q1)
    p2 = z1[:, :2], 0.1 * z1[:, 1:]
    _, kl2 = vk.sample_kl(*q2, prior=p2)
    by_torch = torch.distributions.kl_divergence(*(torch.distributions.Normal(m, (v / 2).exp()) for m, v in (q2, p2)))
    close(kl2, by_torch.sum(1))
    grouped = grouped_kl([kl1, kl2])
    loss = vk.fused_elbo(recon, x, kl=grouped.kl)
    close(loss, (vk.nll(recon, x) + vk.gaussian_kl(*q1) + by_torch.sum(1)).mean())
    terms = vk.fused_elbo(recon, x, kl=torch.stack((kl1, kl2), 1), return_terms=True)
    close(terms.loss, loss)
    close(terms.kl_per_dim, grouped.per_group)


KL = torch.ones(B, G)
ERRORS = [
    (lambda: grouped_kl(KL[0]), ValueError, "kl: got shape (4,), expected [B, G]"),
    (lambda: grouped_kl([]), ValueError, "kl: got no tensor"),
    (lambda: grouped_kl([KL[:, 0], KL]), ValueError, "kl[1]: got shape (5, 4), expected [5]"),
    (lambda: grouped_kl([KL, KL]), ValueError, "kl[0]: got shape (5, 4), expected [B]"),
    (lambda: grouped_kl([KL[:, 0], KL[:3, 0]]), ValueError, "kl[1]: got shape (3,), expected [5]"),
    (lambda: grouped_kl([KL[:, 0], 1.0]), TypeError, "kl[1]: got float"),
    (lambda: grouped_kl(KL, free_bits=-1.0), ValueError, "free_bits: got -1.0"),
    (lambda: grouped_kl(KL, balance="nvae"), TypeError, "balance: got str, expected True or False"),
    (lambda: grouped_kl(KL, sizes=[1, 2, 3, 4]), ValueError, "sizes: has no effect without balance=True"),
    (lambda: grouped_kl(KL, balance=True, sizes=[1, 2]), ValueError, "sizes: got 2 numbers"),
    (lambda: vk.Monitor(groups=0), ValueError, "groups: got (0), expected None, a positive integer"),
    (lambda: vk.Monitor(groups="two"), TypeError, "groups: got 'two'"),
    (lambda: vk.Monitor(groups=3).update(terms_of(KL)), ValueError, "groups: got 3, but the terms have 4 latent dims"),
    (lambda: vk.Monitor(groups=(1, 2)).update(terms_of(KL)), ValueError, "groups: got (1, 2), but the terms have 4"),
    (lambda: vk.Monitor(groups=1).update(terms_of(KL[:, 0])), ValueError, "but the terms have no kl_per_dim"),
    (lambda: table({"kl": 1.0}), ValueError, "row: got the keys kl, expected kl_per_group"),
]


@pytest.mark.parametrize(("call", "error", "text"), ERRORS, ids=[text for *_, text in ERRORS])
def test_errors(call, error, text):
    with pytest.raises(error) as found:
        call()
    assert text in str(found.value)


# ---------------------------------------------------------------- the monitor


def terms_of(kl):
    return vk.fused_elbo(torch.zeros(B, 3), torch.zeros(B, 3), kl=kl, return_terms=True)


@pytest.mark.parametrize("groups", [2, (1, 3), 4, (4,)], ids=str)
def test_the_rows_of_a_monitor_have_the_groups(groups, tmp_path):
    kl, rows = kl_of_groups(), []
    with vk.Monitor(2, [rows.append, tmp_path / "m.csv"], groups=groups) as monitor:
        for factor in (1.0, 3.0):
            monitor.update(terms_of(factor * kl))
    sizes = groups if isinstance(groups, tuple) else [G // groups] * groups
    truth = [2 * part.sum(1).mean().item() for part in kl.split(list(sizes), 1)]
    assert rows[0]["kl_per_group"] == pytest.approx(truth, rel=1e-12)
    assert rows[0]["active_groups"] == sum(nats > 0.01 for nats in truth)
    with open(tmp_path / "m.csv", newline="") as file:
        (line,) = csv.DictReader(file)
    assert [float(line[f"kl_group_{i}"]) for i in range(len(truth))] == rows[0]["kl_per_group"]


def test_the_table():
    text = table({"kl_per_group": [3.0, 1.0, 0.0]})
    assert [line.split() for line in text.splitlines()] == [
        ["group", "nats", "share"],
        ["1", "3.000", "75.0", "%"],
        ["2", "1.000", "25.0", "%"],
        ["3", "0.000", "0.0", "%", "not", "active"],
    ]
    assert "0.0 %" in table({"kl_per_group": [0.0]})


def test_a_writer_gets_each_group():
    class Writer(dict):
        def add_scalar(self, tag, value, step=None):
            self[tag] = value

    writer = Writer()
    with vk.Monitor(1, writer, groups=G) as monitor:
        monitor.update(terms_of(KL))
    assert [writer[f"vae/kl_per_group/{i}"] for i in range(G)] == [1.0] * G and writer["vae/active_groups"] == G
