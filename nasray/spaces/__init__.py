"""What can be searched: choices, specifications and plans of networks. No torch in here."""
