"""Sweep clean networks and their mutants, and print what is found of what is there.

    python -m tests.benchmarks.mutants [--quick] [--only NAME ...]
    python -m tests.benchmarks.mutants --form onnx [--only NAME ...]

Truth is computed in float64 with torch alone. As files, in onnxruntime or as exported programs, the faults are those
that an exporter keeps. Ends with 1 where a clean network is accused, a live fault is missed or
called something else, or the right layer is named in less than 97 % of the cases.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parents[1] / "sweep"))

from files import FORMATS
from judged import Judged, judged, judged_file, observed
from mutants import mutants
from networks import Clean, clean

PLACED = 0.97


def main() -> int:
    """Run everything; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.mutants", description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="the quick tier")
    parser.add_argument("--only", nargs="*", default=[], metavar="NAME", help="these networks")
    parser.add_argument("--form", choices=[*FORMATS], help="the mutants as files, not as live modules")
    given = parser.parse_args()
    console = Console()
    accused, results = [], []
    networks = {name: network for name, network in clean().items() if not given.only or name in given.only}
    for name, network in networks.items():
        if given.form is not None:
            results += _files(network, given.form) if network.exports else []
            _tell(console, name, results)
            continue
        found = observed(network.build(), network, quick=given.quick)
        if found.verdict != "independent" or set(found.flags) & {"rng", "stateful"}:
            accused.append(f"{name}: {found.verdict} {found.flags} {found.why}")
        results += [judged(mutant, network, quick=given.quick) for mutant in mutants(network)]
        _tell(console, name, results)
    console.print(_table(results))
    live = [item for item in results if item.is_live]
    placed = [item.is_placed for item in results if item.is_placed is not None]
    share = sum(placed) / len(placed) if placed else 1.0
    console.print(f"clean networks accused: {len(accused)} of {len(networks)}", *accused, sep="\n  ")
    console.print(f"live mutants of the right class: {sum(item.is_right for item in live)} of {len(live)}")
    console.print(f"mutants that do not show, left alone: {sum(i.is_right for i in results if not i.is_live)}")
    console.print(f"right layer: {sum(placed)} of {len(placed)} ({share:.1%})")
    return int(bool(accused) or any(not item.is_right for item in results) or share < PLACED)


def _files(network: Clean, form: str) -> list[Judged]:
    with tempfile.TemporaryDirectory() as folder:
        found = (judged_file(mutant, network, form, Path(folder)) for mutant in mutants(network))
        return [item for item in found if item is not None]


def _tell(console: Console, name: str, results: list[Judged]) -> None:
    wrong = [item for item in results if item.network == name and not _is_fine(item)]
    console.print(name, *(f"\n  {item.fault} ({item.truth}): {item.said}" for item in wrong), highlight=False)


def _is_fine(item: Judged) -> bool:
    return item.is_right and item.is_placed is not False


def _table(results: list[Judged]) -> Table:
    groups = defaultdict(list)
    for item in results:
        groups[item.fault].append(item)
    table = Table(title="mutants by fault")
    for column in ("fault", "truth", "networks", "live", "right class", "right layer"):
        table.add_column(column)
    for fault, items in groups.items():
        placed = [item.is_placed for item in items if item.is_placed is not None]
        table.add_row(
            fault,
            items[0].truth,
            str(len(items)),
            str(sum(item.is_live for item in items)),
            str(sum(item.is_right for item in items)),
            f"{sum(placed)}/{len(placed)}" if placed else "",
        )
    return table


if __name__ == "__main__":
    sys.exit(main())
