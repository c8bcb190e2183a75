"""Run the benchmarks one after the other, each in a process of its own.

The long ones run only when they are named; otherwise their tables are written again from the
results that are there.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

_NOT_BENCHMARKS = {
    "__init__", "__main__", "few_cells_data", "few_cells_methods", "few_cells_report",
    "few_cells_rows", "peers", "report",
}  # fmt: skip
_LONG = {"ablation", "few_cells", "mixture"}


def main(names: list[str]) -> int:
    """Run the named benchmarks (default: all); return 1 when one of them failed."""
    found = sorted(path.stem for path in Path(__file__).parent.glob("*.py"))
    known = [name for name in found if name not in _NOT_BENCHMARKS]
    unknown = sorted(set(names) - set(known))
    if unknown:
        print(f"No benchmark is called {', '.join(unknown)}; there are {', '.join(known)}.")
        return 2
    failed = []
    for name in names or known:
        print(f"== {name}", flush=True)
        options = ["--report"] if name in _LONG and not names else []
        command = [sys.executable, "-m", f"benchmarks.{name}", *options]
        if subprocess.run(command, check=False).returncode:
            failed.append(name)
    if failed:
        print(f"Failed: {', '.join(failed)}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
