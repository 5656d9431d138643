"""Exit codes."""

from typing import Final

DONE: Final = 0
FINDINGS: Final = 1  # something was found, failed, or didn't happen in time
USAGE: Final = 2  # click's own
CONFIG: Final = 78  # EX_CONFIG of sysexits.h, which systemd shows as CONFIG
INTERRUPTED: Final = 130
