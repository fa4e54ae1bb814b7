"""Ask/tell strategies. They know spaces and costs, and nothing of Ray."""
