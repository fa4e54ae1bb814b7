"""What is known of a run while it goes on: figures, their view in the terminal, and their way to Prometheus."""
