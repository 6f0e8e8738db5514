"""A Diagnosis as one HTML page: the text and the figures. template.py has the layout."""

from . import quantities
from .template import TEMPLATE
from .verdicts import of_observed
from .views import STEPS

NEEDS = 'the HTML report needs matplotlib and jinja2: pip install "vae-kernels[demo]"'


def page(diagnosis, title):
    """The text of the page."""
    try:
        from jinja2 import Environment, StrictUndefined

        from . import figures
    except ImportError as error:
        raise ImportError(f"{error}; {NEEDS}") from error
    template = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    template.filters["plain"] = plain
    found = {"title": title, "level": diagnosis.level, "verdicts": diagnosis.verdicts}
    found |= {"summary": summary(diagnosis), "numbers": quantities.table(diagnosis.measures)}
    drawn, missing = draw(diagnosis, figures)
    return template.from_string(TEMPLATE).render(**found, figures=drawn, missing=missing)


def plain(text):
    return text.replace("+-", "±")


def summary(diagnosis):
    """The summary below the title, in one line."""
    m = diagnosis.measures
    by_level = {level: [v.symptom for v in diagnosis.verdicts if v.level == level] for level in ("ill", "watch")}
    texts = [f"{level}: {', '.join(names)}" for level, names in by_level.items() if names]
    share = of_observed(m, ", {} of x observed")
    return f"{m.samples} samples, {m.latents} latents{share}. {'; '.join(texts) or 'No symptom'}."


def draw(diagnosis, figures):
    """([{svg, name, caption}], a sentence that says which figures are missing and why, or "")."""
    m, views, shown = diagnosis.measures, diagnosis.views, diagnosis.views.pictures
    name = "KL of each latent" if m.kl_per_dim is not None else "Spread of each latent"
    caption = f"{quantities.active(m)} latents are active."
    if m.active_units < m.latents:
        caption = f"{caption[:-1]} (blue). The posterior means of the others (orange) hardly vary with x."
    if m.kl_per_dim is None:
        caption += " This prior has no KL by dimension: the bars show the variance of the mean, over the prior's."
    drawn: list[tuple] = [(name, 3.2, figures.spectrum, (m,), caption)]
    caption = (
        f"A draw of the posterior for each of {len(views.codes)} data, and {len(views.draws)} of the prior (grey)."
    )
    caption += " Where grey has no dots, the prior draws samples but there are no data, as far as a plane can show it."
    on_map = views.codes, views.labels, views.classes, views.draws
    drawn.append(("Map of the latents", 4.2, figures.latent, on_map, caption))
    caption = f"Rate {quantities.rate(m)}, distortion {quantities.distortion(m)}. Along the grey line models have the "
    caption += "same ELBO."
    if m.log_p is not None:
        caption += f" log p(x) lies {quantities.gap(m.log_p)} above the ELBO."
    caption = f"{caption} {quantities.grey(m.grey)}".strip()
    drawn.append(("Rate and distortion", 3.6, figures.rate_distortion, (m,), caption))
    if shown is not None:
        height = figures.height(shown.data, len(shown.data), 3)
        caption = f"{len(shown.data)} of the data, their posterior means decoded, and draws of the prior decoded."
        caption += of_observed(m, " {} of x is observed; missing pixels are grey.")
        drawn.append(("Reconstructions and samples", height, figures.reconstructions, (shown,), caption))
        height = figures.height(shown.data, STEPS, len(shown.dims)) + 0.3
        caption = "The first of the data, with one latent moved at a time. A row without a change has an unused latent."
        drawn.append(("Traversals", height, figures.traversals, (shown,), caption))
    found = []
    for name, height, function, arguments, caption in drawn:
        axes = figures.axes(height)
        function(axes, *arguments)
        found.append({"name": name, "caption": caption, "svg": figures.svg(axes.figure, plain(f"{name}. {caption}"))})
    return found, "" if shown is not None else f"No reconstructions and no traversals: {views.why_not}."
