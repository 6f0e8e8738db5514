"""The small changes that mutate.py makes: all possible changes of a file, and the choice of a few of them by a seed.

The sources are formatted, so an operator always stands between two spaces. So regular expressions can find what to
change in C++ and in Python. Comments, strings and preprocessor lines are not changed.
"""

import ast
import io
import itertools
import random
import re
import tokenize
from dataclasses import dataclass
from pathlib import Path

OTHER = {
    "+": "-", "-": "+", "*": "/", "/": "*", "<": "<=", "<=": "<", ">": ">=", ">=": ">", "==": "!=", "!=": "==",
    "&&": "||", "||": "&&", "&": "|", "|": "&", ">>": "<<", "+=": "-=", "^": "|", "and": "or", "or": "and",
}  # fmt: skip
SWAPPED = {"at_least", "at_most", "where", "place", "load", "store", "box_muller", "row_sums", "all_sum", "exp_pair"}


def _operator(m):
    return f" {OTHER[m[1]]} "


def _constant(m):
    """An integer becomes one more, another number becomes larger by half, and 0 becomes 1."""
    text = m[0]
    if text.startswith("0x"):
        digits = text.rstrip("u")
        return hex(int(digits, 16) + 1) + text[len(digits) :]
    digits = text.rstrip("fu")
    if re.fullmatch(r"\d+", digits):
        return str(int(digits) + 1) + text[len(digits) :]
    return repr(float(digits) * 1.5 or 1.0) + text[len(digits) :]


def _swapped(m):
    if "fma" in m[1]:  # swapping the factors changes nothing, so swap the second factor and the summand
        return f"{m[1]}({m[2]}, {m[4]}, {m[3]})" if m[4] else None
    return m[0].replace(f"({m[2]}, {m[3]}", f"({m[3]}, {m[2]}") if m[1] in SWAPPED else None


NUMBER = r"0x[0-9a-fA-F]+|\d+\.\d*(?:e[-+]?\d+)?|\d+(?:e[-+]?\d+)?"
KINDS = {
    "operator": (r" (\+|-|\*|/|<|<=|>|>=|==|!=|&&|\|\||&|\||\^|>>|\+=|and|or) (?=\S)", _operator),
    "constant": (
        r"(?<![\w.\"])(?<!\)\[)(?:0x[0-9a-fA-F]+|\d+\.\d*(?:e[-+]?\d+)?|\d+(?:e[-+]?\d+)?)[fu]?(?![\w.])",
        _constant,
    ),
    "a term less": (r" [+-] \w[\w.]*(?:\[\w+\])?(?=[;,)\]]|$)", lambda m: ""),
    "arguments swapped": (r"\b(\w+)\((\w+), (\w+)(?:, ([\w.]+)\))?(?=[,)]|$)", _swapped),
    "the other branch": (r"\? ([^:?;]+?) : ([^:?;,(){}]+)(?=[;,)}])", lambda m: f"? {m[2]} : {m[1]}"),
    "the other where": (r"where\(([^,()]+), ([^,()]+), ([^,()]+)\)", lambda m: f"where({m[1]}, {m[3]}, {m[2]})"),
    "always": (r"\bif \((?=[^;]*\) ?[^;]*$|[^;]*;$)", lambda m: "if (true || "),
    "no mask": (r", mask=[\w\[\]:, ()<]+?(?=\)$|, other|, cache)", lambda m: ""),
    "not masked": (r"\b(inside|row < \w+|of < rows), True\b", lambda m: f"{m[1]}, False"),
}


@dataclass(frozen=True)
class Mutant:
    file: str
    line: int  # from 1
    kind: str
    before: str  # the line before the change
    after: str

    def apply(self, text):
        lines = text.splitlines(keepends=True)
        assert lines[self.line - 1].strip() == self.before.strip()
        lines[self.line - 1] = self.after + "\n"
        return "".join(lines)


def of_file(root, file, function=None):
    """Every possible change of this file. In Python, only functions whose name `function(name)` accepts are changed."""
    text = (Path(root) / file).read_text()
    blank, keep = (_of_python(text, function) if file.endswith(".py") else _of_cpp(text)), text.splitlines()
    found = []
    for number, (code, line) in enumerate(zip(blank, keep, strict=True), 1):
        for kind, (pattern, change) in KINDS.items():
            for m in re.finditer(pattern, code):
                new = None if "for (" in code and " += " in m[0] else change(m)  # a loop backwards would never end
                if new is None or new == m[0]:
                    continue
                after = line[: m.start()] + new + line[m.end() :]
                mutant = Mutant(file, number, kind, line, after)
                if not file.endswith(".py") or _is_python(mutant.apply(text)):
                    found.append(mutant)
    return found


def _of_cpp(text):
    """The lines of the text. A line is blank if nothing in it may be changed."""

    def code(line):
        line = re.sub(r'"[^"]*"|//.*', lambda m: " " * len(m[0]), line)
        # left out: checks that Python has made already, declarations of types, the registers of a GPU, and the code
        # that replaces a GPU on the host
        nothing = r"^\s*#|^\s*template|static_assert|VK_CHECK|alignas|constexpr int \w+ = \w+::|\bfail\(|^\s*using "
        nothing += r"|blocks_per_sm|backwards"
        return "" if re.search(nothing, line) else line

    # Of several preprocessor branches, only the first that is not for nvcc is compiled here, for the best instruction
    # set.
    compiled, none_yet, lines = [True], [True], []
    for line in text.splitlines():
        if line.startswith("#if"):
            none_yet.append(True)
            compiled.append(True)
        if line.startswith(("#if", "#el")):
            compiled[-1] = none_yet[-1] and "__CUDA" not in line
            none_yet[-1] = none_yet[-1] and not compiled[-1]
        elif line.startswith("#endif"):
            compiled.pop(), none_yet.pop()
        lines.append(code(line) if all(compiled) else "")
    return lines


def _of_python(text, function):
    lines = [list(line) for line in text.splitlines()]
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type in (tokenize.STRING, tokenize.COMMENT):
            for row in range(token.start[0], token.end[0] + 1):
                first = token.start[1] if row == token.start[0] else 0
                last = token.end[1] if row == token.end[0] else len(lines[row - 1])
                lines[row - 1][first:last] = '"' * (last - first)
    inside = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef) and (function is None or function(node.name)):
            inside |= set(range(node.body[0].lineno, node.end_lineno + 1))
    if function is None:  # the code of the module outside functions may be changed too
        inside |= set(range(1, len(lines) + 1))
    return ["".join(line) if number in inside else "" for number, line in enumerate(lines, 1)]


def _is_python(text):
    try:
        compile(text, "mutant", "exec")
    except SyntaxError:
        return False
    return True


def chosen(mutants, n, seed):
    """Chooses n mutants, at most one for each line: first one of each file, and then one kind after another."""
    rng = random.Random(seed)
    by_kind = {kind: [] for kind in rng.sample(sorted(KINDS), len(KINDS))}
    for mutant in rng.sample(mutants, len(mutants)):
        by_kind[mutant.kind].append(mutant)
    in_turn = [m for some in itertools.zip_longest(*by_kind.values()) for m in some if m]
    first = {mutant.file: mutant for mutant in reversed(in_turn)}
    taken = {}
    for mutant in (*first.values(), *in_turn):
        if len(taken) < n:
            taken.setdefault((mutant.file, mutant.line), mutant)
    return sorted(taken.values(), key=lambda m: (m.file, m.line))
