"""What goes wrong with a registry and a user can mend."""


class RegistryError(Exception):
    """The message states the fact, then the remedy, on one line; it never holds a password.

    The command line prints it on stderr and exits 1; bugs keep their traceback.
    """
