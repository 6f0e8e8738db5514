"""Controls on a GPU: moved with their module, advanced without a wait, read and written by a captured graph."""

import copy

import pytest
import torch

import vae_kernels as vk
from vae_kernels import controls

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU"),
]


def captured(step):
    """A graph of step(), warmed up as CUDA graphs are."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = step()
    return graph, out


def test_a_control_moves_with_its_module_and_a_graph_reads_each_value():
    warmup = controls.LinearWarmup(4)
    held = warmup.value
    loss = vk.FusedELBO(beta=warmup).cuda()
    follows = copy.deepcopy(loss)
    assert held is warmup.value and held.is_cuda
    recon, x, mu, logvar = (torch.rand(5, 4, device="cuda") for _ in range(4))
    graph, out = captured(lambda: loss(recon, x, mu, logvar))
    nll, kl = vk.nll(recon, x).mean(), vk.gaussian_kl(mu, logvar).mean()
    for step in range(5):
        graph.replay()
        torch.testing.assert_close(out, nll + step / 4 * kl)
        torch.cuda.set_sync_debug_mode("error")
        try:
            warmup.step()
            assert float(warmup) == min(1.0, (step + 1) / 4)
        finally:
            torch.cuda.set_sync_debug_mode("default")
        assert follows.beta.value.item() == warmup.item()
    assert copy.deepcopy(loss).cpu().beta.value.device.type == "cpu" and held.is_cuda


def test_controllers_are_updated_inside_a_graph():
    """As often as the graph is replayed, to the numbers of as many updates outside it."""
    make = lambda: (  # noqa: E731
        controls.Geco(1.0, speed=0.01, momentum=0.5, device="cuda"),
        controls.RunningLogvar(0.8, device="cuda"),
    )
    inside, outside = make(), make()
    nll, loc, x = (
        torch.full((3,), 2.0, device="cuda"),
        torch.zeros(3, 2, device="cuda"),
        torch.ones(3, 2, device="cuda"),
    )

    def update(geco, running):
        geco.update(nll)
        running.update(loc, x)

    graph, _ = captured(lambda: update(*inside))
    for _ in range(3):
        update(*outside)
    for replay in range(4):
        nll.fill_(1.5 + replay)
        x.fill_(2.0 + replay)
        graph.replay()
        update(*outside)
    for ours, theirs in zip(inside, outside, strict=True):
        torch.testing.assert_close(ours.value, theirs.value)


def test_what_a_graph_would_freeze_is_refused():
    warmup = controls.LinearWarmup(4, device="cuda")
    geco = controls.Geco(1.0, speed=0.01, device="cuda")
    nll = torch.ones(3, device="cuda")
    for call, words in (
        (warmup.step, "each replay would write this one value"),
        (lambda: geco.update(nll), "first one"),
    ):
        with pytest.raises(RuntimeError, match=words), torch.cuda.graph(torch.cuda.CUDAGraph()):
            call()
    assert warmup.steps == geco.steps == 0
