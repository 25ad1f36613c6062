"""Contract that every row of the table of models keeps."""

import inspect
from dataclasses import asdict, dataclass, field

import numpy as np
import pytest

from bids_app.models.asl.kinetics import predict_difference
from bids_app.models.estimate import Estimate
from bids_app.models.oxygen.ase_qbold import predict_ase
from bids_app.models.registry import MODELS, UNITS, choices
from bids_app.models.status import is_missing
from bids_app.settings import OxygenSettings

ROWS = {
    f'{quantity}/{name}': spec for quantity, rows in MODELS.items() for name, spec in rows.items()
}
N_VOXELS = 9
BAD = 4


@dataclass
class Case:
    """Plausible arguments of a row, the voxel axis first."""

    maps: dict = field(default_factory=dict)
    data: dict = field(default_factory=dict)
    per_voxel: dict = field(default_factory=dict)
    scalars: dict = field(default_factory=dict)

    def arguments(self):
        return self.maps | self.data | self.per_voxel | self.scalars

    def at(self, index):
        """Only these voxels, in this order."""
        return Case(
            maps={
                name: Estimate(x.value[index], x.variance[index], x.status[index], x.dof)
                for name, x in self.maps.items()
            },
            data={name: x[index] for name, x in self.data.items()},
            per_voxel={name: x[index] for name, x in self.per_voxel.items()},
            scalars=self.scalars,
        )

    def arrays(self):
        for estimate in self.maps.values():
            yield from (estimate.value, estimate.variance, estimate.status)
        yield from (self.data | self.per_voxel).values()
        yield from (value for value in self.scalars.values() if isinstance(value, np.ndarray))


def spread(low, high):
    return np.linspace(low, high, N_VOXELS)


def estimate(low, high, relative_error=0.05, dof=200.0):
    value = spread(low, high)
    return Estimate.of(value, (relative_error * value) ** 2, dof=dof)


def decay(echo_times, rates, seed):
    rng = np.random.default_rng(seed)
    signal = 1000 * np.exp(-rates[:, np.newaxis] * echo_times)
    return signal + rng.standard_normal(signal.shape)


DELAYS = 0.25 * np.arange(1, 7)


def delays():
    """Differences at six delays, 1000 times the response to flow, with noise."""
    response = predict_difference(
        spread(30, 70)[:, np.newaxis], spread(0.7, 1.2)[:, np.newaxis], 1000.0,
        post_label_delay=spread(0, 0.5)[:, np.newaxis] + DELAYS, label_duration=1.8,
        labeling='continuous', labeling_efficiency=0.85, background_suppression_factor=0.75,
        t1_blood=1.65, t1_tissue=1.607, partition_coefficient=0.9,
    )  # fmt: skip
    noise = 0.1 * np.random.default_rng(3).standard_normal(response.shape)
    return Estimate.of(response + noise, 0.01, dof=200.0)


DISPLACEMENTS = 0.004 * np.arange(17)
OXYGEN = {'static_dephasing_constant': 316.956}


def asymmetric_echo(**constants):
    """Signal at 17 displacements with little noise."""
    signal = predict_ase(DISPLACEMENTS, spread(900, 1100), spread(4, 6), spread(0.03, 0.05))
    noise = np.random.default_rng(4).standard_normal(signal.shape)
    return Case(
        data={'signal': signal + 0.5 * noise},
        per_voxel={'noise_groups': NOISE_GROUPS.copy()},
        scalars={'displacements': DISPLACEMENTS.copy(), **constants},
    )


