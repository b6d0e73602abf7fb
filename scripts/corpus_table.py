#!/usr/bin/env python3
"""Makes docs/results/corpus.md: every real file inspected, pruned to 70 % of its parameters, and compared with its masked
twin in ONNX Runtime, independently of the program's own check.

    SECATEUR_DATA=DIR scripts/corpus_table.py --secateur target/release/secateur [--only NAME] [--out docs/results/corpus.md]

DIR holds corpus/*.onnx and models/*.onnx. Needs onnx, onnxruntime and numpy. With --rows FILE --networks DIR, what
is found is kept there file by file and not looked for again; --untimed leaves the latency to a later call, which means something
on a core that nothing else uses (`taskset -c 1 scripts/corpus_table.py …`), and --seconds N stops that after N seconds."""
import argparse, collections, glob, json, os, shutil, statistics, subprocess, sys, tempfile, time
import numpy as np
import onnx
import onnxruntime as ort
from verify_twins import draw

TOLERANCE = 1e-3
LATENCY_S = 2.0  # seconds of timing per file
LEAST_S = 2e-3  # of a sample


def run(command):
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done, time.perf_counter() - start


def session(path, level=ort.GraphOptimizationLevel.ORT_ENABLE_ALL, threads=2):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.graph_optimization_level = level
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def difference(expected, found):
    """Largest absolute difference over the largest absolute value (at least 1e-3) of each output."""
    worst = 0.0
    for a, b in zip(expected, found):
        if np.shape(a) != np.shape(b):
            return float("inf")
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        if not a.size:
            continue
        if not np.array_equal(np.isnan(a), np.isnan(b)):
            return float("inf")
        if np.isnan(a).all():
            continue
        worst = max(worst, float(np.nanmax(np.abs(a - b)) / max(np.nanmax(np.abs(a)), 1e-3)))
    return worst


def verify(dense, folder, shapes, macs):
    """Difference to the twin, with optimisations and without, and that of the twin to the dense network: what the check saw."""
    result = {}
    for name, level in [("all", ort.GraphOptimizationLevel.ORT_ENABLE_ALL), ("none", ort.GraphOptimizationLevel.ORT_DISABLE_ALL)]:
        twin, pruned, whole = (session(p, level) for p in (f"{folder}/twin.onnx", f"{folder}/pruned.onnx", dense))
        worst, effect = 0.0, 0.0
        for seed in range(1 if macs > 5e9 else 2):
            random = np.random.default_rng(seed)
            feed = {i.name: draw(i, random, shapes) for i in twin.get_inputs()}
            expected = twin.run(None, feed)
            worst = max(worst, difference(expected, pruned.run(None, feed)))
            effect = max(effect, difference(whole.run(None, feed), expected))
        result[name] = worst
        result["effect"] = effect
        if worst <= TOLERANCE:
            break
    return result


def latency(dense, pruned, shapes):
    """Milliseconds of the dense and the pruned network with one thread, medians of interleaved rounds, and the median of the ratios
    per round with its quartiles."""
    sessions = [session(p, threads=1) for p in (dense, pruned)]
    random = np.random.default_rng(0)
    feed = {i.name: draw(i, random, shapes) for i in sessions[0].get_inputs()}

    def sample(s, runs):
        start = time.perf_counter()
        for _ in range(runs):
            s.run(None, feed)
        return (time.perf_counter() - start) / runs

    for s in sessions:
        sample(s, 1)
    runs = max(1, round(LEAST_S / max(min(sample(s, 1) for s in sessions), 1e-6)))
    rounds, start = [], time.perf_counter()
    while len(rounds) < 5 or (time.perf_counter() - start < LATENCY_S and len(rounds) < 400):
        order = [0, 1] if len(rounds) % 2 else [1, 0]
        took = {k: sample(sessions[k], runs) for k in order}
        rounds.append((took[0], took[1]))
    ratios = np.quantile([b / a for a, b in rounds], [0.25, 0.5, 0.75])
    return {"dense_ms": 1e3 * statistics.median(a for a, _ in rounds), "pruned_ms": 1e3 * statistics.median(b for _, b in rounds),
            "ratio": ratios[1], "quartiles": [ratios[0], ratios[2]], "rounds": len(rounds)}


