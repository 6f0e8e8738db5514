"""What the figures of the doctor and of a run draw: the axes, the lines, the rings and the frames."""

import io
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

import vae_kernels as vk
from vae_kernels.doctor.verdicts import BIT

figures = pytest.importorskip("vae_kernels.doctor.figures", reason="matplotlib, which draws them, is not installed")
from vae_kernels.cli import plots  # noqa: E402
from vae_kernels.doctor import ink, maps, tiles  # noqa: E402

pytestmark = pytest.mark.usefixtures("seeded")


@pytest.fixture
def found():
    torch.manual_seed(0)
    x = torch.rand(60, 1, 8, 8)
    return vk.diagnose(vk.mlp_vae((1, 8, 8), 3, (16,)), x, labels=torch.arange(60) % 3, log_p=(8, 8))


def texts(axes):
    return [text.get_text().strip() for text in axes.texts]


def drawn(draw, *arguments):
    axes = figures.axes()
    draw(axes, *arguments)
    axes.figure.canvas.draw()
    return axes


# ---------------------------------------------------------------- the KL


def test_a_kl_of_nothing_looks_like_nothing(found):
    kl = torch.tensor([0.002, 0.01, 0.0], dtype=torch.float64)
    m = replace(found.measures, kl_per_dim=kl, spread=kl, active_units=0)
    axes = drawn(figures.spectrum, m)
    assert axes.get_ylim()[1] == 1.0 and [bar.get_height() for bar in axes.patches] == [0.01, 0.002, 0.0]
    assert axes.get_title(loc="left") == "total 0.01 nats, 0 of 3 active" and "one\nbit" in texts(axes)
    assert BIT in [line.get_ydata()[0] for line in axes.get_lines()]
    crosses = [line for line in axes.get_lines() if line.get_marker() == "x"]
    assert [line.get_xdata()[0] for line in crosses] == [0, 1, 2]
    assert all(bar.get_hatch() for bar in axes.patches)


def test_two_spectra_share_an_axis(found):
    m = found.measures
    large = replace(m, kl_per_dim=torch.tensor([9.0, 1.0, 0.5]), spread=torch.ones(3), active_units=3)
    assert drawn(figures.spectrum, large).get_ylim()[1] == pytest.approx(9.9)
    tops = [drawn(figures.spectrum, each, 12.0).get_ylim()[1] for each in (m, large)]
    assert tops == [12.0, 12.0] and not any(bar.get_hatch() for bar in drawn(figures.spectrum, large).patches)


ROWS = {
    "train_neg_elbo_nats": [210.0, 205.0, 203.0],
    "test_neg_elbo_nats": [209.0, 204.0, 203.5],
    "test_reconstruction_nats": [208.99, 203.98, 203.48],
    "test_kl_nats": [0.01, 0.02, 0.02],
    "active_units": [0, 0, 0],
}


def test_the_curves_show_a_collapse():
    rates = drawn(figures.rates, ROWS)
    assert rates.get_ylim() == (0.0, 1.0) and "one\nbit" in texts(rates)
    assert drawn(figures.rates, ROWS | {"test_kl_nats": [1.0, 20.0]}).get_ylim() == (0.0, 22.0)
    active = drawn(figures.active, ROWS, 10)
    assert active.get_ylim()[0] < 0 and active.get_ylim()[1] > 10  # the line at 0 is no edge
    ticks = active.get_yticks()
    assert 0 in ticks and min(ticks) >= 0 and max(ticks) <= 10
    losses = drawn(figures.losses, ROWS)
    styles = [(line.get_color(), line.get_linestyle()) for line in losses.get_lines()]
    assert len(set(styles)) == 2 and len({style for _, style in styles}) == 2  # two lines without colours too


def test_the_kl_of_each_latent_and_epoch():
    axes = drawn(figures.dims, {4: [0.0, 0.1, 0.2], 6: [0.0, 2.0, 0.1]})
    (cells,) = axes.get_images()
    shown = cells.get_array().filled(-1.0).tolist()  # epoch 5 is not there
    assert shown == [pytest.approx([0.1, -1, 2.0]), pytest.approx([0.2, -1, 0.1]), [0.0, -1, 0.0]]
    assert list(cells.get_extent()[:2]) == [3.5, 6.5] and cells.get_clim() == (0.0, pytest.approx(2.0))
    assert [t.get_text() for t in axes.get_yticklabels()] == ["1", "2", "0"]
    assert drawn(figures.dims, {1: [0.01, 0.0]}).get_images()[0].get_clim()[1] == 1.0