SPIN_ECHOES = 0.016 * np.arange(1, 9)
GRADIENT_ECHOES = 0.005 * np.arange(1, 13)
NOISE_GROUPS = np.zeros(N_VOXELS, int)
TYPICAL = {
    'cbf': (20, 70), 'cbv': (0.025, 0.05), 'oef': (0.3, 0.5), 'r2': (10, 16),
    'r2_prime': (3, 7), 'r2_star': (17, 22), 'relative_cbv': (2, 6),
    'hypercapnia_bold': (2.8, 3.6), 'hypercapnia_cbf': (70, 80), 'hyperoxia_bold': (1.2, 1.6),
    'hyperoxia_cbf': (47, 49), 'resting_cbf': (49, 51),
}  # fmt: skip
"""Map -> smallest and largest value of the test, in the unit of the registry."""
ASSUMED = {
    **OXYGEN, 'arterial_area': 100.0, 'haematocrit_factor': 0.9, 'cao2': 7.5,
    'grubb_exponent': 0.38, 'grubb_factor': 0.008,
    'alpha': -0.05, 'beta': 0.98, 'sao2': 0.98, 'resting_po2': 110.0, 'hypercapnia_po2': 115.0,
    'hyperoxia_po2': 400.0, 'resting_pco2': 40.0, 'hypercapnia_pco2': 50.0,
    'echo_share': 0.4, 'resting_share': 0.35, 'bold_echo_time': 0.03,
}  # fmt: skip
"""Constants of models that take maps only, but for those that settings have a default of."""


def case_of(row):
    """Case of a row: its own, else typical maps and constants, where it takes nothing else."""
    if row in CASES:
        return CASES[row]()
    spec = ROWS[row]
    assert not spec.data, f'{row} takes data: give it a case of its own'
    return Case(
        maps={name: estimate(*TYPICAL[name]) for name in spec.maps},
        scalars={name: (asdict(OxygenSettings()) | ASSUMED)[name] for name in spec.parameters},
    )