def operators(path):
    model = onnx.load(path)
    count = collections.Counter(f"{n.domain}:{n.op_type}" if n.domain not in ("", "ai.onnx") else n.op_type for n in model.graph.node)
    count.pop("Constant", None)
    return ", ".join(f"{k} {n}" for k, n in count.most_common(6)) + (" …" if len(count) > 6 else "")


def randomised(path, folder):
    """The file with random weights, where it has one constant for all of a tensor: a check on it would see nothing. None where
    its weights are its own."""
    model = onnx.load(path)
    stored = {t.name: t for t in model.graph.initializer}
    fills = [n for n in model.graph.node if n.op_type == "ConstantOfShape" and n.input[0] in stored]
    shapes = {n.output[0]: tuple(onnx.numpy_helper.to_array(stored[n.input[0]])) for n in fills}
    weights = {name: shape for name, shape in shapes.items() if len(shape) >= 2}
    if not weights or sum(int(np.prod(s)) for s in shapes.values()) > 100e6:
        return None
    random = np.random.default_rng(0)
    gone = set()
    for name, shape in shapes.items():
        fan = int(np.prod(shape[1:])) if len(shape) > 1 else 1
        values = random.normal(0, (2 / fan) ** 0.5, shape) if len(shape) > 1 else random.uniform(0.5, 1.5, shape)
        model.graph.initializer.append(onnx.numpy_helper.from_array(values.astype(np.float32), name))
        gone.add(name)
    nodes = [n for n in model.graph.node if n.output[0] not in gone]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.ir_version = max(model.ir_version, 4)  # so that the weights need not be listed as inputs
    out = os.path.join(folder, os.path.basename(path))
    onnx.save(model, out)
    return out


def row(secateur, path, networks):
    name = os.path.splitext(os.path.basename(path))[0]
    r = {"name": name, "operators": operators(path), "loads": True}
    with tempfile.TemporaryDirectory() as folder:
        with_weights = randomised(path, folder)
        r["randomised"] = with_weights is not None
        r["dense"] = path
        if with_weights and networks:
            r["dense"] = shutil.copy(with_weights, os.path.join(networks, f"{name}.dense.onnx"))
        return fill(r, secateur, with_weights or path, networks)


def fill(r, secateur, path, networks):
    try:
        session(path)
    except Exception:  # a file that the runtime refuses is not counted
        r["loads"] = False
    done, r["inspect_s"] = run([secateur, "inspect", path, "--json"])
    if done.returncode == 0:
        survey = json.loads(done.stdout)
        r.update(params_share=survey["prunable_params"], plain_share=survey["prunable_conv_gemm_matmul"], macs_share=survey["prunable_macs"], groups=len(survey["groups"]))
    else:
        r["reason"] = done.stderr.strip()
    folder = tempfile.mkdtemp()
    try:
        out = os.path.join(folder, "run")
        done, r["prune_s"] = run([secateur, "prune", path, "--budget-params", "70%", "--epochs", "0", "--write-twin", "--quiet", "--json",
                                  "--out", out])
        if done.returncode != 0:
            r["reason"] = done.stderr.strip().removeprefix("error: ").replace(f"{path}: ", "")
            return r
        report = json.loads(done.stdout)["report"]
        r["report"] = report
        r["bytes"] = (os.path.getsize(path), os.path.getsize(f"{out}/pruned.onnx"))
        r["approximations"] = sorted({a for g in report["groups"] for a in g["approximations"]})
        shapes = {a["input"]: a["shape"] for a in report["assumed"]}
        try:
            r.update(verify(path, out, shapes, report["macs_before"]))
            if networks:
                r["pruned"] = shutil.copy(f"{out}/pruned.onnx", os.path.join(networks, f"{r['name']}.pruned.onnx"))
            else:
                r["latency"] = latency(path, f"{out}/pruned.onnx", shapes)
        except Exception as e:
            r["reason"] = str(e).splitlines()[0][:300]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return r


