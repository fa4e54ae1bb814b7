"""The one error that a caller of `nasray.data` should tell apart."""


class DataError(ValueError):
    """A data set is missing, malformed or cannot be used as asked; the message is one sentence and a remedy."""