CASES = {
    'r2/exponential': lambda: Case(
        data={'signal': decay(SPIN_ECHOES, spread(10, 16), 1)},
        per_voxel={'noise_groups': NOISE_GROUPS.copy()},
        scalars={'echo_times': SPIN_ECHOES.copy(), 'noise_floor': 'rician', 'coils': 1},
    ),
    'r2/drop-first': lambda: Case(
        data={'signal': decay(SPIN_ECHOES, spread(10, 16), 1)},
        per_voxel={'noise_groups': NOISE_GROUPS.copy()},
        scalars={'echo_times': SPIN_ECHOES.copy(), 'noise_floor': 'rician', 'coils': 1},
    ),
    'r2/epg': lambda: Case(
        data={'signal': decay(SPIN_ECHOES, spread(10, 16), 1)},
        per_voxel={'noise_groups': NOISE_GROUPS.copy()},
        scalars={'echo_times': SPIN_ECHOES.copy(), 'noise_floor': 'rician', 'coils': 1},
    ),
    'r2/epg-slice': lambda: Case(
        data={
            'signal': decay(SPIN_ECHOES, spread(10, 16), 1),
            'positions': 2 * np.argwhere(np.ones((N_VOXELS, 1, 1))),
        },
        per_voxel={'noise_groups': NOISE_GROUPS.copy()},
        scalars={
            'echo_times': SPIN_ECHOES.copy(),
            'refocusing_thickness': 10.0,
            'noise_floor': 'rician',
            'coils': 1,
        },
    ),
    'r2/epg-smooth': lambda: Case(
        data={
            'signal': decay(SPIN_ECHOES, spread(10, 16), 1),
            'positions': 2 * np.argwhere(np.ones((N_VOXELS, 1, 1))),
        },
        per_voxel={'noise_groups': NOISE_GROUPS.copy()},
        scalars={'echo_times': SPIN_ECHOES.copy(), 'noise_floor': 'rician', 'coils': 1},
    ),
    'r2_star/exponential': lambda: Case(
        data={
            'signal': decay(GRADIENT_ECHOES, spread(15, 25), 2),
            'attenuation': np.exp(-np.outer(spread(0, 5), GRADIENT_ECHOES)),
        },
        per_voxel={
            'noise_groups': NOISE_GROUPS.copy(),
            'attenuation_error': -np.outer(spread(0, 0.5), GRADIENT_ECHOES),
        },
        scalars={
            'echo_times': GRADIENT_ECHOES.copy(),
            'attenuation_floor': 0.2,
            'noise_floor': 'rician',
            'coils': 1,
        },
    ),
    'cbf/single-delay': lambda: Case(
        maps={'difference': estimate(2, 8), 'm0': estimate(900, 1100)},
        per_voxel={'post_label_delay': spread(1.8, 2.5)},
        scalars={
            'label_duration': 1.8,
            'labeling_efficiency': 0.85,
            'background_suppression_factor': 0.75,
            't1_blood': 1.65,
            'partition_coefficient': 0.9,
            'labeling': 'continuous',
        },
    ),
    'cbf/multi-delay': lambda: Case(
        maps={'difference': delays(), 'm0': estimate(900, 1100)},
        per_voxel={
            'post_label_delay': spread(0, 0.5)[:, np.newaxis] + DELAYS,
            'noise_groups': NOISE_GROUPS.copy(),
        },
        scalars={
            'label_duration': np.full(6, 1.8),
            'n_pairs': np.full(6, 4),
            'labeling': 'continuous',
            'labeling_efficiency': 0.85,
            'background_suppression_factor': 0.75,
            't1_blood': 1.65,
            't1_tissue': 1.607,
            'partition_coefficient': 0.9,
        },
    ),
    'cbf/multi-delay-dispersed': lambda: Case(
        maps={'difference': delays(), 'm0': estimate(900, 1100)},
        per_voxel={
            'post_label_delay': spread(0, 0.5)[:, np.newaxis] + DELAYS,
            'noise_groups': NOISE_GROUPS.copy(),
        },
        scalars={
            'label_duration': np.full(6, 1.8),
            'n_pairs': np.full(6, 4),
            'labeling': 'continuous',
            'labeling_efficiency': 0.85,
            'background_suppression_factor': 0.75,
            't1_blood': 1.65,
            't1_tissue': 1.607,
            'partition_coefficient': 0.9,
            'dispersion_sharpness': 10.0,
            'dispersion_peak': 0.1,
        },
    ),
    'cbf/multi-delay-arterial': lambda: Case(
        maps={'difference': delays(), 'm0': estimate(900, 1100)},
        per_voxel={
            'post_label_delay': spread(0, 0.5)[:, np.newaxis] + DELAYS,
            'noise_groups': NOISE_GROUPS.copy(),
        },
        scalars={
            'label_duration': np.full(6, 1.8),
            'n_pairs': np.full(6, 4),
            'labeling': 'continuous',
            'labeling_efficiency': 0.85,
            'background_suppression_factor': 0.75,
            't1_blood': 1.65,
            't1_tissue': 1.607,
            'partition_coefficient': 0.9,
        },
    ),
    'cbf/scanner': lambda: Case(maps={'difference': estimate(30, 80)}),
    'cbv/dsc': lambda: Case(
        maps={'relative_cbv': estimate(20, 60)},
        data={'white_matter': np.arange(N_VOXELS) < BAD},
        scalars={'white_matter_cbv': 0.025},
    ),
    'cbv/literature': lambda: Case(
        data={'grey_matter': spread(0, 1), 'white_matter': spread(1, 0)},
        scalars={'grey_matter_cbv': 0.048, 'white_matter_cbv': 0.025, 'relative_error': 0.1},
    ),
    'oef/qbold': lambda: asymmetric_echo(**OXYGEN),
    'oef/qbold-loglinear': lambda: asymmetric_echo(**OXYGEN),
    'cbv/ase': asymmetric_echo,
}
SHARES_WHAT_ALL_VOXELS_SAY = {'r2/epg-smooth', 'cbv/dsc', 'r2_prime/epp2025', 'oef/epp2025'}

every_row = pytest.mark.parametrize('row', ROWS)


def run_all(row, case):
    """Everything that a model returns."""
    made = ROWS[row].resolve()(**case.arguments())
    return made if ROWS[row].also else (made,)


def run(row, case):
    return run_all(row, case)[0]


@every_row
def test_row_names_the_signature_of_its_function(row):
    spec = ROWS[row]
    signature = inspect.signature(spec.resolve())
    assert {*spec.maps, *spec.data, *spec.parameters} == set(signature.parameters)
    positional = {
        name
        for name, parameter in signature.parameters.items()
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY
    }
    assert positional == {*spec.maps, *spec.data}


@every_row
def test_row_has_a_case_and_its_case_names_what_the_row_names(row):
    spec, case = ROWS[row], case_of(row)
    assert set(case.maps) == set(spec.maps)
    assert set(case.data) == set(spec.data)
    assert set(case.per_voxel) | set(case.scalars) == set(spec.parameters)


@every_row
def test_row_says_unit_citation_and_method(row):
    spec = ROWS[row]
    assert row.partition('/')[0] in UNITS
    assert spec.citation.isalnum()
    assert spec.methods[0].isupper()
    assert not spec.methods.endswith('.')
    assert spec.resolve().__doc__


