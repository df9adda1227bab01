"""The tables of the benchmark pages, made from bench/results/*.json: one function a table, and TABLES names them."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parents[2] / "bench" / "results"


@cache
def load(name: str) -> dict[str, Any]:
    """The content of one file of results."""
    content: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text())
    return content


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table whose first column is text, and whose other columns are numbers."""
    rule = "|".join([":--", *["--:"] * (len(header) - 1)])
    lines = ["| " + " | ".join(row) + " |" for row in (header, *rows)]
    return "\n".join([lines[0], f"|{rule}|", *lines[1:]])


def thousands(value: float) -> str:
    return f"{value:,.0f}"


def rounded(value: float) -> str:
    """Whole numbers from 100 up, else one decimal."""
    return thousands(value) if value >= 99.95 else f"{value:.1f}"


def milliseconds(timing: dict[str, float]) -> str:
    return rounded(1e3 * timing["median_seconds"])


def faster(slow: dict[str, float], fast: dict[str, float]) -> str:
    return f"{slow['median_seconds'] / fast['median_seconds']:.1f}x"


def megabytes(count: float) -> str:
    return f"{thousands(count / 1e6)} MB"


def spread(mean: float, deviation: float, digits: int) -> str:
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def machine(name: str) -> str:
    """What a file was measured on, as one line."""
    facts = load(name)["environment"]
    commit = f", commit {facts['commit'].rstrip('+')}" if "commit" in facts else ""
    threads = f"{facts['threads']} thread" + ("s" if facts["threads"] != 1 else "")
    build = facts.get("build") or facts["extension"]
    cores = f"{facts['cores']} cores of an {facts.get('cpu') or facts['processor']}"
    return f"*{cores}, {threads}, {build['isa'].upper()} kernels, torch {facts['torch']}{commit}; `{name}.json`.*"


# The search network and its parts


def network_steps() -> str:
    data = load("network")
    steps, memory = data["steps"], data["memory"]
    training, architecture = steps["training"], steps["architecture"]
    fused, asked = training["fused channels_last"], architecture["fused channels_last, autograd.grad"]
    recompute = training["fused recompute"]

    def row(what: str, eager: dict[str, float], last: dict[str, float], own: dict[str, float]) -> list[str]:
        times = [f"{milliseconds(t)} ms" for t in (eager, last, own)]
        return [what, *times, faster(eager, own), faster(last, own)]

    rows = [row("training step, forward and backward", training["eager"], training["channels_last"], fused)]
    for how, what in (("loss.backward()", "`loss.backward()`"), ("autograd.grad", "`autograd.grad` of the alphas")):
        eager, last = (architecture[f"{layout}, {how}"] for layout in ("eager", "channels_last"))
        rows.append(row(f"architecture step, against {what}", eager, last, asked))
    with_recompute = row("training step with `recompute`", training["eager"], training["channels_last"], recompute)
    rows.append([with_recompute[0], "", "", *with_recompute[3:]])
    saved, again = (memory[key]["saved"] for key in ("fused", "fused recompute"))
    of = memory["eager"]["saved"]
    rows.append(
        ["saved for backward", megabytes(of), megabytes(memory["channels_last"]["saved"]),
         f"{megabytes(saved)} (`recompute`: {megabytes(again)})", f"1/{of / saved:.1f} (1/{of / again:.0f})", ""]
    )  # fmt: skip
    peaks = [megabytes(memory[k]["peak"]) for k in ("eager", "channels_last", "fused channels_last", "fused recompute")]
    rows.append(["peak memory of the process", *peaks[:2], f"{peaks[2]} ({peaks[3]})", "", ""])
    return table(["", "eager", "channels_last", "nasfast", "over eager", "over channels_last"], rows)


def mixed_op_edges() -> str:
    rows = []
    for entry in load("mixed_op")["edges"]:
        edge, timings, saved = entry["edge"], entry["timings"], entry["saved_bytes"]
        eager, last, own = (timings[name] for name in ("eager", "channels_last", "fused"))
        shares = [f"1/{saved['eager'] / saved[name]:.1f}" for name in ("fused", "fused recompute")]
        sizes = [str(edge[key]) for key in ("channels", "pixels", "batch", "stride")]
        times = [milliseconds(t) for t in (eager, last, own)]
        rows.append([*sizes, *times, faster(eager, own), faster(last, own), *shares])
    header = ["C", "pixels", "batch", "stride", "eager, ms", "channels_last, ms", "nasfast, ms", "over eager",
              "over channels_last", "saved, of eager's", "with recompute"]  # fmt: skip
    return table(header, rows)


