#!/usr/bin/env python3
"""Prune one network to one rate by several regularities with equal fine-tuning, and print the table of accuracies.

usage: compare_schemes.py MODEL DATA --rate 4 --epochs 1 --out DIR
           [--schemes unstructured,block-punched:4x1,block-punched:16x1,block-punched:*x1,filter] [-- FLAGS...]

The finest regularity comes first: accuracy should fall from line to line. Runs that are in DIR already are not done again
(those that stopped are resumed). FLAGS go to every `secateur prune`. The binary is target/release/secateur, or $SECATEUR.
"""
import os, re

from compare_methods import arguments, pct, report


def main():
    p, argv, extra = arguments()
    p.add_argument("--rate", default="4")
    p.add_argument("--epochs", default="1")
    p.add_argument("--schemes", default="unstructured,block-punched:4x1,block-punched:16x1,block-punched:*x1,filter")
    a = p.parse_args(argv)
    os.makedirs(a.out, exist_ok=True)
    print("| regularity | weights kept | held out, before | held out, after | test | dense test | training s |")
    print("|---|---|---|---|---|---|---|")
    for scheme in a.schemes.split(","):
        out = os.path.join(a.out, re.sub(r"[^a-z0-9-]", "_", scheme.replace("*", "all")))
        r = report(out, ["prune", a.model, "--data", a.data, "--scheme", scheme, "--rate", a.rate, "--epochs", a.epochs, *extra])
        if r is None:
            print(f"| {scheme} | failed: see {out} | | | | | |", flush=True)
            continue
        sparse = [l for l in r["layers"] if l["kept"] < l["weights"]]
        weights, kept = sum(l["weights"] for l in sparse), sum(l["kept"] for l in sparse)
        seconds = sum(s for name, s in r["seconds"] if name.startswith("trained"))
        print(f"| {scheme} | {kept} of {weights} ({100 * kept / weights:.1f} %) in {len(sparse)} layers | {pct(r['holdout_before'])} | "
              f"{pct(r['holdout_after'])} | {pct(r['pruned_accuracy'])} | {pct(r['dense_accuracy'])} | {seconds:.0f} |", flush=True)


if __name__ == "__main__":
    main()
