"""Hits by arm with their uncertainty, as a table and as a picture.

Hits of an arm are counts of rare events: their 95 % interval is the exact one of a Poisson mean (Garwood, Biometrika
28, 437 (1936)). The ratio of two arms with equal verifications is judged by the exact binomial interval of their shares
(Clopper and Pearson, Biometrika 26, 404 (1934)). Both treat verdicts as independent; seeds scatter more than that, so
the smallest and largest seed stand beside.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

from scipy.stats import beta, chi2

from benchmarks.feedback.arms import ARMS, SYSTEMS

if TYPE_CHECKING:
    from pathlib import Path

PAIRS = (
    ("learned + feedback", "learned"),
    ("diffusion + feedback", "diffusion"),
    ("ion exchange + feedback", "ion exchange"),
    ("learned", "ion exchange"),
    ("learned + feedback", "ion exchange"),
    ("diffusion", "learned"),
    ("diffusion", "ion exchange"),
    ("diffusion + feedback", "ion exchange"),
)
"""Arms whose ratio is told, over the seeds that both have."""


def poisson_interval(count: int, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of a Poisson mean.

    Examples
    --------
    >>> tuple(round(x, 2) for x in poisson_interval(5))
    (1.62, 11.67)
    """
    tail = (1 - level) / 2
    low = 0.0 if count == 0 else float(chi2.ppf(tail, 2 * count) / 2)
    return low, float(chi2.ppf(1 - tail, 2 * count + 2) / 2)


def ratio_interval(a: int, b: int, exposure: float = 1.0, level: float = 0.95) -> tuple[float, float]:
    """Exact interval of the ratio of two Poisson means, given that their exposures have a ratio."""
    tail = (1 - level) / 2
    low = 0.0 if a == 0 else float(beta.ppf(tail, a, b + 1))
    high = 1.0 if b == 0 else float(beta.ppf(1 - tail, a + 1, b))
    return low / (1 - low) / exposure, (high / (1 - high) / exposure) if high < 1 else float("inf")


def gather(results: list[dict[str, Any]]) -> dict[tuple[str, int], dict[str, list[dict[str, Any]]]]:
    """Sort results by task (system and proposals a round) and arm, seeds in order."""
    sorted_out: dict[tuple[str, int], dict[str, list[dict[str, Any]]]] = defaultdict(lambda: defaultdict(list))
    for result in sorted(results, key=lambda r: (r["samples"], r["system"], r["seed"])):
        sorted_out[result["system"], result["samples"]][result["arm"]].append(result)
    return sorted_out


def hits_of(result: dict[str, Any]) -> int:
    """Hits of one campaign."""
    return sum(v["hit"] for v in result["verdicts"])


def title_of(system: str, samples: int) -> str:
    """Name a task, e.g. ``Al-Ni-Cu-Zr, 105 to 115 GPa, 64 proposals a round``."""
    target = SYSTEMS.get(system, {}).get("targets", {}).get("bulk_modulus", {})
    limits = f"{target['min']:g} to {target['max']:g}" if "max" in target else f"at least {target.get('min', 0):g}"
    name = f"{system.removesuffix(' window')}, {limits} GPa" if target else system
    return f"{name}, {samples} proposals a round"


def table(results: list[dict[str, Any]]) -> str:
    """Write the table in Markdown."""
    lines = []
    for task, arms in gather(results).items():
        lines += [
            f"**{title_of(*task)}**",
            "",
            "| arm | seeds | verified | stable | hits | 95 % | by seed | per 100 verified | per CPU-hour |",
            "|---|---|---|---|---|---|---|---|---|",
        ]
        for arm in (a.name for a in ARMS if a.name in arms):
            runs = arms[arm]
            n = sum(len(r["verdicts"]) for r in runs)
            stable = sum(v["stable"] for r in runs for v in r["verdicts"])
            hits = [hits_of(r) for r in runs]
            low, high = poisson_interval(sum(hits))
            hours = sum(sum(r["cpu_s"].values()) for r in runs) / 3600
            lines.append(
                f"| {arm} | {len(runs)} | {n} | {stable} | {sum(hits)} | {low:.1f} to {high:.1f} | "
                f"{', '.join(map(str, hits))} | {100 * sum(hits) / max(1, n):.1f} | {sum(hits) / hours:.1f} |"
            )
        lines.append("")
        lines += _ratios(arms)
        lines.append("")
    return "\n".join(lines)


def _ratios(arms: dict[str, list[dict[str, Any]]]) -> list[str]:
    lines = []
    for one, other in PAIRS:
        if one not in arms or other not in arms:
            continue
        seeds = {r["seed"] for r in arms[one]} & {r["seed"] for r in arms[other]}
        a = sum(hits_of(r) for r in arms[one] if r["seed"] in seeds)
        b = sum(hits_of(r) for r in arms[other] if r["seed"] in seeds)
        low, high = ratio_interval(a, b)
        ratio = f"{a / b:.2f}" if b else "no hit of the other"
        lines.append(f"- {one} over {other}: {a} to {b}, ratio {ratio} (95 %: {low:.2f} to {high:.2f})")
    return lines


def picture(results: list[dict[str, Any]], path: Path) -> None:
    """Draw hits found against verifications spent, a thin line a seed, a thick one their mean."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt
    import numpy as np

    tasks = gather(results)
    figure, axes = plt.subplots(1, len(tasks), figsize=(5.2 * len(tasks), 4), squeeze=False, layout="constrained")
    shades = ("#0b5fa5", "#7fb3d9", "#2e7d32", "#9ccc9c", "#b5541c", "#e6b08f", "#8a8a8a")
    colours = dict(zip((a.name for a in ARMS), shades, strict=True))
    for ax, (task, arms) in zip(axes[0], tasks.items(), strict=True):
        for arm in (a.name for a in ARMS if a.name in arms):
            curves = [np.cumsum([0, *(v["hit"] for v in r["verdicts"])]) for r in arms[arm]]
            for curve in curves:
                ax.plot(curve, color=colours[arm], lw=0.6, alpha=0.5)
            shortest = min(len(c) for c in curves)
            ax.plot(np.mean([c[:shortest] for c in curves], axis=0), color=colours[arm], lw=2.4, label=arm)
        ax.set(title=title_of(*task), xlabel="verifications", ylabel="hits: stable, novel and on target")
        ax.spines[["top", "right"]].set_visible(False)
        ax.legend(frameon=False, fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)
    plt.close(figure)
