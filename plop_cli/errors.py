"""What a user can mend, as opposed to a bug."""


class PlopError(Exception):
    """Bad input or a missing thing. The message states the fact, then the remedy, and fits one line.

    The command line prints it on stderr and exits 1; bugs keep their traceback.
    """
