"""The page of a report: jinja2, and a style for light and dark, wide and narrow."""

from ..core.page import PAGE, head
from ..core.page import STYLE as COMMON
from ..core.page import TAIL as TAIL
from .cards import GAUGES

STYLE = f"""{COMMON}{GAUGES}{PAGE}
.vk .figures {{ display: grid; gap: 1rem; align-items: start;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); }}
.vk figure {{ margin: 0; padding: .8rem 1rem; background: var(--card); border: 1px solid var(--line);
  border-radius: .5rem; }}
.vk .figures.wide {{ grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); margin-bottom: 1rem; }}
.vk figure > svg {{ display: block; width: 100%; max-width: 34rem; height: auto; margin: .5rem auto; }}
.vk figure > svg text {{ fill: currentColor; }}
.vk .two {{ display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr));
  align-items: start; margin: .5rem 0 1.25rem; }}
.vk table.beside th:first-child {{ width: 16rem; max-width: 30vw; }}
.vk figcaption {{ font-size: .9rem; }}
.vk img {{ display: block; width: 100%; height: auto; image-rendering: pixelated; }}
.vk .numbers {{ display: grid; font-size: .8rem; text-align: center; font-variant-numeric: tabular-nums; }}
.vk table {{ border-collapse: collapse; width: 100%; }}
.vk th, .vk td {{ text-align: left; vertical-align: top; padding: .3rem .75rem .3rem 0;
  border-bottom: 1px solid var(--line); }}
.vk th {{ font-weight: 600; }} .vk td:nth-child(2) {{ font-variant-numeric: tabular-nums; }}
@media (max-width: 36rem) {{ .vk tr {{ display: grid; grid-template-columns: 1fr 1fr;
  border-bottom: 1px solid var(--line); padding: .3rem 0; }}
  .vk table.beside th:first-child {{ grid-column: 1 / -1; width: auto; max-width: none; }}
  .vk th, .vk td {{ border: 0; padding: 0 .5rem 0 0; }} .vk td:nth-child(3) {{ grid-column: 1 / -1; }}
  .vk table.beside td:nth-child(3) {{ grid-column: auto; }} .vk figure {{ padding: .6rem .5rem; }}
  .vk .numbers {{ font-size: .7rem; }} }}
"""

HEAD = head("{{ title }}: {{ word }}", "{{ style | safe }}")

TEMPLATE = """<header>
<h1>{{ title }}</h1>
<p class="faint">{{ summary }}</p>
</header>
<main>
{{ banner | safe }}
<section aria-labelledby="symptoms">
<h2 id="symptoms">Symptoms</h2>
{{ cards | safe }}
</section>
<section aria-labelledby="pictures">
<h2 id="pictures">Pictures</h2>
{% if missing %}
<p>{{ missing }}</p>
{% endif %}
{% for wide in (true, false) %}
<div class="figures{% if wide %} wide{% endif %}">
{% for f in figures if f.wide == wide %}
<figure><h3>{{ f.name }}</h3>
{{ f.body | safe }}
<figcaption>{{ f.caption }}</figcaption></figure>
{% endfor %}
</div>
{% endfor %}
</section>
{% if columns %}
<section aria-labelledby="columns">
<h2 id="columns">Columns</h2>
<p>-log p of each column in nats per row, given a draw of the posterior; -log p of the column under one distribution for
all rows; and the gain, which is what the latents tell of the column. The least explained column of a kind is first.</p>
{% for kind, rows in columns %}
<h3>{{ kind }}</h3>
<table>
<tr>{% for name in ("column", "nats", "alone", "gain", "") %}<th scope="col">{{ name }}</th>{% endfor %}</tr>
{% for name, nats, alone, gain, said in rows %}
<tr><th scope="row">{{ name }}</th><td>{{ nats }}</td><td>{{ alone }}</td><td>{{ gain }}</td><td>{{ said }}</td></tr>
{% endfor %}
</table>
{% endfor %}
</section>
{% endif %}
<section aria-labelledby="numbers">
<h2 id="numbers">Numbers</h2>
<details><summary>All numbers, with their errors</summary>
<table>
{% for name, value, what in numbers %}
<tr><th scope="row">{{ name }}</th><td>{{ value }}</td><td class="faint">{{ what }}</td></tr>
{% endfor %}
</table>
</details>
{% if options %}
<details><summary>How the model was trained</summary>
<table>
{% for name, value in options.items() %}
<tr><th scope="row">{{ name }}</th><td>{{ value }}</td></tr>
{% endfor %}
</table>
</details>
{% endif %}
</section>
</main>
"""
