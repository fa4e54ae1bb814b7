"""The only home of Ray: searches as Tune trainables, evaluation actors, the runner."""
