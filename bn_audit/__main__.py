"""The command ``bn-audit``, also ``python -m bn_audit``."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line and exit with its code.

    A fault of this tool ends in its traceback and 3, not in Python's 1, which would read as findings.
    """
    try:
        from bn_audit.cli.app import app

        app(prog_name="bn-audit")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception:  # the outermost boundary: no exit code but the documented ones leaves the program
        import traceback

        traceback.print_exc()
        print("bn-audit: internal error, please report it with the lines above", file=sys.stderr)
        sys.exit(3)


if __name__ == "__main__":
    main()