def mixed_op_compiled() -> str:
    rows = [
        [str(entry["edge"]["channels"]), f"{entry['seconds']['first']:.0f} s",
         f"{1e3 * entry['seconds']['compiled']:.1f}", f"{1e3 * entry['seconds']['fused']:.1f}",
         f"{entry['seconds']['compiled'] / entry['seconds']['fused']:.1f}x"]
        for entry in load("mixed_op")["compiled"]
    ]  # fmt: skip
    return table(["C", "compiling", "torch.compile, ms", "nasfast, ms", "over torch.compile"], rows)


def _range(slow: str, timings: Sequence[dict[str, dict[str, float]]]) -> str:
    ratios = [t[slow]["median_seconds"] / t["fused"]["median_seconds"] for t in timings]
    low, high = (f"{x:.0f}" if x >= 10 else f"{x:.1f}" for x in (min(ratios), max(ratios)))
    return f"{low} to {high} times"


def preprocessing() -> str:
    data = load("relu_conv_bn")
    rows = []
    for halves, what in ((False, "relu, 1x1 convolution, BatchNorm"), (True, "the halving form")):
        timings = [entry["timings"] for entry in data["entries"] if entry["entry"]["halves"] == halves]
        rows.append([what, _range("eager", timings), _range("channels_last", timings)])
    norms = [entry["timings"] for entry in data["running_statistics"]]
    count = data["running_statistics"][0]["norms"]
    rows.append([f"running statistics of {count} BatchNorms", _range("eager", norms), ""])
    return table(["", "eager takes", "channels_last takes"], rows)


# Shared networks

_POPULATIONS = {
    "Macro": "NAS-Bench-Macro",
    "NAS-Bench-201": "NAS-Bench-201 (C=16, 15 cells)",
    "MobileNet": "MobileNet, elastic",
}


def _population(case: dict[str, Any]) -> str:
    space, _, kind = case["name"].rpartition(" ")
    return (
        "all 15,625 cells (C=8, 3 cells, 16 px)" if kind == "all" else f"{_POPULATIONS[space]}, {case['count']} {kind}"
    )


def children() -> str:
    pairs: dict[tuple[str, int], dict[bool, dict[str, Any]]] = {}
    for entry in load("child_eval")["cases"]:
        pairs.setdefault((_population(entry["case"]), entry["case"]["batch"]), {})[entry["calibrated"]] = entry
    rows = []
    for (population, batch), pair in pairs.items():
        plain, timings = pair[False], pair[False]["timings"]
        rates = [plain["children"] / timings[name]["median_seconds"] for name in ("loop", "batched")]
        speedups = [faster(pair[c]["timings"]["loop"], pair[c]["timings"]["batched"]) for c in (False, True)]
        merged = 1 - plain["counts"]["executed"] / plain["counts"]["asked"]
        rows.append([population, str(batch), *map(rounded, rates), *speedups, f"{100 * merged:.0f} %"])
    header = ["population", "batch", "loop", "batched", "speedup", "speedup, recalibrated", "operations merged"]
    return table(header, rows)


def planning() -> str:
    found: dict[str, dict[int, dict[str, float]]] = {}
    for entry in load("child_eval")["planning"]:
        found.setdefault(entry["space"], {})[entry["children"]] = entry
    names = {"Macro": "NAS-Bench-Macro", "NAS-Bench-201": "NAS-Bench-201, 15 cells"}
    sizes = (100, 1000, 10000)

    def cell(entry: dict[str, float], key: str) -> str:
        return f"{1e6 * entry[key] / entry['children']:.2f}"

    rows = [
        [
            names.get(space, space),
            *(cell(of[size], key) for key in ("plan_seconds", "tables_seconds") for size in sizes),
        ]
        for space, of in found.items()
    ]
    plan = [f"planning, {size:,} children" for size in sizes]
    return table(["ms per 1,000 children", *plan, *(f"tables, {size:,}" for size in sizes)], rows)


def memory_bounds() -> str:
    rows = [
        [f"{entry['bound'] / 2**20:g} MiB", f"{entry['peak_bytes'] / 2**20:.2f} MiB", f"{1e3 * entry['seconds']:.0f}",
         str(entry["computed_again"]), "yes" if entry["same_bits"] else "no"]
        for entry in load("child_eval")["memory"]
    ]  # fmt: skip
    return table(["memory bound", "peak", "ms", "operations computed again", "same bits"], rows)


