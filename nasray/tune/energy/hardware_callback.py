"""What each trial's network costs on the hardware that the trial has, beside any trainable."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError

from nasray.hardware.cost import CostValue

_TIMEOUT_S = 60.0

Costs = Mapping[str, CostValue]


class HardwareCostCallback(tune.Callback):
    """Adds `latency_ms`, `macs`, `parameters` and `memory_bytes` to every result of a Tuner; works with any trainable.

    The network is built and measured by the trial's own process before its first step, so that latency is that of the
    trial's device with nothing else in the process. Configurations with the same network are measured once.

    A network that can't be built or measured gives None in every column, and `hardware_cost_error` says why; the trial
    goes on.

    Args:
        build: Returns a trial's network from its configuration; an `nn.Module` of one input. Goes to the trials' nodes.
        input_shape: Shape of the input, batch first.
        device: Where latency is timed: "cpu" (one thread), "cuda", or None for the GPU where the trial has one.
        latency_budget_s: Seconds of timing for a network; 0 leaves latency out.
    """

    def __init__(
        self,
        build: Callable[[dict[str, Any]], Any],
        input_shape: Sequence[int],
        *,
        device: str | None = None,
        latency_budget_s: float = 0.2,
    ) -> None:
        self._measure = partial(
            _measure, build=build, input_shape=tuple(input_shape), device=device, latency_budget_s=latency_budget_s
        )
        self._names = ("macs", "parameters", "memory_bytes", *(("latency_ms",) if latency_budget_s > 0 else ()))
        self._costs: dict[str, Any] = {}

    def on_trial_start(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        """Have the trial's process measure its network, in line before its first step."""
        key = _key(trial.config)
        if not isinstance(self._known(key), Mapping | ray.ObjectRef):  # never measured, or the process died over it
            call = partial(_in_actor, partial(self._measure, trial.config))
            self._costs[key] = trial.temporary_state.ray_actor.__ray_call__.remote(call)

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        """Add the columns."""
        costs = self._known(_key(trial.config), timeout_s=_TIMEOUT_S)
        if isinstance(costs, Mapping):
            result.update({name: cost.value for name, cost in costs.items()})
        else:
            result.update(dict.fromkeys(self._names), hardware_cost_error=str(costs))

    def _known(self, key: str, *, timeout_s: float = 0.0) -> Any:
        """Return the costs; what is being measured if that takes longer; text if it went wrong; None at first."""
        costs = self._costs.get(key)
        if isinstance(costs, ray.ObjectRef) and ray.wait([costs], timeout=timeout_s)[0]:
            costs = self._costs[key] = _answer(costs)
        return costs

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_costs": {}}


def _answer(measured: ray.ObjectRef[Costs | str]) -> Costs | str:
    try:
        return ray.get(measured)
    except RayError as error:
        return f"{type(error).__name__}: {error}"


def _measure(
    config: dict[str, Any],
    *,
    build: Callable[[dict[str, Any]], Any],
    input_shape: tuple[int, ...],
    device: str | None,
    latency_budget_s: float,
) -> Costs | str:
    import torch

    from nasray.hardware.module_costs import module_costs

    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        # torch's own random numbers on the CPU must not change because somebody looks at the network.
        with torch.random.fork_rng(devices=[]):
            return module_costs(build(config), input_shape, device=place, latency_budget_s=latency_budget_s)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


def _in_actor(measure: Callable[[], Costs | str], trainable: Any) -> Costs | str:
    return measure()


def _key(config: dict[str, Any]) -> str:
    return repr(config)  # JSON has no keys but text