@every_row
def test_model_gives_an_estimate_with_variance(row):
    results = run_all(row, case_of(row))
    assert len(results) == 1 + len(ROWS[row].also)
    for result in results:
        assert isinstance(result, Estimate)
        assert np.all(np.isfinite(result.value))
        assert np.all(result.variance > 0)
        assert result.dof > 0


@every_row
def test_permuting_voxels_permutes_results(row):
    case, order = case_of(row), np.random.default_rng(0).permutation(N_VOXELS)
    plain, permuted = run(row, case), run(row, case.at(order))
    np.testing.assert_allclose(permuted.value, plain.value[order], rtol=1e-7)
    np.testing.assert_allclose(permuted.variance, plain.variance[order], rtol=1e-6)
    np.testing.assert_array_equal(permuted.status, plain.status[order])


@pytest.mark.parametrize('row', sorted(set(ROWS) - {'r2/epg-smooth'}))  # its neighbours help
def test_bad_voxel_is_missing_and_leaves_its_neighbours_alone(row):
    plain, case = run(row, case_of(row)), case_of(row)
    if case.maps:
        name, good = next(iter(case.maps.items()))
        value = good.value.copy()
        value[BAD] = np.nan
        case.maps[name] = Estimate.of(value, good.variance, good.status, good.dof)
    else:
        next(iter(case.data.values()))[BAD] = np.nan
    spoilt = run(row, case)
    others = np.arange(N_VOXELS) != BAD
    assert is_missing(spoilt.status)[BAD]
    np.testing.assert_allclose(spoilt.value[others], plain.value[others], rtol=1e-7)
    np.testing.assert_array_equal(spoilt.status[others], plain.status[others])
    assert np.all(spoilt.variance[others] > 0)


def per_voxel(values, like):
    """Numbers per voxel in the shape of an estimate that may have several per voxel."""
    values = np.asarray(values)
    return np.broadcast_to(values.reshape(-1, *[1] * (like.value.ndim - 1)), like.value.shape)


@every_row
def test_value_is_missing_exactly_where_the_status_says(row):
    case = case_of(row)
    for data in case.data.values():
        if data.dtype == float:
            data[0], data[1] = np.nan, 0.0
    case.maps = {
        name: Estimate.of(
            per_voxel([-1.0, 0.0] + [1.0] * (N_VOXELS - 2), x) * x.value,
            x.variance,
            per_voxel(np.where(np.arange(N_VOXELS) == 2, 4, 0), x),
            x.dof,
        )
        for name, x in case.maps.items()
    }
    result = run(row, case)
    np.testing.assert_array_equal(np.isnan(result.value), is_missing(result.status))
    np.testing.assert_array_equal(np.isnan(result.variance), is_missing(result.status))
    assert is_missing(result.status).any()
    assert not is_missing(result.status).all()


@every_row
def test_inputs_are_never_modified(row):
    case = case_of(row)
    before = [array.copy() for array in case.arrays()]
    for array in case.arrays():
        array.flags.writeable = False
    run(row, case)
    for array, copy in zip(case.arrays(), before, strict=True):
        np.testing.assert_array_equal(array, copy)


@every_row
def test_single_precision_input_is_tolerated(row):
    case, single = case_of(row), case_of(row)
    single.data = {
        name: x.astype(np.float32) if x.dtype == float else x for name, x in case.data.items()
    }
    result = run(row, single)
    assert result.value.dtype == np.float64
    np.testing.assert_allclose(result.value, run(row, case).value, rtol=1e-4)


@pytest.mark.parametrize('row', sorted(set(ROWS) - SHARES_WHAT_ALL_VOXELS_SAY))
def test_value_of_a_voxel_does_not_depend_on_the_others(row):
    case = case_of(row)
    together = run(row, case).value
    alone = [run(row, case.at([voxel])).value[0] for voxel in range(N_VOXELS)]
    np.testing.assert_allclose(alone, together, rtol=1e-6)


def test_choices_are_the_names_of_the_rows_the_default_first():
    assert choices('cbv') == ('dsc', 'arterial', 'grubb', 'literature', 'ase')
    assert all(choices(quantity) for quantity in MODELS)