def paths() -> str:
    rows = []
    for entry in load("supernet")["cases"]:
        case, (loop, own) = entry["case"], (entry["timings"][name] for name in ("loop", "kernels"))
        space = "NAS-Bench-Macro" if case["space"] == "Macro" else case["space"]
        peaks = [megabytes(entry["peak_bytes"][name]) for name in ("loop", "kernels")]
        rows.append(
            [space, case["paths"], str(case["batch"]), milliseconds(loop), milliseconds(own), faster(loop, own), *peaks]
        )
    header = ["space", "paths", "images", "loop, ms", "kernels, ms", "speedup", "loop's peak", "kernels' peak"]
    return table(header, rows)


_RANKINGS = {
    "running statistics": "accuracy with shared weights, shared running statistics",
    "recalibrated on 1000 images": "accuracy with shared weights, BatchNorm recalibrated on 1,000 images",
    "FLOPs": "multiply-adds",
    "parameters": "parameters",
    "published supernet, one-shot": "the supernets stored in the benchmark: one-shot",
    "published supernet, few-shot": "the supernets stored in the benchmark: few-shot",
    "another training from scratch": "another training from scratch",
}


def oneshot_ranking() -> str:
    found = [load(f"oneshot_{name}")["spaces"] for name in ("nasbench201", "macro")]
    spaces = [next(iter(of.values())) for of in found]

    def cell(space: dict[str, Any], key: str) -> str:
        value = space["tau"].get(key)
        return spread(value["tau"], value["std"], 3) if value else ""

    rows = [[text, *(cell(space, key) for space in spaces)] for key, text in _RANKINGS.items()]
    published = [
        ", ".join(f"{name} {value:g}" for name, value in space["published, whole table"].items()) for space in spaces
    ]
    rows.append(["published, over the whole table", *published])
    return table(["ranking by", *(next(iter(of)) for of in found)], rows)


def calibration() -> str:
    data = load("oneshot_calibration")
    counts = data["settings"]["calibration"]
    rows = [
        [name, *(f"{space['tau'][f'recalibrated on {count} images']['tau']:.3f}" for count in counts)]
        for name, space in data["spaces"].items()
    ]
    return table(["Kendall's tau", *(f"{count:,} images" for count in counts)], rows)


# Estimators


def _significant(value: float) -> str:
    """Three digits, with separators of thousands."""
    return thousands(float(f"{value:.3g}")) if value >= 1000 else f"{value:.3g}"


def _uncertainty(value: float | None) -> str:
    """Two digits; nothing where the estimator knows none."""
    if value is None:
        return ""
    return f"{value:.{2 if value < 0.995 else 1 if value < 9.95 else 0}f}"


def estimators() -> str:
    rows = []
    for entry in sorted(load("compare_digits")["estimators"][1:], key=lambda e: -e["tau"]):
        flops = f"{entry['flops'] / 1e6:.2f}" if entry["flops"] < 1e6 else _significant(entry["flops"] / 1e6)
        low, high = (f"{entry[key]:.2f}".replace("-", "−") for key in ("low", "high"))
        unsure = _uncertainty(entry["uncertainty"])
        tau, spearman = (f"{entry[key]:.2f}".replace("-", "−") for key in ("tau", "spearman"))
        rows.append([entry["name"], tau, f"{low} … {high}", spearman, flops, unsure])
    header = ["", "Kendall's tau", "95 % interval", "Spearman", "multiply-adds, millions", "mean uncertainty"]
    return table(header, rows)


def zero_cost() -> str:
    rows = []
    for name, values in load("zero_cost")["spearman"].items():
        cells = [f"{values[key]:.3f}" if key in values else "" for key in ("own", "stored", "mutual", "all")]
        rows.append([f"`{name}`", *cells])
    return table(["", "nasfast", "stored scores", "nasfast with stored", "stored scores, all cells"], rows)


def _at(run: dict[str, list[float]], cost: float) -> float | None:
    done = sum(used <= cost for used in run["cost"])
    return run["test"][done - 1] if done else None


def morphism() -> str:
    data = load("morphism")
    cost, rows = data["settings"]["cost"], []
    for name, runs in data["searches"].items():
        cells = []
        for share in (0.25, 0.5, 1.0):
            values = [_at(run, share * cost) for run in runs]
            known = [value for value in values if value is not None]
            whole = len(known) == len(values)
            cells.append(spread(statistics.mean(known), statistics.stdev(known), 1) if whole else "")
        trainings = statistics.mean(len(run["cost"]) for run in runs)
        rows.append([name, *cells, f"{trainings:.0f}"])
    return table(["", "25 % of the cost", "50 %", "100 %", "trainings"], rows)


def accuracy_by_morphism(search: str) -> float:
    """Mean test accuracy in percent of one search when all of the cost is used up."""
    data = load("morphism")
    return statistics.mean(run["test"][-1] for run in data["searches"][search])


