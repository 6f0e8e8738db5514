"""What the site has beside the files of docs/: a hook of mkdocs.

Each text exists once. README.md becomes the first page, the table of docs/errors.md becomes a heading for each error,
the gallery has each picture of the guides, a notebook becomes a page with its outputs, and the pages of the API name
what mkdocstrings reads from the docstrings. A picture or a public name that no page has ends the build.
"""

import ast
import json
import posixpath
import re
from pathlib import Path

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parents[2]

FIRST = "index.md"
MORE = "More"  # a section of README.md that the navigation stands for
ERRORS = "errors.md"

FILES = {
    "CHANGELOG.md": "changelog.md",
    "CODE_OF_CONDUCT.md": "conduct.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
}

NOTEBOOKS = {f"examples/{name}.ipynb": f"notebooks/{name}.md" for name in ("digits", "cells", "table")}

LINK = r"\[([^\]]*)\]\(([^)\s]+)\)"

# The names below vae_kernels on each page of the API. A module stands for its public members, or for those behind the
# colon; the star is all members, also without a docstring. The navigation of mkdocs.yml has the titles.
API = {
    "objective": "fused_elbo FusedELBO nll gaussian_kl log_prob ElboTerms FreeBits",
    "samples": "sample_kl reparameterize logvar_of Shard",
    "bounds": "iwae log_marginal_likelihood LogMarginalLikelihood kl_decomposition KlParts mixture_log_prob",
    "models": "VAE mlp_vae conv_vae models:TopDownVAE load_run cli.run.Run",
    "likelihoods": "LIKELIHOODS likelihoods",
    "priors": "priors",
    "controls": "controls",
    "distributions": "distributions",
    "faults": "audit auditing.Audit diagnose doctor.Diagnosis doctor.Verdict doctor.Cause Monitor",
    "backends": "available_backends set_pool_limit pool_bytes",
    "integrations": "integrations.scvi:attach,detach,load,patch integrations.ctgan:attach,detach integrations.pyro "
    "integrations.onnx:translations",
    "typing": "typing:*",
}


def on_files(files, config):
    made = {FIRST: _first()} | {page: _text(name) for name, page in FILES.items()}
    made |= {f"api/{page}.md": _api(names) for page, names in API.items()}
    made |= {page: _notebook(name) for name, page in NOTEBOOKS.items()}
    made["gallery.md"] = _gallery(config)
    _check_names()
    for page, text in made.items():
        files.append(File.generated(config, page, content=text))
    _complete(config.nav, files)
    return files


def _complete(nav, files):
    """A page that the navigation of mkdocs.yml does not name becomes the last one of the guides."""
    named = re.findall(r"[\w/]+\.md", str(nav))
    (guides,) = (part["Guides"] for part in nav if "Guides" in part)
    guides += sorted(file.src_uri for file in files.documentation_pages() if file.src_uri not in named)


def on_page_markdown(markdown, page, config, files):
    """The links between files of the source tree become links between pages."""
    sources = {page: source for source, page in (FILES | NOTEBOOKS).items()} | {FIRST: "README.md"}
    here = page.file.src_uri
    text = _as_headings(markdown) if here == ERRORS else markdown
    return with_links(text, sources.get(here, f"docs/{here}"), here, files)


def on_page_content(html, page, config, files):
    """docs/likelihoods.md in a docstring or in the changelog leads to the page. The text stays that of the source."""
    up = "../" * page.file.src_uri.count("/")

    def link(match):
        known = files.get_file_from_path(f"{match[1]}.md")
        return f'<a href="{up}{known.url}">{match[0]}</a>' if known else match[0]

    parts = re.split(r"(<pre.*?</pre>|<a .*?</a>|<[^>]*>)", html, flags=re.DOTALL)
    return "".join(part if i % 2 else re.sub(r"\bdocs/(\w+)\.md\b", link, part) for i, part in enumerate(parts))


