"""The one exception type that users see as a single line."""


class CytodistillError(Exception):
    """Bad input or a bad setting: one line that names the file or setting and the mend.

    The command line prints the message alone and exits with code 2; ``--debug`` shows the traceback.
    Code that raises it has left nothing half-written behind.
    """

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class Interrupted(CytodistillError):
    """Ctrl-C, as the one line that says how to go on."""


def reason(error: BaseException, length: int = 100) -> str:
    """What a library's exception says, on one line and not too long; its kind where it says nothing."""
    said = " ".join(str(error).split()) or type(error).__name__
    return said if len(said) <= length else f"{said[:length].rstrip()}…"