def morphism_leads() -> str:
    rows = []
    for name, verdict in load("morphism")["verdicts"].items():
        cells = [
            f"{spread(verdict[f'lead over {key}'], verdict[f'error over {key}'], 1)} ({verdict[key]})"
            for key in ("search", "itself", "single")
        ]
        rows.append([name, *cells])
    header = ["", "over the best search from scratch", "over itself from scratch", "over the best single training"]
    return table(header, rows)


# Strategies


def strategies() -> str:
    data = load("strategies")
    at = [data["evaluations"].index(count) for count in (100, 300, 500)]
    spaces = data["test_accuracy"]
    names = list(next(iter(spaces.values())))
    rows = []
    for name in names:
        curves = [spaces[space][name] for space in spaces]
        rows.append([f"`{name}`", *(spread(curve["mean"][i], curve["std"][i], 2) for curve in curves for i in at)])
    header = [f"{space}, {data['evaluations'][i]} evaluations" for space in spaces for i in at]
    return table(["", *header], rows)


def strategy_leads() -> str:
    found = load("strategies")["smallest_lead_over_random"]
    names = list(next(iter(found.values())))
    rows = []
    for name in names:
        cells = [f"{of[name]['lead']:.2f} ({of[name]['standard_errors']:.0f})" for of in found.values()]
        rows.append([f"`{name}`", *cells])
    return table(["smallest lead over random, points (standard errors)", *found], rows)


def hypervolume() -> str:
    found = load("strategies")["hypervolume"]
    rows = [
        [space, *(f"{100 * of[name]['mean']:.1f} %" for name in ("nsga2", "random"))] for space, of in found.items()
    ]
    return table(["share of the whole table's area after 300 evaluations", "`nsga2`", "`random`"], rows)


def published() -> str:
    rows = [
        [space, name, f"{value:.2f}"]
        for space, of in load("strategies")["published"].items()
        for name, value in of.items()
    ]
    return table(["published test accuracy, %", "", ""], rows)


_METHODS = {
    "full training": "full training, random",
    "full training, TPE": "full training, TPE",
    "successive-halving": "successive halving",
    "asha": "ASHA",
    "hyperband": "Hyperband",
    "bohb": "BOHB",
}


def fidelity() -> str:
    found = [load("fidelity")["results"][space] for space in ("NAS-Bench-201", "NAAP-440")]

    def cells(space: dict[str, Any], name: str) -> list[str]:
        method = space["methods"].get(name)
        if method is None:
            return ["", "", ""]
        ten, quarter = (method["share of full training"].index(share) for share in (0.1, 0.25))
        accuracies = [spread(method["mean"][i], method["spread"][i], 2) for i in (ten, quarter)]
        return [*accuracies, f"{100 * method['reaches'][quarter]:.0f} %"]

    rows = [[text, *(cell for space in found for cell in cells(space, name))] for name, text in _METHODS.items()]
    whole = [space["methods"]["full training"] for space in found]
    naap = f"{whole[1]['mean'][-1]:.2f}"
    rows.append(
        ["full training, all of it", "", spread(whole[0]["mean"][-1], whole[0]["spread"][-1], 2), "", "", naap, ""]
    )
    per = ("10 % of the cost", "25 %", "reach it with 25 %")
    return table(["", *(f"{space}, {what}" for space in ("NAS-Bench-201", "NAAP-440") for what in per)], rows)


def fidelity_at_a_fifth() -> str:
    methods = load("fidelity")["results"]["NAS-Bench-201"]["methods"]
    rows = []
    for name, text in _METHODS.items():
        index = methods[name]["share of full training"].index(0.2)
        rows.append([text, spread(methods[name]["mean"][index], methods[name]["spread"][index], 2)])
    return table(["NAS-Bench-201", "20 % of the cost"], rows)


# Learning curves


def _mean(space: str, name: str) -> dict[str, float]:
    shares = load("curves")["scores"][space][name].values()
    keys = set.intersection(*(set(share) for share in shares))
    return {key: statistics.mean(share[key] for share in shares) for key in keys}


def _curve_cells(space: str, name: str | None) -> list[str]:
    if name is None or name not in load("curves")["scores"][space]:
        return ["", "", "", ""]
    means = _mean(space, name)
    if "crps" not in means:
        return [f"{100 * means['mae']:.2f}", "", "", ""]
    inside = " / ".join(f"{means[f'coverage_{share}']:.0f}" for share in (50, 80, 90))
    return [f"{100 * means['mae']:.2f}", f"{100 * means['crps']:.2f}", f"{means['log_score']:.2f}", inside]


