"""Energy and carbon: sensors, the meter of a node, the ledger of an experiment, and the factors from joules to CO2."""