def percent(x):
    return "–" if x is None else f"{100 * x:.1f}"


def verdict(r):
    """Verified where ONNX Runtime agrees as it is used; a note where only its unoptimised arithmetic does."""
    if "all" not in r:
        return "no"
    if r["all"] <= TOLERANCE:
        return f"yes ({r['all']:.0e})"
    return f"no ({r['all']:.0e}; without optimisations {r['none']:.0e})"


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--secateur", default="target/release/secateur")
    p.add_argument("--only", default="")
    p.add_argument("--out", default="")
    p.add_argument("--rows", default="")
    p.add_argument("--networks", default="")
    p.add_argument("--untimed", action="store_true")
    p.add_argument("--seconds", type=float, default=float("inf"))
    a = p.parse_args()
    if a.networks:
        os.makedirs(a.networks, exist_ok=True)
    data = os.environ.get("SECATEUR_DATA") or sys.exit("skipped: SECATEUR_DATA is not set")
    tables, started = [], time.perf_counter()
    kept = json.load(open(a.rows, encoding="utf-8")) if a.rows and os.path.exists(a.rows) else {}
    left = 0
    for part in ["corpus", "models"]:
        files = [f for f in sorted(glob.glob(f"{data}/{part}/*.onnx")) if a.only in f]
        rows = []
        for f in files:
            key = f"{part}/{os.path.basename(f)}"
            known = key in kept
            r = kept[key] if known else row(a.secateur, f, a.networks)
            kept[key] = r
            rows.append(r)
            if "pruned" in r and "latency" not in r and not a.untimed:
                if time.perf_counter() - started > a.seconds:
                    left += 1
                    continue
                if not os.path.exists(r["dense"]):  # drawn anew, from the same seed
                    with tempfile.TemporaryDirectory() as folder:
                        shutil.copy(randomised(f, folder), r["dense"])
                r["latency"] = latency(r["dense"], r["pruned"], {i["input"]: i["shape"] for i in r["report"]["assumed"]})
                known = False
            if known:
                continue
            if a.rows:
                with open(a.rows, "w", encoding="utf-8") as file:
                    json.dump(kept, file, default=float)
            print(f"{r['name']:60} {percent(r.get('params_share')):>6} {verdict(r):>14} {r.get('reason', '')[:120]!r}", file=sys.stderr, flush=True)
        tables.append((part, rows))
    if left:
        sys.exit(f"{left} files are to be timed; the same command goes on")
    text = page(tables)
    if a.out:
        with open(a.out, "w", encoding="utf-8") as f:
            f.write(text)
    else:
        print(text)


