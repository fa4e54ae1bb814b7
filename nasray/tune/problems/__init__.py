"""What a search can be about: trained networks, sub-networks of a supernet, rows of a table."""
