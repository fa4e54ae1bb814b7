"""What an architecture costs on hardware: multiply-adds, parameters, memory, latency."""
