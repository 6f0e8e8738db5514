"""What was found, for people: each finding once, then one line of counts."""

import os
import re

# Seen, looked at, and harmless: (kernel, kind). Counted apart; with PTXSIM_STRICT=1 they are findings as any other.
# mixture_backward_kernel: threads that hold copies of a value of a block also load where only the first of them loads
# and stores. No thread uses what the others load.
KNOWN = {
    ("mixture_backward_kernel", "global-race-raw-in-block"),
    ("mixture_backward_kernel", "global-race-war-in-block"),
}
STRICT = os.environ.get("PTXSIM_STRICT") == "1"


def is_known(kernel, kind):
    return not STRICT and (kernel, kind) in KNOWN


def split(findings):
    """(what counts, what is known), of a summary's findings without the infos."""
    findings = [f for f in findings if not f["kind"].startswith("info")]
    known = [f for f in findings if is_known(f["kernel"], f["kind"])]
    return [f for f in findings if f not in known], known


def show(findings):
    for f in split(findings)[0]:
        print(f"FINDING {f['kind']} in {f['kernel']}: {f['count']} times, first in {f.get('case')}")
        for key in ("source", "text", "line", "grid", "schedule", "fixed", "ptx"):
            if f.get(key):
                print(f"    {key}: {f[key]}")


def counts(summary):
    """('N launches, ...', how many findings there are)."""
    stats, (real, known) = summary["stats"], split(summary["findings"])
    kernels = sum(name.startswith("launches of ") for name in stats)
    races = sum(bool(re.search("race|waw|raw|war|nc-load", f["kind"])) for f in real)
    text = (
        f"{stats.get('launches', 0)} launches, {stats.get('blocks', 0)} blocks, {kernels} kernels; "
        f"{races} race and {len(real) - races} memory or other findings, {len(known)} known"
    )
    return text, len(real)


def last(what, before, summary, failures, out):
    """Shows the findings, and a last line that begins with `before`. The exit status: 1 on any finding or failure."""
    show(summary["findings"])
    text, found = counts(summary)
    print(f"results: {out}")
    print(f"{what}: {before}; {text}; {failures} failed", flush=True)
    return int(bool(found or failures))


def finish(machine, out, reporter):
    """At the end of a run of pytest: the results in a file, which __main__.py shows after pytest's own last line."""
    phases = ("call", "setup", "teardown", "collect")
    outcomes = ("passed", "failed", "error", "skipped")
    of = {k: [r for r in reporter.stats.get(k, ()) if getattr(r, "when", "call") in phases] for k in outcomes}
    machine.write(out, tests={k: len(reports) for k, reports in of.items()})