def page(tables):
    out = ["# Real files: pruned and verified, or told why not", "",
           "Made by `SECATEUR_DATA=… scripts/corpus_table.py --out docs/results/corpus.md` on 2 cores of an Intel Xeon (family 6, model 207,",
           f"AVX-512), shared and noisy, with ONNX Runtime {ort.__version__}. Each file is inspected and pruned to 70 % of its parameters by",
           "`secateur prune FILE --budget-params 70% --epochs 0`: by magnitude, without data. *Prunable*: share of the weights of",
           "Conv, ConvTranspose, Gemm, MatMul, LSTM and GRU (and of their MACs) that some decision removes; weights inside sub-graphs",
           "are not counted. *Verified*: the outputs of the pruned file and of its masked twin in ONNX Runtime with all",
           "optimisations differ by at most 1e-3 of the largest output on random inputs. *Effect*: how far the twin's outputs are from",
           "the dense network's; where it is 0 the check sees little (saturated outputs). Files whose weights are one generated constant",
           "each are marked * and checked with weights drawn at random. *Latency*: ONNX Runtime with one thread and all optimisations on",
           "one core (shared with other work of the machine), both networks in interleaved rounds; medians, and the median of the ratios per",
           "round with its quartiles. A budget in parameters does not promise latency: `prune --budget` does.", ""]
    for part, rows in tables:
        loadable = [r for r in rows if r["loads"]]
        good = [r for r in loadable if r.get("all", 1) <= TOLERANCE]
        shares = [r.get("params_share") or 0.0 for r in loadable]
        plain = [r.get("plain_share") or 0.0 for r in loadable]
        timed = [r["latency"]["ratio"] for r in good if "latency" in r]
        out += [f"## {part}", ""]
        if loadable:
            out += [f"{len(rows)} files, {len(loadable)} of which ONNX Runtime loads: **{len(good)} ({100 * len(good) / len(loadable):.0f} %) pruned and",
                    f"verified**; median prunable share of the parameters of Conv, Gemm and MatMul {100 * statistics.median(plain):.1f} % (with ConvTranspose,",
                    f"LSTM and GRU {100 * statistics.median(shares):.1f} %); median latency {100 * statistics.median(timed or [1]):.1f} % of the dense network's; slowest `inspect`",
                    f"{max(r['inspect_s'] for r in rows):.2f} s (the process as a whole); of those verified, {sum(r['effect'] > 1e-6 for r in good)} with an effect above 1e-6.", ""]
        out += ["| file | operators | prunable % of weights | of MACs | verified (difference) | effect | parameters before → after | bytes before → after | MACs after % | latency before → after, ms | latency after % (quartiles) |",
                "|---|---|---:|---:|---|---:|---:|---:|---:|---:|---:|"]
        for r in rows:
            rep = r.get("report")
            size = f"{rep['params_before']:,} → {rep['params_after']:,}" if rep else "–"
            file_size = "{:,} → {:,}".format(*r["bytes"]) if "bytes" in r else "–"
            macs = percent(rep["macs_after"] / rep["macs_before"]) if rep and rep["macs_before"] else "–"
            effect = f"{r['effect']:.0e}" if "effect" in r else "–"
            t = r.get("latency")
            ms = f"{t['dense_ms']:.3g} → {t['pruned_ms']:.3g}" if t else "–"
            ratio = f"{100 * t['ratio']:.1f} ({100 * t['quartiles'][0]:.0f}–{100 * t['quartiles'][1]:.0f})" if t else "–"
            out.append(f"| {r['name']}{' *' if r['randomised'] else ''} | {r['operators']} | {percent(r.get('params_share'))} | {percent(r.get('macs_share'))} | {verdict(r)} | {effect} | {size} | {file_size} | {macs} | {ms} | {ratio} |")
        out.append("")
        told = [r for r in rows if r.get("reason")]
        if told:
            out += ["Not pruned, in the program's words:", ""]
            for r in told:
                lines = r["reason"].splitlines()
                more = f" … and {len(lines) - 4} more" if len(lines) > 4 else ""
                out.append(f"- **{r['name']}**{'' if r['loads'] else ' (ONNX Runtime does not load it)'}: " + " ".join(l.strip() for l in lines[:4]) + more)
            out.append("")
        noted = [r for r in rows if r.get("approximations")]
        if noted:
            out += ["Declared approximations (a statistic over channels is taken over those that stay, in the twin as well):", ""]
            for r in noted:
                ops = collections.Counter(a.split("(")[1].split(")")[0] for a in r["approximations"])
                out.append(f"- {r['name']}: " + ", ".join(f"{k} {n}" for k, n in ops.items()))
            out.append("")
    return "\n".join(out)


if __name__ == "__main__":
    main()
