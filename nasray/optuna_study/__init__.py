"""The only home of Optuna: its samplers as a search strategy, and studies that optuna-dashboard opens."""

from nasray.optuna_study.samplers import SAMPLERS
from nasray.optuna_study.strategy import OptunaStrategy

__all__ = ["SAMPLERS", "OptunaStrategy"]