# ---------------------------------------------------------------- rate and distortion


def test_a_bound_is_no_line(found):
    """I(x; z) near log N is a bound. A line at log N says nothing about the model."""
    m = found.measures
    estimate = replace(m, information=0.5)
    bound = replace(m, information=float(np.log(m.samples)) - 0.01)
    assert "I(x; z)" in texts(drawn(figures.rate_distortion, estimate))
    axes = drawn(figures.rate_distortion, bound)
    assert "I(x; z)" not in texts(axes)
    assert all(line.get_xdata()[0] != bound.information for line in axes.get_lines())


def test_the_path_of_a_run_and_the_names_of_the_lines(found):
    m = replace(found.measures, beta=4.0, information=0.5)
    path = [(1.0, m.nll + 30), (2.0, m.nll + 10), (m.kl, m.nll)]
    axes = drawn(figures.rate_distortion, m, path)
    said = texts(axes)
    for name in ("same ELBO", "same loss, beta 4", "this model", "epoch 1", "better"):
        assert name in said, said
    assert any(text.startswith("log p(x)") for text in said) and axes.get_legend() is None
    lines = [line for line in axes.get_lines() if len(line.get_xdata()) == 3]
    assert [list(line.get_xdata()) for line in lines] == [[rate for rate, _ in path]]
    low, high = axes.get_ylim()
    assert low < m.nll and high > m.nll + 30


# ---------------------------------------------------------------- the map


def test_rings_hold_their_shares_of_the_prior():
    draws = torch.randn(2000, 2, dtype=torch.float64)
    axes = figures.axes()
    maps.rings(axes, draws)
    shares = []
    for contour in axes.collections:
        path = max(contour.get_paths()[0].to_polygons(), key=len)
        from matplotlib.path import Path

        shares.append(Path(path).contains_points(draws.numpy()).mean())
    assert shares == [pytest.approx(0.9, abs=0.03), pytest.approx(0.5, abs=0.03)]


def test_the_rings_stand_above_the_codes():
    codes, draws = torch.randn(300, 2), torch.randn(500, 2)
    axes = drawn(figures.latent, codes, torch.arange(300) % 3, ["a", "b", "c"], draws)
    dots = [c.get_zorder() for c in axes.collections if len(c.get_offsets()) > 1]
    rings = [c.get_zorder() for c in axes.collections if len(c.get_offsets()) <= 1]
    assert len(dots) == 3 and len(rings) == 2 and max(dots) < min(rings)
    legend = [text.get_text() for text in axes.figure.legends[0].get_texts()]
    assert legend == ["a", "b", "c", "90% of the prior", "half of the prior"]


def test_one_latent_has_lines_in_place_of_rings():
    axes = drawn(figures.latent, torch.randn(50, 1), None, [], torch.randn(400, 1))
    at = sorted(line.get_xdata()[0] for line in axes.get_lines() if len(set(line.get_xdata())) == 1)
    assert len(at) == 4 and at[0] < -1 < at[1] < 0 < at[2] < 1 < at[3]


def test_ten_classes_differ_without_colours_and_more_have_numbers():
    assert len(set(ink.MARKERS)) == len(set(ink.CLASSES)) == 10
    codes, draws = torch.randn(260, 2), torch.randn(100, 2)
    axes = drawn(figures.latent, codes, torch.arange(260) % 26, list("abcdefghijklmnopqrstuvwxyz"), draws)
    assert sorted(map(int, texts(axes))) == list(range(26))
    for label, text in zip(range(26), axes.texts, strict=True):
        assert text.get_position() == pytest.approx(codes[torch.arange(260) % 26 == label].median(0).values.tolist())
    many = drawn(figures.latent, torch.randn(300, 2), torch.arange(300), list(range(300)), draws)
    assert not texts(many) and len(many.figure.axes) == 2  # a colour bar


