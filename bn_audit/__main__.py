"""The command ``bn-audit``, also ``python -m bn_audit``."""

from __future__ import annotations

import gc
import sys

_OBJECTS_BETWEEN_COLLECTIONS = 100_000
"""Reading a model builds some hundred thousand objects that all stay; to search them for cycles takes a tenth of it."""


def main() -> None:
    """Run the command line and exit with its code.

    A fault of this tool ends in its traceback and 3, not in Python's 1, which would read as findings.
    """
    gc.set_threshold(_OBJECTS_BETWEEN_COLLECTIONS)
    try:
        from bn_audit.cli.app import application

        application(sys.argv[1:])(prog_name="bn-audit")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:  # the outermost boundary: no exit code but the documented ones leaves the program
        import traceback

        traceback.print_exc()
        print("bn-audit: internal error, please report it with the lines above", file=sys.stderr)
        sys.exit(3)


if __name__ == "__main__":
    main()
