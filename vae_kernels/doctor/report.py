"""A Diagnosis as one HTML page: the text and the figures. template.py has the layout."""

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
    found = {"title": title, "level": diagnosis.level, "verdicts": diagnosis.verdicts}
    found |= {"summary": summary(diagnosis), "numbers": numbers(diagnosis.measures)}
    drawn, missing = draw(diagnosis, figures)
    return template.from_string(TEMPLATE).render(**found, figures=drawn, missing=missing)


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
    caption = f"{m.active_units} of {m.latents} latents are active."
    if m.active_units < m.latents:
        caption = f"{caption[:-1]} (blue); the others (orange) carry no information about x."
    if m.kl_per_dim is None:
        caption += " This prior has no KL by dimension: the bars show the variance of the mean."
    drawn: list[tuple] = [(name, 3.2, figures.spectrum, (m,), caption)]
    caption = f"{len(views.means)} posterior means and {len(views.draws)} draws of the prior (grey)."
    caption += " Where grey has no dots, the prior draws samples but there are no data, as far as a plane can show it."
    on_map = views.means, views.labels, views.classes, views.draws
    drawn.append(("Map of the latents", 4.2, figures.latent, on_map, caption))
    caption = f"Rate {m.kl:.2f} nats, distortion {m.nll:.2f} nats. Along the grey line models have the same ELBO."
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
        found.append({"name": name, "caption": caption, "svg": figures.svg(axes.figure, f"{name}. {caption}")})
    return found, "" if shown is not None else f"No reconstructions and no traversals: {views.why_not}."


def numbers(m):
    """(name, value, explanation) for each measure that is not None."""
    log_p = m.log_p
    rows = [
        ("observed", of_observed(m, "{}") or None, "of the elements of x, which the distortion and log p(x) are of"),
        ("-ELBO", f"{m.kl + m.nll:.2f} nats", "rate and distortion together, the mean over the samples"),
        ("rate", f"{m.kl:.2f} +- {m.kl_error:.2f} nats", "KL of the posterior to the prior"),
        ("distortion", f"{m.nll:.2f} nats", "-log p(x|z)"),
        ("I(x; z)", f"{m.information:.2f} +- {m.error:.2f} nats", "mutual information; at most log of the samples"),
        ("log p(x)", log_p and f"{log_p.value:.2f} +- {log_p.error:.2f} nats", "by importance sampling"),
        ("gap", log_p and f"{log_p.gap:.2f} +- {log_p.gap_error:.2f} nats", "log p(x) minus the ELBO of these samples"),
        ("effective draws", log_p and f"{log_p.effective:.1f} of {log_p.draws}", "of the importance sampling"),
        ("active units", f"{m.active_units} of {m.latents}", "latents whose mean varies by more than 0.01"),
        ("moments", f"{m.aggregate_kl:.2f} nats", "KL of the aggregate posterior's Gaussian to the prior's"),
        ("holes", f"{m.hole_share:.1%}", "of the prior's draws lie where the data's z are rare; 5% without holes"),
        ("round trip, prior", _number(m.round_trip_prior), "(z - mean)^2 / variance after decoding and encoding again"),
        ("round trip, data", _number(m.round_trip_data), "the same of data's z"),
        ("beta", _number(m.beta), "beta / rec_weight"),
        ("variance", _number(m.square_ratio), "mean square of the residuals over the likelihood's variance"),
        ("detail", _number(m.detail), "energy of neighbouring pixels' differences, reconstructions' over data's"),
    ]
    return [row for row in rows if row[1] is not None]


def _number(value):
    return None if value is None else f"{value:.3g}"