def with_links(text, source, here, files):
    """text, whose links are those of the file `source`, with the links of the page `here`.

    A link to a file of the source tree that is on no page, such as a folder of tests, becomes its text."""

    def link(match):
        label, target = match.groups()
        path, _, anchor = target.partition("#")
        if not path or re.match(r"[a-z]+:", target):
            return match[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        page = _page_of(path)
        if files.get_file_from_path(page) is None:
            if not (ROOT / path).exists():
                raise PluginError(f"{source}: the link {target} leads to nothing")
            return label
        if page == ERRORS:
            anchor = ""  # its headings are errors
        if re.fullmatch(r"[\w/]+\.md", label):  # on the site a page has its title in place of its path
            label = _title(path)
        shown = posixpath.relpath(page, posixpath.dirname(here) or ".")
        return f"[{label}]({shown}{'#' * bool(anchor)}{anchor})"

    text = re.sub(r'<img src="([^"]+)" alt="([^"]+)" width="(\d+)">', r"![\2](\1){ width=\3 }", text)
    parts = re.split(r"(^```.*?^```$|^    [^\n]*$)", text, flags=re.DOTALL | re.MULTILINE)  # code has no links
    return "".join(part if i % 2 else re.sub(LINK, link, part) for i, part in enumerate(parts))


def _page_of(path):
    """The page that shows a file of the source tree."""
    return FIRST if path == "README.md" else (FILES | NOTEBOOKS).get(path) or posixpath.relpath(path, "docs")


def _title(path):
    """The title of a file, without what stands behind a colon."""
    return re.search(r"^# ([^:\n]+)", _text(path), re.MULTILINE)[1]


def _text(name):
    return (ROOT / name).read_text(encoding="utf-8")


def _first():
    """README.md without the links that the navigation has too."""
    return re.sub(rf"^## {MORE}\n.*?(?=^## |\Z)", "", _text("README.md"), flags=re.MULTILINE | re.DOTALL)


def _as_headings(text):
    """Each row of a table of two columns as a heading and a paragraph: long errors do not fit beside their meaning."""
    text = re.sub(r"^\|[^|\n]*\|[^|\n]*\|\n\|[-| ]+\|\n", "", text, flags=re.MULTILINE)
    return re.sub(r"^\| (.+?) \| (.+) \|$", _row, text, flags=re.MULTILINE)


def _row(match):
    error, meaning = match.groups()
    begins = re.match(r"a |[a-z]{2,} ", meaning)  # with a word, and not with the name of a tensor
    return f"## {error}\n\n{meaning[0].upper() if begins else meaning[0]}{meaning[1:]}.\n"


def _gallery(config):
    """Each picture of the guides, with its description, and the page that explains the picture."""
    lines, shown = ["# Gallery", ""], set()
    for path in sorted(Path(config.docs_dir).rglob("*.md")):
        page = path.relative_to(config.docs_dir).as_posix()
        title = re.search(r"^# (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)[1]
        pictures = re.findall(r"!\[([^\]]*)\]\(([^)]+)\)", path.read_text(encoding="utf-8"))
        pictures = [(alt, posixpath.normpath(posixpath.join(posixpath.dirname(page), src))) for alt, src in pictures]
        if pictures:
            lines += [f"## {title}", ""]
        for alt, src in pictures:
            shown.add(src)
            caption = alt[0].upper() + alt[1:]
            lines += [f"[![{alt}]({src})]({page})", "", f"{caption}: [{page}]({page}).", ""]
    pictures = [path for kind in ("svg", "png") for path in Path(config.docs_dir).rglob(f"*.{kind}")]
    unseen = {path.relative_to(config.docs_dir).as_posix() for path in pictures} - shown
    if unseen:
        raise PluginError(f"docs/: no page shows {', '.join(sorted(unseen))}")
    return "\n".join(lines)


def _notebook(name):
    """The cells of a notebook, each with its outputs, as Markdown."""
    parts = []
    for cell in json.loads(_text(name))["cells"]:
        source = "".join(cell["source"])
        parts.append(source if cell["cell_type"] == "markdown" else f"```python\n{source}\n```")
        parts += [_output(output) for output in cell.get("outputs", ())]
    return "\n\n".join([*parts, f"This page is the notebook `{name}`.\n"])


def _output(output):
    """The best form of an output: a picture, a table, or text."""
    forms = {kind: "".join(form) for kind, form in output.get("data", {}).items()}
    if "image/png" in forms:
        picture = forms["image/png"].replace("\n", "")
        return f'<img alt="what the code above draws" src="data:image/png;base64,{picture}">'
    if "text/html" in forms:  # a table of pandas, without its own style
        (table,) = re.findall(r"<table.*</table>", forms["text/html"], re.DOTALL)
        return re.sub(r"<(table|tr)[^>]*>", r"<\1>", table)
    return f"```text\n{forms.get('text/plain') or ''.join(output['text']).rstrip()}\n```"


def _api(names):
    entries = []
    for name in names.split():
        name, _, members = name.partition(":")
        entries.append(f"::: vae_kernels.{name}")
        options = ["show_root_full_path: true"] if _is_module(name) else []
        options += [] if not members else ["show_if_no_docstring: true" if members == "*" else f"members: [{members}]"]
        if options:
            entries.append(f"    options: {{{', '.join(options)}}}")
    return "\n".join(entries) + "\n"


def _is_module(name):
    path = ROOT / "vae_kernels" / name.replace(".", "/")
    return name.islower() and (path.is_dir() or path.with_suffix(".py").exists())


def _check_names():
    """Each name of vae_kernels.__all__ stands on a page of the API."""
    tree = ast.parse(_text("vae_kernels/__init__.py"))
    (names,) = (ast.literal_eval(node.value) for node in tree.body if _assigns(node, "__all__"))
    placed = {name.partition(":")[0] for names in API.values() for name in names.split()}
    missing = set(names) - placed
    if missing:
        raise PluginError(f"API of docs/site/pages.py: {', '.join(sorted(missing))} is on no page")


def _assigns(node, name):
    return isinstance(node, ast.Assign) and any(getattr(target, "id", None) == name for target in node.targets)
