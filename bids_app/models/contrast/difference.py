"""Differences between two conditions, the errors they share counted once."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from bids_app.models.estimate import Estimate
from bids_app.models.numerics.propagation import check_shapes, propagate
from bids_app.models.registry import MODELS
from bids_app.models.status import Status, combine_status, is_missing
from bids_app.units import PERCENT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import ArrayLike

    from bids_app._typing import BoolArray, FloatArray, StatusArray

    Values = Mapping[str, FloatArray]
    """Name of a source of error -> (V,) values."""


def change_between_conditions(
    quantity: str,
    task: Mapping[str, Estimate],
    baseline: Mapping[str, Estimate],
    *,
    models: Mapping[str, str],
    constants: Mapping[str, Any],
    shared: tuple[str, ...] = (),
    cbv_exponent: float = 0.0,
    m0_relative: Estimate | None = None,
) -> Estimate:
    r"""
    Estimate the change of a quantity between two conditions by the models that make its maps.

    Parameters
    ----------
    quantity : str
        Such as ``cmro2``: one of the maps, or a quantity of the registry that they give.
    task, baseline : mapping of str to (V,) Estimate
        What was measured in each condition, in the units of the registry.
    models : mapping of str to str
        Quantity -> its row of the registry, for every quantity on the way.
    constants : mapping of str to float
        Parameters of those rows.
    shared : tuple of str
        Maps whose error is one in both conditions: that of `baseline`, relative to the value. A
        larger relative variance in the task is the error of how the map was carried there.
    cbv_exponent : float
        Exponent g where a shared blood volume was carried to the task by the power of the ratio
        of the flows, whose errors then count here and not in the maps of blood volume.
    m0_relative : (V,) Estimate, optional
        1 with the relative variance of an M0 image that serves both conditions; the variances
        of CBF are then without it. None: it is inside them.

    Returns
    -------
    change : (V,) Estimate
        Task minus baseline in the unit of the quantity; missing where a map is, or with the
        reason of the model. Flagged CAPPED where a model with limits met one.

    Notes
    -----
    For R2, blood volume V and M0 shared by the conditions, with :math:`P_x = R^*_{2,x} - R_2` and
    :math:`a = scale/V`, this is

    .. math::

        D = a\,(F_t P_t - F_b P_b)

        var(D) = a^2 [P_t^2 v(F_t) + F_t^2 v(R^*_{2,t}) + P_b^2 v(F_b) + F_b^2 v(R^*_{2,b})
                 + (F_t - F_b)^2 v(R_2)] + D^2 v(V)/V^2 + D^2 v(M_0)/M_0^2

    Haematocrit, saturation, labelling efficiency and the like scale D and cannot flip its sign:
    they are systematic errors and not part of the variance.

    Examples
    --------
    >>> def maps(cbf, r2_star):
    ...     return {'cbf': Estimate.of([cbf], 4.0), 'r2_star': Estimate.of([r2_star], 0.04),
    ...             'r2': Estimate.of([13.5], 0.04), 'cbv': Estimate.of([0.048], 4e-6)}
    >>> change = change_between_conditions(
    ...     'cmro2', maps(52.8, 18.6), maps(44.0, 18.9), shared=('r2', 'cbv'),
    ...     models={'r2_prime': 'difference', 'oef': 'mqbold', 'cmro2': 'fick'},
    ...     constants={'static_dephasing_constant': 316.7, 'cao2': 7.64358})
    >>> change.value.round(1), z_score(change).round(2)
    (array([15.9]), array([1.56]))
    """
    sources = _sources_of_error(task, baseline, shared, by_flow=cbv_exponent != 0)
    if m0_relative is not None and 'cbf' in task:
        sources['m0_relative'] = m0_relative

    def maps_at(values: Values, side: str) -> dict[str, Estimate]:
        """Give the maps of one condition while a source is moved by its step."""
        own = task if side == 'task' else baseline
        moved = {
            name: _shared_value(name, side, values, task[name], baseline[name])
            if name in shared
            else values[f'{side}_{name}']
            for name in own
        }
        if cbv_exponent and side == 'task':
            flows = [_ratio(values[f'{x}_cbf'], maps['cbf'].value)
                     for x, maps in (('task', task), ('baseline', baseline))]  # fmt: skip
            moved['cbv'] = moved['cbv'] * (flows[0] / flows[1]) ** cbv_exponent
        if 'm0_relative' in values and 'cbf' in moved:
            moved['cbf'] = moved['cbf'] * values['m0_relative']
        return {name: Estimate.of(value) for name, value in moved.items()}

    def difference(names: Mapping[str, str]) -> Callable[[Values], FloatArray]:
        def at(values: Values) -> FloatArray:
            sides = (make_quantity(quantity, maps_at(values, side), models=names,
                                   constants=constants).value
                     for side in ('task', 'baseline'))  # fmt: skip
            return np.subtract(*sides)

        return at

    unlimited = {name: MODELS[name][row].unlimited or row for name, row in models.items()}
    made = [
        make_quantity(quantity, maps, models=models, constants=constants)
        for maps in (task, baseline)
    ]
    codes = [maps[name].status for maps in (task, baseline) for name in maps]
    reasons = [np.where(_is_told(one.status), one.status, Status.OK) for one in made]
    return propagate(
        difference(models),
        sources,
        slopes_of=difference(unlimited),
        status=combine_status(*codes, *reasons),
    )


def make_quantity(
    quantity: str,
    maps: Mapping[str, Estimate],
    *,
    models: Mapping[str, str],
    constants: Mapping[str, Any],
) -> Estimate:
    """
    Make a quantity from maps by rows of the registry; what lies between is made on the way.

    Parameters
    ----------
    quantity : str
        Of the registry, or one of the maps.
    maps : mapping of str to (V,) Estimate
        What there is.
    models : mapping of str to str
        Quantity -> row of the registry.
    constants : mapping of str to float
        Parameters of the rows; one that a row has a default for may be absent.

    Returns
    -------
    estimate : (V,) Estimate
        In the unit of the row.

    Examples
    --------
    >>> maps = {'cbf': Estimate.of([50.0]), 'oef': Estimate.of([0.4])}
    >>> make_quantity('cmro2', maps, models={'cmro2': 'fick'}, constants={'cao2': 7.5}).value
    array([150.])
    """
    if quantity in maps:
        return maps[quantity]
    spec = MODELS[quantity][models[quantity]]
    arguments: dict[str, Any] = {
        name: make_quantity(name, maps, models=models, constants=constants) for name in spec.maps
    }
    arguments |= {name: constants[name] for name in spec.parameters if name in constants}
    made: Estimate = spec.resolve()(**arguments)
    return made


def maps_behind(
    quantity: str, models: Mapping[str, str], is_known: Callable[[str], bool]
) -> tuple[str, ...]:
    """
    Name the maps that a quantity is made from, down to what was measured.

    Parameters
    ----------
    quantity : str
        Of the registry.
    models : mapping of str to str
        Quantity -> row of the registry.
    is_known : callable
        Tells whether there is a map of a quantity.

    Returns
    -------
    names : tuple of str
        In order, each once; the quantity itself where it was measured.

    Examples
    --------
    >>> models = {'r2_prime': 'difference', 'oef': 'mqbold', 'cmro2': 'fick'}
    >>> maps_behind('cmro2', models, {'cbf', 'r2_star', 'r2', 'cbv', 'oef'}.__contains__)
    ('cbf', 'r2_star', 'r2', 'cbv')
    """
    spec = MODELS[quantity][models[quantity]] if quantity in models else None
    if spec is None or not spec.maps or spec.data:
        return (quantity,)
    behind = [maps_behind(name, models, is_known) for name in spec.maps]
    names = tuple(dict.fromkeys(name for part in behind for name in part))
    return names if all(is_known(name) for name in names) else (quantity,)


def _sources_of_error(
    task: Mapping[str, Estimate],
    baseline: Mapping[str, Estimate],
    shared: tuple[str, ...],
    *,
    by_flow: bool,
) -> dict[str, Estimate]:
    """List what is uncertain by itself; what is shared, and was carried to the task, is two."""
    sources: dict[str, Estimate] = {}
    for name, own in baseline.items():
        if name not in shared:
            sources |= {f'task_{name}': task[name], f'baseline_{name}': own}
            continue
        sources[name] = own
        if name == 'cbv' and by_flow:  # how it was carried is told by the errors of the flows
            continue
        carried = carried_error(task[name], own)
        if np.any(carried.variance > 0):
            sources[f'carried_{name}'] = carried
    return sources


def carried_error(task: Estimate, baseline: Estimate) -> Estimate:
    """Give what carrying a shared map to the task adds: 1, with the relative variance more."""
    relative = [one.variance / np.where(one.value == 0, np.nan, one.value) ** 2
                for one in (task, baseline)]  # fmt: skip
    more = np.nan_to_num(np.maximum(relative[0] - relative[1], 0.0))
    return Estimate.of(np.ones(more.shape), more)


def _shared_value(
    name: str, side: str, values: Values, task: Estimate, baseline: Estimate
) -> FloatArray:
    """Value of a shared map on one side while a source is moved: relative errors are equal."""
    if side == 'baseline':
        return values[name]
    value = task.value * _ratio(values[name], baseline.value)
    # where the baseline is 0 there is no relative error; both move by the same amount
    value = np.where(baseline.value == 0, task.value + values[name], value)
    return value * values[f'carried_{name}'] if f'carried_{name}' in values else value


def _ratio(moved: FloatArray, measured: FloatArray) -> FloatArray:
    """Say by which factor a value was moved; 1 where it is 0."""
    return np.divide(moved, measured, out=np.ones_like(measured), where=measured != 0)


def _is_told(status: StatusArray) -> BoolArray:
    """Tell which codes of a made quantity its change repeats: no estimate, or a limit."""
    told: BoolArray = is_missing(status) | (status == Status.CAPPED)
    return told


def percent_of_baseline(change: Estimate, baseline: Estimate) -> FloatArray:
    """
    Express a change in percent of the baseline; a description, not for tests.

    Parameters
    ----------
    change, baseline : (V,) Estimate
        Of equal unit.

    Returns
    -------
    percent : (V,) ndarray of float64
        Percent; NaN where an input is missing or the baseline is not positive.

    Examples
    --------
    >>> percent_of_baseline(Estimate.of([5.0, 5.0]), Estimate.of([50.0, -1.0]))
    array([10., nan])
    """
    check_shapes(change, baseline)
    percent: FloatArray = np.full(change.value.shape, np.nan)
    positive = baseline.value > 0
    percent[positive] = change.value[positive] / baseline.value[positive] / PERCENT
    return percent


def change_parts(
    cbf_change: ArrayLike,
    baseline_cbf: ArrayLike,
    oef_change: ArrayLike,
    baseline_oef: ArrayLike,
    *,
    cao2: float,
) -> tuple[FloatArray, FloatArray]:
    r"""
    Split a change of CMRO2 into what blood flow and what extraction carry.

    Parameters
    ----------
    cbf_change, baseline_cbf : (...) array_like
        mL/100 g/min.
    oef_change, baseline_oef : (...) array_like
        Dimensionless.
    cao2 : float
        Arterial oxygen content, umol/mL.

    Returns
    -------
    cbf_part, oef_part : (...) ndarray of float64
        umol/100 g/min; they add up to the change of CMRO2.

    Notes
    -----
    Each change times the mean of the other factor over the conditions, so that no rest is left:

    .. math:: D = CaO_2\,(\Delta F\, \bar E + \bar F\, \Delta E)

    Examples
    --------
    >>> cbf_part, oef_part = change_parts([10.0], [50.0], [-0.04], [0.4], cao2=7.5)
    >>> cbf_part.round(1), oef_part.round(1), round((60 * 0.36 - 50 * 0.4) * 7.5, 1)
    (array([28.5]), array([-16.5]), 12.0)
    """
    flow, extraction = np.asarray(cbf_change, float), np.asarray(oef_change, float)
    mean_oef = np.asarray(baseline_oef, float) + extraction / 2
    mean_cbf = np.asarray(baseline_cbf, float) + flow / 2
    return cao2 * flow * mean_oef, cao2 * mean_cbf * extraction


def tipping_points(
    cbf_change: ArrayLike,
    baseline_cbf: ArrayLike,
    r2_prime_change: ArrayLike,
    baseline_r2_prime: ArrayLike,
) -> dict[str, FloatArray]:
    r"""
    Tell which systematic errors would turn the sign of a change of CMRO2.

    Parameters
    ----------
    cbf_change, baseline_cbf : (...) array_like
        F, mL/100 g/min; best of regions.
    r2_prime_change, baseline_r2_prime : (...) array_like
        P, 1/s.

    Returns
    -------
    tips : dict of str to (...) ndarray of float64
        `cbv`, the relative change of blood volume with the task that was not measured, 1; `r2`,
        the amount by which R2 would have to be overestimated in both conditions, 1/s; `cbf`, the
        relative error of the task's blood flow, not shared by the baseline, 1. NaN where none
        turns the sign.

    Notes
    -----
    With f the relative change of F, D vanishes at

    .. math::

        CBV^* = \frac{F_t P_t}{F_b P_b} - 1, \quad
        R_2^* = \frac{F_b P_b - F_t P_t}{F_t - F_b}, \quad
        CBF^* = \frac{F_b P_b}{F_t P_t} - 1

    Scale factors (haematocrit, labelling efficiency, partition coefficient) never turn it.

    Examples
    --------
    >>> tips = tipping_points([10.0], [50.0], [-0.5], [5.5])
    >>> {name: float(value.round(3)[0]) for name, value in tips.items()}
    {'cbv': 0.091, 'r2': -2.5, 'cbf': -0.083}
    """
    base_cbf, base_rate = np.asarray(baseline_cbf, float), np.asarray(baseline_r2_prime, float)
    step = np.asarray(cbf_change, float)
    baseline = base_cbf * base_rate
    task = (base_cbf + step) * (base_rate + np.asarray(r2_prime_change, float))
    usable = (baseline > 0) & (task > 0)

    def ratio(numerator: FloatArray, denominator: FloatArray) -> FloatArray:
        quotient: FloatArray = np.full(np.broadcast(numerator, denominator).shape, np.nan)
        np.divide(numerator, denominator, out=quotient, where=usable & (denominator != 0))
        return quotient

    return {
        'cbv': ratio(task - baseline, baseline),
        'r2': ratio(baseline - task, step),
        'cbf': ratio(baseline - task, task),
    }


def z_score(change: Estimate) -> FloatArray:
    """
    Divide a change by its standard error.

    Parameters
    ----------
    change : (...) Estimate
        A change and its random variance.

    Returns
    -------
    z : (...) ndarray of float64
        Standard normal where nothing changed. NaN where the change is missing; 0 where change
        and variance are both 0 (two identical maps are no evidence of a change).

    Examples
    --------
    >>> z_score(Estimate.of([6.0, 0.0], [9.0, 0.0]))
    array([2., 0.])
    """
    error = np.sqrt(change.variance)
    z = change.value.copy()
    moved = z != 0
    with np.errstate(divide='ignore', over='ignore'):
        z[moved] /= error[moved]
    return z


def p_value(z: ArrayLike, dof: ArrayLike = np.inf) -> FloatArray:
    """
    Give the two-sided probability of a standard normal value, or of t.

    Parameters
    ----------
    z : (...) array_like
        Standard normal under the null hypothesis, or t with `dof`.
    dof : (...) array_like
        Degrees of freedom; broadcasts against `z`.

    Returns
    -------
    p : (...) ndarray of float64
        In [0, 1]; NaN where `z` is.

    Examples
    --------
    >>> p_value([1.96, 0.0]).round(3), round(float(p_value(2.024, dof=38)), 3)
    (array([0.05, 1.  ]), 0.05)
    """
    from scipy.special import stdtr  # slow to import

    p: FloatArray = 2.0 * stdtr(dof, -np.abs(np.asarray(z, float)))
    return p


STATISTICS: Mapping[str, Callable[[Estimate], FloatArray]] = MappingProxyType(
    {
        'z': z_score,
        'p': lambda change: p_value(z_score(change)),
    }
)
"""What is told of every change beside its effect and variance: statistic of data/outputs.yml ->
function of the change."""
