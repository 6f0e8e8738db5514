"""The style of the HTML that the doctor and the audit write: for light and dark, wide and narrow pages. Every rule is
below the class "vk", so that a notebook keeps its own style."""

from html import escape

# Blue, amber and vermilion stay apart for colour-blind readers. Each level also has its word.
STYLE = """
.vk { color-scheme: light dark; --paper: #ffffff; --card: #f5f6f8; --ink: #1c2024; --faint: #59616a; --line: #d8dce1;
  --healthy: #0b63a5; --watch: #8a5a00; --ill: #b8330f; }
@media (prefers-color-scheme: dark) { .vk { --paper: #15181c; --card: #1f242a; --ink: #e6e9ec; --faint: #a8b1ba;
  --line: #39414a; --healthy: #6db6f2; --watch: #e8b64c; --ill: #ff8a66; } }
.vk, .vk * { box-sizing: border-box; }
.vk { background: var(--paper); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
.vk h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 .25rem; }
.vk h2 { font-size: 1.2rem; margin: 2rem 0 .75rem; }
.vk h3 { font-size: 1rem; margin: 0; } .vk h4 { font-size: .9rem; margin: .5rem 0 .2rem; font-weight: 600; }
.vk p { margin: .4rem 0; }
.vk .faint, .vk figcaption { color: var(--faint); }
.vk code { font: .95em ui-monospace, monospace; }
.vk pre { margin: .5rem 0 0; padding: .6rem .8rem; overflow-x: auto; background: var(--paper);
  border: 1px solid var(--line); border-radius: .35rem; white-space: pre-wrap; overflow-wrap: anywhere; }
.vk .healthy { --level: var(--healthy); } .vk .watch { --level: var(--watch); } .vk .ill { --level: var(--ill); }
.vk .wrong { --level: var(--ill); } .vk .note { --level: var(--watch); } .vk .fine { --level: var(--healthy); }
.vk .level { color: var(--level); font-weight: 700; white-space: nowrap; }
.vk .banner { padding: 1rem 1.25rem; background: var(--card); border: 1px solid var(--line);
  border-left: .6rem solid var(--level); border-radius: .5rem; }
.vk .banner h2 { margin: 0; font-size: 1.35rem; line-height: 1.3; }
.vk article { margin: 0; padding: .8rem 1rem; background: var(--card); border: 1px solid var(--line);
  border-left: .35rem solid var(--level); border-radius: .5rem; }
.vk article > header { display: flex; justify-content: space-between; align-items: baseline; gap: 0 .75rem; }
.vk summary { cursor: pointer; color: var(--faint); }
.vk details > summary { margin-top: .4rem; }
.vk dl { margin: .4rem 0 0; } .vk dt { font-weight: 600; } .vk dd { margin: 0 0 .4rem; }
"""


def text(value) -> str:
    """A text as HTML."""
    return escape(str(value)).replace("+-", "±")


def fragment(body: str) -> str:
    """A piece of HTML with its style, for a notebook."""
    return f'<style>{STYLE}</style><div class="vk" style="padding: .75rem">{body}</div>'


PAGE = """
body { margin: 0; }
.vk.page { margin: 0 auto; max-width: 80rem; min-height: 100vh; padding: 1.25rem clamp(.75rem, 3vw, 2.5rem) 3rem; }
@media (prefers-color-scheme: dark) { body { background: #15181c; } }
"""
"""The style of a page of its own, beside STYLE."""

TAIL = """</div>
</body>
</html>
"""


def head(title: str, style: str) -> str:
    """What comes before the body of a page. Both arguments are HTML already, or a place in a template."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<div class="vk page">
"""


def page(title: str, body: str) -> str:
    """One HTML page of this body."""
    return head(text(title), STYLE + PAGE) + body + TAIL
