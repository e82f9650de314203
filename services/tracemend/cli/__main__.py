"""The `tracemend` command: parses arguments and leaves; every command imports what it needs when it runs.

Exit codes: 0 done · 1 an unexpected error · 2 something must be changed first (arguments, run file, files) · 3 `verify`
found a broken law · 4 a budget is spent · 5 the watched run failed or was cancelled · 130 interrupted; 4 and 130 go on
with the same command.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Sequence

from tracemend.kit.errors import SetupError, TracemendError
from tracemend.kit.own_process import settle

EXIT_FAILED = 1
EXIT_SETUP = 2
EXIT_INTERRUPTED = 130

_OF_THE_DISK = frozenset({errno.EACCES, errno.EDQUOT, errno.ENOSPC, errno.EPERM, errno.EROFS})
"""What the owner of a disk can mend: rights, room, a mount that takes no writes."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point of the console script; `arguments` instead of the process's own."""
    settle()
    from tracemend.cli.app import app

    try:
        app(arguments)
    except SetupError as error:
        print(f"tracemend: {error}", file=sys.stderr)
        raise SystemExit(EXIT_SETUP) from None
    except TracemendError as error:
        print(f"tracemend: {error}", file=sys.stderr)
        raise SystemExit(EXIT_FAILED) from None
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        where = f"{error.filename}: " if error.filename else ""
        print(f"tracemend: {where}{error.strerror}; mend that, then run the command again", file=sys.stderr)
        raise SystemExit(EXIT_SETUP) from None
    except KeyboardInterrupt:
        raise SystemExit(EXIT_INTERRUPTED) from None


if __name__ == "__main__":
    main()
