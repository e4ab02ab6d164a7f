"""The error that a person can mend."""


class UserError(Exception):
    """Something in the user's input or set-up is wrong.

    The message is one line that names the file or key and the way out. Command lines print it without a
    traceback and exit with status 2 (see `sare_jax.command.guarded`).
    """
