"""The checklist of a release: python .ci/release.py checks what a script can check, and prints what is left to do.

python .ci/release.py --prepare 0.2.0 writes the number and the day into pyproject.toml, CITATION.cff, CHANGELOG.md and
.ci/conda/recipe.yaml. Look at the change, and commit it. Nothing else is changed, and nothing is sent anywhere.
"""

import argparse
import datetime
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
NUMBER = r"\d+\.\d+\.\d+"
RECIPE = ".ci/conda/recipe.yaml"
SECTION = rf"^## ({NUMBER}) \((unreleased|\d{{4}}-\d\d-\d\d)\)$"
# A promise to remove something, in the words of the warnings and the docs: "until 0.4", "ends with version 0.4"
ENDS = r"(?:until|ends with version|gone in|removed in) (?:version )?(\d+\.\d+)\b"
LEFT = """\
Left to do, in this order:
  1. .ci/run                                   all checks, in a fresh clone
  2. make soak                                 the long suite; commit bench/results/reliability
  3. python -m bench all --out bench/results && python -m bench.readme     on a quiet machine
  4. read the changelog of {version} as somebody who updates: what must this person do?
  5. python -m build --sdist && python .ci/wheel.py     the sdist and the wheel in dist/; then run this script again
  6. install the wheel in a fresh environment without a compiler, and run: vae-kernels env && vae-kernels train
  7. git tag -s v{version} -m "vae_kernels {version}", and push the tag
  8. twine check dist/* && twine upload dist/*
  9. python .ci/release.py --prepare NEXT --unreleased, so that the tree does not claim to be {version}"""


def version_of(root):
    """The version: its one place is pyproject.toml."""
    return re.search(rf'^version = "({NUMBER})"$', (root / "pyproject.toml").read_text(encoding="utf-8"), re.M)[1]


def numbers(version):
    return tuple(map(int, version.split(".")))


def sections(root):
    """[(version, "unreleased" or the day)] of the changelog, from the top."""
    return re.findall(SECTION, (root / "CHANGELOG.md").read_text(encoding="utf-8"), re.M)


def git(root, *words):
    return subprocess.run(["git", *words], cwd=root, capture_output=True, text=True, check=True).stdout.strip()


def problems_of_texts(root):
    """What is wrong with the files that name the version: one sentence each."""
    version, found = version_of(root), sections(root)
    citation = (root / "CITATION.cff").read_text(encoding="utf-8")
    if not found or found[0][0] != version:
        yield f"CHANGELOG.md: the top section is {found[0][0] if found else 'missing'}, expected {version}"
    elif found[0][1] == "unreleased":
        yield f"CHANGELOG.md: {version} is unreleased, expected a day: --prepare {version}"
    order = [numbers(number) for number, _ in found]
    if order != sorted(set(order), reverse=True):
        yield "CHANGELOG.md: the sections are not in falling order"
    if any(day == "unreleased" for _, day in found[1:]):
        yield "CHANGELOG.md: a section below the top one is unreleased"
    if not re.search(rf"^version: {re.escape(version)}$", citation, re.M):
        yield f"CITATION.cff: expected the line version: {version}"
    if f'version: "{version}"' not in (root / RECIPE).read_text(encoding="utf-8"):
        yield f'{RECIPE}: expected the line version: "{version}"'
    day = found[0][1] if found else ""
    if day != "unreleased" and not re.search(rf"^date-released: {day}$", citation, re.M):
        yield f"CITATION.cff: expected the line date-released: {day}"
    yield from promises(root, version)


def promises(root, version):
    """What was promised to be gone by now."""
    for path in sorted((root / "vae_kernels").rglob("*.py")):
        for end in set(re.findall(ENDS, path.read_text(encoding="utf-8"))):
            if numbers(version)[:2] >= numbers(end):
                yield f"{path.relative_to(root)}: something ends with {end}, and this is {version}"


def problems_of_the_tree(root, version):
    if git(root, "status", "--porcelain"):
        yield "git: there are changes that are not committed"
    if f"v{version}" in git(root, "tag").split():
        yield f"git: the tag v{version} exists; take another number"


def problems_of_the_files(root, version):
    """What is wrong with dist/, if there is one."""
    made = sorted(path.name for path in (root / "dist").glob("*"))
    old = [name for name in made if not name.startswith(f"vae_kernels-{version}")]
    if old:
        yield f"dist/: {', '.join(old)} is not of {version}"
    if made and not (any(n.endswith(".tar.gz") for n in made) and any(n.endswith(".whl") for n in made)):
        yield "dist/: expected an sdist and a wheel"
    if plain := [name for name in made if name.endswith("-linux_x86_64.whl")]:
        yield f"dist/: no index takes {', '.join(plain)}; .ci/wheel.py makes the wheel for manylinux"


def prepare(root, version, day):
    """Write the number and the day. day: None for a version that is still to come."""
    if not re.fullmatch(NUMBER, version):
        raise SystemExit(f"--prepare: got {version!r}, expected a number such as 0.2.0")
    before, top = version_of(root), sections(root)[0]
    if numbers(version) < numbers(before):
        raise SystemExit(f"--prepare: got {version}, but pyproject.toml has {before}")
    heading, old = f"## {version} ({day or 'unreleased'})", f"## {top[0]} ({top[1]})"
    if top[1] == "unreleased":
        _replace(root / "CHANGELOG.md", f"^{re.escape(old)}$", heading)
    elif top[0] == version:
        raise SystemExit(f"--prepare: {version} was released on {top[1]}")
    else:
        _replace(root / "CHANGELOG.md", f"^{re.escape(old)}$", f"{heading}\n\n{old}")
    _replace(root / "pyproject.toml", rf'^version = "{NUMBER}"$', f'version = "{version}"')
    _replace(root / "CITATION.cff", r"^date-released: .*\n", "", least=0)
    _replace(root / RECIPE, rf'^  version: "{NUMBER}"', f'  version: "{version}"')
    released = f"\ndate-released: {day}" if day else ""
    _replace(root / "CITATION.cff", rf"^version: {NUMBER}$", f"version: {version}{released}")


def _replace(path, pattern, text, least=1):
    old = path.read_text(encoding="utf-8")
    new, count = re.subn(pattern, lambda _: text, old, count=1, flags=re.M)
    if count < least:
        raise SystemExit(f"{path.name}: found no line {pattern}")
    path.write_text(new, encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prepare", metavar="VERSION")
    parser.add_argument("--unreleased", action="store_true", help="with --prepare: a version that is still to come")
    args = parser.parse_args()
    if args.prepare:
        return prepare(ROOT, args.prepare, None if args.unreleased else datetime.date.today().isoformat())
    version = version_of(ROOT)
    checks = problems_of_texts(ROOT), problems_of_the_tree(ROOT, version), problems_of_the_files(ROOT, version)
    found = [problem for check in checks for problem in check]
    print(f"vae_kernels {version}")
    print(*(f"  not ready: {problem}" for problem in found), sep="\n", end="\n" if found else "")
    print("" if found else "  The texts, the tree and dist/ agree.\n")
    print(LEFT.format(version=version))
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
