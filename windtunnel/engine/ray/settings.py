"""What Ray reads from the environment; set before it is imported, for it reads most of it then."""

import os
from pathlib import Path

from windtunnel.user_folders import home, provide_home

QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_DISABLE_SIGINT_HANDLER": "1",  # the driver saves everything on Ctrl-C itself
    "TUNE_PRINT_ALL_TRIAL_ERRORS": "0",
    "TUNE_GLOBAL_CHECKPOINT_S": "86400",  # the store has the checkpoints
    "RAY_ENABLE_AUTO_CONNECT": "0",  # one that was lost must not be started again, on any address
    "TUNE_DISABLE_AUTO_INIT": "1",
}


def prepare_environment() -> None:
    """No usage reports, no own output, and token authentication wherever there is a token.

    Ray joins a cluster without authentication unless it is told to; what the user has set stands. A
    Ray of our own has a token of its own, whatever is set (`apart.own_token`).
    """
    here = home()
    provide_home()
    settings = dict(QUIET)
    stated = os.environ.get("RAY_AUTH_TOKEN_PATH")
    place = Path(stated) if stated else here and here / ".ray" / "auth_token"
    if os.environ.get("RAY_AUTH_TOKEN") or (place and _is_there(place)):
        settings["RAY_AUTH_MODE"] = "token"
    for name, value in settings.items():
        os.environ.setdefault(name, value)


def _is_there(token: Path) -> bool:
    try:
        return token.exists()
    except OSError:  # in somebody else's home
        return False
