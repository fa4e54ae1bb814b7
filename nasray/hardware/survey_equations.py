"""FLOPs and parameters by the published formulas, next to what nasray counts.

Source of all: Österdiekhoff, Hardware-aware Neural Architecture Search, Sec. VIII-C, eq. 3-6, which takes eq. 3 and 4
from Molchanov et al. 2016. The formulas are kept as printed, for comparison with figures that others publish; costs
of a search are better taken from `nasray.hardware.analytic`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nasray.hardware.operations import Operation, Plan, operations


@dataclass(frozen=True, kw_only=True)
class LayerFigures:
    """What a formula of the survey and the counter make of one convolution or linear layer.

    Args:
        name: Of the layer.
        kind: Kind of the operation.
        survey_flops: By eq. 3 or 4.
        macs: Multiply-adds by the counter.
        survey_parameters: By eq. 5 or 6.
        parameters: By the counter, batch norm included.
    """

    name: str
    kind: str
    survey_flops: int
    macs: int
    survey_parameters: int
    parameters: int


def survey_conv_flops(*, height: int, width: int, in_channels: int, kernel: int, out_channels: int) -> int:
    """Return 2HW(C_in K^2 + 1)C_out.

    The counter has H'W' C_in K_h K_w C_out multiply-adds: a multiply-add is one, not two; the bias (the + 1) is free;
    and the positions are those of the output. With the height and width of the input, as the formula has it, a
    strided convolution comes out too large by the square of its stride.

    Args:
        height: H, of the input, in pixels.
        width: W, of the input, in pixels.
        in_channels: C_in; for a grouped convolution channels per group, which the formula does not treat.
        kernel: K, side of the square kernel.
        out_channels: C_out.

    Source: eq. 3. Deviation: none.
    """
    return 2 * height * width * (in_channels * kernel**2 + 1) * out_channels


def survey_linear_flops(*, inputs: int, outputs: int) -> int:
    """Return 2(I - 1)O.

    The counter has I x O multiply-adds. Molchanov et al. print (2I - 1)O, which is I multiplications and I - 1
    additions for each output; the survey's brackets lose one multiplication.

    Args:
        inputs: I, numbers that arrive.
        outputs: O, numbers that leave.

    Source: eq. 4. Deviation: none.
    """
    return 2 * (inputs - 1) * outputs


def survey_conv_parameters(*, in_channels: int, kernel: int, out_channels: int, has_bias: bool = True) -> int:
    """Return C_in K^2 C_out + C_out, without the last term where there is no bias.

    The counter also has the scale and shift of a batch norm that follows, 2 C_out.

    Args:
        in_channels: C_in; for a grouped convolution channels per group.
        kernel: K, side of the square kernel.
        out_channels: C_out.
        has_bias: Whether there is a bias.

    Source: eq. 5 and the sentence after it. Deviation: none.
    """
    return in_channels * kernel**2 * out_channels + (out_channels if has_bias else 0)


def survey_linear_parameters(*, inputs: int, outputs: int) -> int:
    """Return IO + O, as the counter does.

    Args:
        inputs: I, numbers that arrive.
        outputs: O, numbers that leave.

    Source: eq. 6. Deviation: none.
    """
    return inputs * outputs + outputs


def survey_figures(plan: Plan) -> Iterator[LayerFigures]:
    """Yield the figures of every convolution and linear layer of a network, in order of computation.

    A depthwise convolution has one input channel per group. The two layers of a squeeze-and-excitation are
    convolutions of a single pixel. The formulas know square kernels only: of a rectangular one, K^2 is its area.
    """
    for operation in operations(plan):
        if operation.weights:
            yield LayerFigures(
                name=operation.name,
                kind=operation.kind,
                survey_flops=_flops(operation),
                macs=operation.macs,
                survey_parameters=_parameters(operation),
                parameters=operation.parameters,
            )


def survey_flops(plan: Plan) -> int:
    """Return the FLOPs of a network by eq. 3 and 4: convolutions and linear layers only."""
    return sum(layer.survey_flops for layer in survey_figures(plan))


def survey_parameters(plan: Plan) -> int:
    """Return the parameters of a network by eq. 5 and 6: convolutions and linear layers, without batch norm."""
    return sum(layer.survey_parameters for layer in survey_figures(plan))


def _flops(operation: Operation) -> int:
    if operation.kind == "linear":
        return survey_linear_flops(inputs=operation.in_channels, outputs=operation.out_channels)
    height, width = operation.in_size
    # K^2 goes into the channels, so that rectangular kernels need no formula of their own.
    return survey_conv_flops(
        height=height, width=width, in_channels=_fan_in(operation), kernel=1, out_channels=operation.out_channels
    )


def _parameters(operation: Operation) -> int:
    if operation.kind == "linear":
        return survey_linear_parameters(inputs=operation.in_channels, outputs=operation.out_channels)
    return survey_conv_parameters(
        in_channels=_fan_in(operation), kernel=1, out_channels=operation.out_channels, has_bias=operation.has_bias
    )


def _fan_in(operation: Operation) -> int:
    """Return C_in K^2: the weights of one output channel."""
    return operation.weights // operation.out_channels
