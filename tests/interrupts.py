"""Ctrl-C and a closed terminal, for commands that a test starts."""

import signal


def heed() -> None:
    """Have them end what hears them, also below `nohup` and `&`, whose children would inherit that they do not."""
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)
