"""The figures of numbers in a report, with their names and captions."""

from . import figures, quantities

PATH = "test_kl_nats", "test_reconstruction_nats"  # of each epoch


def graphs(diagnosis, facts, top=None):
    """[{name, caption, body, wide}]. top: the end of the axis of the KL of each latent, see figures.spectrum()."""
    found = []
    for name, height, function, arguments, caption in [*_trained(diagnosis, facts), *_judged(diagnosis, facts, top)]:
        axes, caption = figures.axes(height), quantities.plain(caption)
        function(axes, *arguments)
        body = figures.svg(axes.figure, f"{name}. {caption}")
        found.append({"name": name, "caption": caption, "body": body, "wide": False})
    return found


def _judged(diagnosis, facts, top):
    """(name, height, function, arguments, caption) of each figure of the diagnosis."""
    m, views = diagnosis.measures, diagnosis.views
    name = "KL of each latent" if m.kl_per_dim is not None else "Spread of each latent"
    caption = f"{quantities.active(m)} latents are active."
    if m.active_units < m.latents:
        caption = f"{caption[:-1]} (blue). The posterior means of the others (orange, hatched) hardly vary with x."
    if m.kl_per_dim is None:
        caption += " This prior has no KL by dimension: the bars show the variance of the mean, over the prior's."
    yield name, 3.2, figures.spectrum, (m, top), caption
    path = tuple(zip(*(facts.curves[name] for name in PATH), strict=True)) if facts.curves else ()
    caption = f"Rate {quantities.rate(m)}, distortion {quantities.distortion(m)}. The grey line has its ELBO."
    if path:
        caption += f" The dots are the {len(path)} epochs of the training, on the held-out data."
    if m.log_p is not None:
        caption += f" log p(x) lies {quantities.gap(m.log_p)} above the ELBO."
    if quantities.at_limit(m):
        caption += " I(x; z) is known as a bound only, and a bound is no line."
    caption = f"{caption} {quantities.grey(m.grey)}".strip()
    yield "Rate and distortion", 3.8, figures.rate_distortion, (m, path), caption
    caption = f"A draw of the posterior for each of {len(views.codes)} data. The rings hold half and 90% of "
    caption += (
        f"{len(views.draws)} draws of the prior. A ring without dots: the prior draws samples there, but no data "
    )
    caption += "are there, as far as a plane can show."
    if views.codes.shape[1] > 2:
        caption += " The axes are principal components, with their share of the variance."
    on_map = views.codes, views.labels, views.classes, views.draws
    yield "Map of the latents", 4.6, figures.latent, on_map, caption


def _trained(diagnosis, facts):
    """The same of each figure of the training."""
    if not facts.curves:
        return
    epochs, latents = len(facts.curves["test_kl_nats"]), diagnosis.measures.latents
    caption = (
        "-ELBO of train data and of held-out data after each epoch. If the held-out loss still falls, train longer."
    )
    yield "Loss of each epoch", 2.9, figures.losses, (facts.curves,), caption
    caption = f"The KL of the held-out data after each of {epochs} epochs. The axis has one nat at least."
    yield "KL of each epoch", 2.9, figures.rates, (facts.curves,), caption
    caption = "The latents whose posterior mean varies with x. Zero is a collapse."
    yield "Active latents of each epoch", 2.9, figures.active, (facts.curves, latents), caption
    if facts.dims:
        caption = "Each line is a latent. A latent that stays dark carries nothing."
        yield "KL of each latent and epoch", 3.2, figures.dims, (facts.dims,), caption
