"""What the command `nasray` does; every module imports what is heavy only when its command runs."""