def _best(space: str, kind: str) -> str:
    names = [name for name in load("curves")["scores"][space] if name.endswith(kind)]
    return min(names, key=lambda name: _mean(space, name)["mae"])


def curves() -> str:
    naap, lcdb = "NAAP-440, 5 folds", "LCDB"
    chosen = {kind: [_best(space, kind) for space in (naap, lcdb)] for kind in ("least squares", "Bayesian")}
    named = {kind: "; ".join(dict.fromkeys(n.split(",")[0] for n in names)) for kind, names in chosen.items()}
    rows: list[tuple[str, str | None, str | None]] = [
        ("last seen value, with the spread of training curves' gains", "last seen value", "last seen value"),
        ("the same, shifted by their mean gain", "last seen value + mean gain", "last seen value + mean gain"),
        (f"best single family, least squares ({named['least squares']})", *chosen["least squares"]),
        (f"best single family, Bayesian, learned prior ({named['Bayesian']})", *chosen["Bayesian"]),
        ("ensemble, even prior", "ensemble, even prior", "ensemble, even prior"),
        ("ensemble, prior as shipped (learned on LCDB's other half)", "ensemble, prior as shipped", "ensemble"),
        ("ensemble, prior learned on NAAP-440's training networks", "ensemble", None),
        ("regressor, nu-SVR", "regressor, svr", None),
        ("regressor, Bayesian", "regressor, bayesian", None),
    ]
    cells = [[text, *_curve_cells(naap, first), *_curve_cells(lcdb, second)] for text, first, second in rows]
    per = ("MAE", "CRPS", "log score", "within 50 / 80 / 90 %")
    return table(["", *(f"{space}: {what}" for space in ("NAAP-440", "LCDB") for what in per)], cells)


def curve_verdicts() -> str:
    rows = []
    for space, of in load("curves")["verdicts"].items():
        for measure, text, scale, digits in (
            ("mae", "MAE, points", 100, 2), ("crps", "CRPS, points", 100, 2), ("log_score", "log score", 1, 2),
            ("miscoverage", "coverage is off by, %", 1, 1),
        ):  # fmt: skip
            found = of[measure]
            values = [f"{scale * found[key]:.{digits}f}" for key in ("ensemble", "last seen value", "its")]
            rows.append([space, text, *values, found["best single family"]])
    header = ["", "measure", "ensemble", "last seen value", "best single family", "which"]
    return table(header, rows)


def markov_chain() -> str:
    rows = []
    for name, found in load("curves")["markov_chain"].items():
        points = [f"{100 * found[key]:.2f}" for key in ("mae", "crps")]
        rows.append(
            [name, *points, f"{found['log_score']:.2f}", _significant(1e3 * found["seconds"] / found["curves"])]
        )
    return table(["", "MAE, points", "CRPS, points", "log score", "ms a curve"], rows)


def early_termination() -> str:
    rows = []
    for name, found in load("curves")["early_termination"].items():
        for entry in found:
            bound = f"{entry['bound']:g}" if entry["bound"] else ""
            rows.append([name, bound, f"{100 * entry['saved']:.0f} %", f"{100 * entry['regret']:.2f}"])
    return table(["", "bound", "epochs saved", "regret, points"], rows)


def collapse() -> str:
    data = load("collapse")
    end = data["at_the_end"]
    last = sum(all(edge.startswith("skip_connect") for edge in _edges(e["cell"])) for e in data["epochs"])
    rows = [
        ["without a guard, at the end", f"{end['without a guard']:.2f}"],
        ["`--guard cap`, which searches on", f"{end['guard=cap']:.2f}"],
        [f"`--guard stop`, which stopped after epoch {end['stopped after epoch']}", f"{end['guard=stop']:.2f}"],
        [f"the cell of skip connections alone, derived in {last} of {len(data['epochs'])} epochs",
         f"{data['published']['DARTS']:.2f}"],
    ]  # fmt: skip
    return table(["derived cell", "test accuracy in the table, %"], rows)


def _edges(cell: str) -> list[str]:
    return [edge for edge in cell.replace("+", "|").split("|") if edge]


TABLES: dict[str, Callable[[], str]] = {
    make.__name__: make
    for make in (
        network_steps, mixed_op_edges, mixed_op_compiled, preprocessing, children, planning, memory_bounds, paths,
        oneshot_ranking, calibration, estimators, zero_cost, morphism, morphism_leads, strategies, strategy_leads,
        hypervolume, published, fidelity, fidelity_at_a_fifth, curves, curve_verdicts, markov_chain,
        early_termination, collapse,
    )
}  # fmt: skip
