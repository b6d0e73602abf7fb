#!/usr/bin/env python3
"""Prune one network to one budget by several methods with equal fine-tuning, and print the table.

usage: compare_methods.py MODEL DATA --budget 50% --epochs 3 --out DIR
           [--methods halp,halp-widths,halp-exact,halp-published,archtree,archtree-1,lacp,lacp-all,evolution,race,uniform,uniform-edges,flops] [-- FLAGS...]

Runs that are in DIR already are not done again (those that stopped are resumed). All runs share one latency table.
DATA is `none` for pruning by weights alone (with --epochs 0). FLAGS go to every `secateur prune`. The binary is target/release/secateur, or $SECATEUR.
"""
import argparse, json, os, subprocess, sys

METHODS = {
    "halp": ["--method", "halp", "--solver", "joint"],
    "halp-widths": ["--method", "halp", "--solver", "joint", "--no-depth"],
    "halp-exact": ["--method", "halp", "--solver", "exact"],
    "halp-published": ["--method", "halp", "--solver", "published"],
    "uniform": ["--method", "uniform", "--no-round-up"],
    "uniform-edges": ["--method", "uniform"],
    "flops": ["--method", "flops"],
    "archtree": ["--method", "archtree"],
    "archtree-1": ["--method", "archtree", "--beam", "1", "--seeds", "0"],
    "lacp": ["--method", "lacp", "--grid", "kept"],
    "lacp-all": ["--method", "lacp", "--grid", "all"],
    "evolution": ["--method", "evolution"],
    "race": ["--method", "race"],
}


def arguments():
    """The parser that every comparison starts from, and the command line in two: its own part, and the FLAGS after `--`."""
    argv, extra = sys.argv[1:], []
    if "--" in argv:
        cut = argv.index("--")
        argv, extra = argv[:cut], argv[cut + 1:]
    p = argparse.ArgumentParser()
    p.add_argument("model")
    p.add_argument("data")
    p.add_argument("--out", required=True)
    return p, argv, extra


def report(out, command):
    """The report of the run in `out`: as it is there, resumed, or made by `secateur COMMAND…`. None if there is none in the end."""
    path = os.path.join(out, "report.json")
    if not os.path.exists(path):
        binary = os.environ.get("SECATEUR", "target/release/secateur")
        started = os.path.exists(os.path.join(out, "journal.sqlite"))
        command = [binary, *(["resume", out] if started else [*command, "--out", out])]
        print(" ".join(command), file=sys.stderr, flush=True)
        subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    return json.load(open(path)) if os.path.exists(path) else None


pct = lambda v: "–" if v is None else f"{v:.2f}"


def main():
    p, argv, extra = arguments()
    p.add_argument("--budget", default="50%")
    p.add_argument("--epochs", default="3")
    p.add_argument("--methods", default="halp,uniform,flops")
    p.add_argument("--target", default="ort")
    a = p.parse_args(argv)
    os.makedirs(a.out, exist_ok=True)
    data = ["--criterion", "magnitude"] if a.data == "none" else ["--data", a.data]
    common = ["--target", a.target, "--threads", "1", "--budget", a.budget, "--epochs", a.epochs, "--table", os.path.join(a.out, "table.sqlite")]
    command = lambda name: ["prune", a.model, *data, *common, *METHODS[name], *extra]
    rows = [(name, report(os.path.join(a.out, name), command(name))) for name in a.methods.split(",")]
    print("| method | latency / dense | interval | below the budget | predicted / dense | MACs / dense | parameters | measured | search s | held-out before | held-out after | test |")
    print("|---|---|---|---|---|---|---|---|---|---|---|---|")
    for name, r in rows:
        if r is None:
            print(f"| {name} | no result | | | | | | | | | | |")
            continue
        d, q = r["dense"], r["pruned"]
        lo, hi = r["latency"]["ci"]
        below = 1 - q["latency_s"] / r["budget_s"]
        print(f"| {name} | {r['latency']['ratio']:.4f} | {lo:.4f}–{hi:.4f} | {100 * below:+.2f} % | {r['predicted_s'] / d['latency_s']:.3f} | {q['macs'] / d['macs']:.3f} | {q['params'] / 1e3:.0f} k | {r['probes']['measured']} | {r.get('search_s', float('nan')):.0f} | "
              f"{pct(r['holdout_before'])} | {pct(r['holdout_after'])} | {pct(q['test_accuracy'])} |")


if __name__ == "__main__":
    main()
