"""Energy, carbon and hardware cost beside the trials of any Tuner."""

from nasray.tune.energy.callback import EnergyCallback
from nasray.tune.energy.hardware_callback import HardwareCostCallback
from nasray.tune.energy.leases import metered

__all__ = ["EnergyCallback", "HardwareCostCallback", "metered"]
