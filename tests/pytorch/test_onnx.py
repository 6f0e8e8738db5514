"""An encoder with its sample leaves PyTorch: torch.export, and ONNX, where onnx and onnxscript are installed."""

import pytest
import torch
from torch import nn

import vae_kernels as vk
from vae_kernels.integrations import onnx as ours

close = torch.testing.assert_close


class Sampler(nn.Module):
    """x -> mu, logvar and z of a VAE."""

    def __init__(self, **settings):
        super().__init__()
        torch.manual_seed(0)
        self.vae = vk.mlp_vae((6,), 4, (5,), likelihood="gaussian", **settings)

    def forward(self, x):
        mu, logvar = self.vae.encode(x)
        return mu, logvar, vk.reparameterize(mu, logvar)


BATCH = {"dynamic_shapes": ({0: torch.export.Dim("batch")},)}


@pytest.mark.parametrize("settings", [{}, {"logvar_range": (-6, 2)}])
def test_torch_export_of_a_sample(settings):
    """The program has the numbers and the noise of eager mode, for another batch size too."""
    model, x = Sampler(**settings), torch.rand(5, 6)
    program = torch.export.export(model, (torch.rand(3, 6),), **BATCH).module()
    torch.manual_seed(2)
    expected = model(x)
    torch.manual_seed(2)
    for got, right in zip(program(x), expected, strict=True):
        close(got, right)


@pytest.fixture
def exported(tmp_path):
    onnx = pytest.importorskip("onnx", reason="onnx is not installed")
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")

    def export(model, x):
        path = str(tmp_path / "model.onnx")
        settings = {"dynamo": True, "verbose": False, "custom_translation_table": ours.translations()}
        torch.onnx.export(model, (x,), path, **settings, **BATCH)
        return onnx.load(path)

    return export


def test_onnx_of_a_sample(exported):
    """z - mu is noise of the standard deviation exp(logvar / 2), and the noise differs from run to run."""
    from onnx.reference import ReferenceEvaluator

    model = Sampler()
    file = exported(model, torch.rand(3, 6))
    assert "RandomNormalLike" in {node.op_type for node in file.graph.node}
    x = torch.rand(1, 6).expand(20_000, 6).contiguous()
    run = ReferenceEvaluator(file)
    (mu, logvar, z), (_, _, again) = (
        map(torch.tensor, run.run(None, {file.graph.input[0].name: x.numpy()})) for _ in "ab"
    )
    expected = model(x)
    close(mu, expected[0].detach(), rtol=1e-4, atol=1e-5)
    close(logvar, expected[1].detach(), rtol=1e-4, atol=1e-5)
    eps = (z - mu) / torch.exp(logvar / 2)
    assert eps.mean(0).abs().max() < 0.04 and (eps.std(0) - 1).abs().max() < 0.03
    assert not torch.equal(z, again)


def test_what_onnx_does_not_take(exported):
    class WithKl(Sampler):
        def forward(self, x):
            return vk.sample_kl(*self.vae.encode(x))

    with pytest.raises(Exception, match="only reparameterize") as raised:
        exported(WithKl(), torch.rand(3, 6))
    assert "vae_kernels" in str(raised.value)