def machado(rgb):
    """A colour as deuteranopia shows it: Machado, Oliveira & Fernandes 2009, severity 1, on linear RGB."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    matrix = [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    seen = np.clip(linear @ np.array(matrix).T, 0, 1)
    return np.where(seen <= 0.0031308, 12.92 * seen, 1.055 * seen ** (1 / 2.4) - 0.055)


def test_the_two_states_of_a_bar_differ_under_deuteranopia():
    rgb = [np.array([int(c[i : i + 2], 16) / 255 for i in (1, 3, 5)]) for c in (ink.BLUE, ink.ORANGE)]
    one, other = map(machado, rgb)
    assert np.abs(one - other).max() > 0.4


# ---------------------------------------------------------------- images


def test_the_errors_and_the_frame_of_the_worst():
    data, recon = torch.zeros(2, 1, 16, 16), torch.zeros(2, 1, 16, 16)
    recon[1, 0, 8, 8] = 2.0  # beyond the range: drawn as white
    parts = tiles.compared(data, recon, 0.0, 1.0)
    assert parts.shape == (3, 2, 3, 16, 16) and parts[1, 1, :, 8, 8].tolist() == [1.0, 1.0, 1.0]
    dark, bright = parts[2, 0, :, 0, 0], parts[2, 1, :, 8, 8]
    assert dark.sum() < 0.6 < 1.5 < bright.sum()
    picture = tiles.tiles(parts[0], 2, marked=1)
    frame = torch.tensor(tiles.FRAME)
    assert picture.shape == (16, 33, 3) and torch.allclose(picture[0, 17:], frame.expand(16, 3))
    assert picture[1:-1, 18:-1].sum() == 0 and not torch.allclose(picture[0, :16], frame.expand(16, 3))
    assert torch.equal(parts[0], tiles.compared(data, recon, 0.0, 1.0)[0])  # the frame is drawn on a copy


def test_the_png_of_a_page_has_the_pixels_of_the_images():
    picture = torch.rand(6, 9, 3)
    address = tiles.png(picture)
    import base64

    read = Image.open(io.BytesIO(base64.b64decode(address.removeprefix("data:image/png;base64,"))))
    assert np.abs(np.asarray(read.convert("RGB")) / 255 - picture.numpy()).max() <= 1 / 255


@pytest.mark.parametrize("shape", [(5, 1, 8, 8), (11, 3, 6, 5), (4, 16), (3, 7)], ids=str)
def test_the_pictures_of_a_run(shape):
    x = torch.rand(shape)
    for png in (plots.reconstructions(x, 0.5 * x, 0.0, 1.0), plots.samples(x, 0.0, 1.0)):
        assert np.asarray(Image.open(io.BytesIO(png)).convert("L")).std() > 5


# ---------------------------------------------------------------- the page


def test_tooltips_are_titles(found):
    source = found.html()
    titles = re.findall(r"<title>(latent \d: [^<]*)</title>", source)
    kl = found.measures.kl_per_dim
    order = kl.argsort(descending=True).tolist()
    assert [title.split(":")[0] for title in titles] == [f"latent {i}" for i in order]
    assert f"<title>this model: rate {found.measures.kl:.2f}" in source and ink.TIP not in source
    pictures = found.views.pictures
    assert pictures.samples.shape[0] == 60 and len(pictures.interpolations) == 4 * 7
    order = pictures.worst_losses.tolist()
    assert order == sorted(order, reverse=True) and order[0] == pictures.worst_losses.max()
    for name in ("Reconstructions", "Worst reconstructions", "Samples", "Traversals", "Interpolations"):
        assert f"<h3>{name}</h3>" in source


def test_interpolations_begin_and_end_at_codes():
    from vae_kernels.doctor.views import STEPS, interpolations

    means = torch.randn(9, 4)
    lines = interpolations(means).view(4, STEPS, 4)
    assert torch.equal(lines[:, 0], means[:1].expand(4, 4)) and torch.equal(lines[:, -1], means[1:5])
    torch.testing.assert_close(lines.diff(dim=1).std(1), torch.zeros(4, 4), atol=1e-6, rtol=0)
    assert interpolations(means[:2]).shape == (STEPS, 4)
