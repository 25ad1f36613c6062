"""The table of interchangeable models per quantity; imports nothing heavy (functions by name)."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from math import isfinite, nan
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """
    What the rest of the package must know of a model.

    `maps`, `data` and `parameters` together are the signature of its function.

    Parameters
    ----------
    function : str
        ``module:name``.
    maps : tuple of str
        Arguments given as :class:`~bids_app.models.estimate.Estimate`.
    data : tuple of str
        Arguments given as arrays, voxel axis first.
    parameters : tuple of str
        Arguments given as scalars or per-voxel arrays; what one of them is computed from stands
        in `DERIVED`.
    citation : str
        Key of the bibliography.
    methods : str
        Sentence of the methods section, without citation and full stop.
    also : tuple of str
        Quantities that the function returns after that of the row; it then returns a tuple.
    unlimited : str
        The row that is the same without limits, where this one limits its values.
    """

    function: str
    maps: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    parameters: tuple[str, ...] = ()
    citation: str
    methods: str
    also: tuple[str, ...] = ()
    unlimited: str = ''

    @property
    def constants(self) -> tuple[str, ...]:
        """Parameters, what is computed from others replaced by those."""
        return tuple(
            constant
            for name in self.parameters
            for constant in (DERIVED[name].constants if name in DERIVED else (name,))
        )

    def resolve(self) -> Callable[..., Any]:
        """Import the function: returns an Estimate, or a tuple of them (`also`)."""
        return _resolve(self.function)


@dataclass(frozen=True, slots=True, kw_only=True)
class Derived:
    """A parameter that is computed from constants: ``module:function``, and its arguments."""

    function: str
    constants: tuple[str, ...]

    def of(self, known: Mapping[str, float]) -> float:
        """Compute it; NaN where one of the constants is."""
        given = {name: known[name] for name in self.constants}
        if not all(map(isfinite, given.values())):
            return nan
        return float(_resolve(self.function)(**given))


DERIVED: Mapping[str, Derived] = {
    'static_dephasing_constant': Derived(
        function='bids_app.models.oxygen.mqbold:static_dephasing_constant',
        constants=('b0', 'hct', 'small_vessel_hct_ratio', 'susceptibility', 'gyromagnetic_ratio'),
    ),
    'cao2': Derived(
        function='bids_app.models.oxygen.cmro2:arterial_oxygen_content',
        constants=('hct', 'sao2', 'oxygen_per_haemoglobin', 'haemoglobin_per_hct'),
    ),
    'haematocrit_factor': Derived(
        function='bids_app.models.dsc.cbv_scaling:haematocrit_factor',
        constants=('hct', 'small_vessel_hct_ratio'),
    ),
}
"""Parameters of models that are one number of several constants, which stand in the sidecars."""

GASES = ('hypercapnia', 'hyperoxia')
GAS_MAPS = {
    **{f'{gas}_bold': '%' for gas in GASES},
    **{f'{gas}_cbf': 'mL/100 g/min' for gas in GASES},
    'resting_cbf': 'mL/100 g/min',
}
"""Map of what a gas changes -> its unit; CBF at rest beside it is as smooth as they are."""
EXPONENTS = ('alpha', 'beta')
ONE_SERIES = ('echo_share', 'resting_share')
"""Noise that BOLD and CBF of gases have in common where they come from one series; else 0."""
OXYGEN_OF_BLOOD = ('cao2', 'sao2', 'resting_po2')
ASE_PARAMETERS = ('displacements', 'static_dephasing_constant', 'noise_groups')
NOISE = ('noise_groups', 'noise_floor', 'coils')
DELAYS = (
    'label_duration', 'post_label_delay', 'n_pairs', 'labeling_efficiency',
    'background_suppression_factor', 't1_blood', 't1_tissue', 'partition_coefficient', 'labeling',
    'noise_groups',
)  # fmt: skip

UNITS: Mapping[str, str] = {
    'r2': '1/s',
    'r2_star': '1/s',
    'r2_prime': '1/s',
    'cbf': 'mL/100 g/min',
    'cbv': 'mL/mL',
    'oef': '1',
    'bold_maximum': '%',
    'cvr': '%/mmHg',
    'cmro2': 'umol/100 g/min',
    **GAS_MAPS,
}
"""Map that a model makes or takes -> its unit, whatever the model."""

MODELS: Mapping[str, Mapping[str, ModelSpec]] = {
    'r2': {
        'exponential': ModelSpec(
            function='bids_app.models.relaxometry.decay:fit_r2',
            data=('signal',),
            parameters=('echo_times', *NOISE),
            citation='hirsch2014',
            methods='R2 was estimated from the multi-echo spin echo by mono-exponential '
            'least squares in signal space',
        ),
        'drop-first': ModelSpec(
            function='bids_app.models.relaxometry.decay:fit_r2_without_first',
            data=('signal',),
            parameters=('echo_times', *NOISE),
            citation='hirsch2014',
            methods='R2 was estimated from the multi-echo spin echo without its first echo by '
            'mono-exponential least squares in signal space',
        ),
        'epg': ModelSpec(
            function='bids_app.models.relaxometry.epg:fit_r2_epg',
            data=('signal',),
            parameters=('echo_times', *NOISE),
            citation='lebel2010',
            methods='R2 was estimated from the multi-echo spin echo by least squares with '
            'extended phase graphs, the refocusing angle of each voxel being fitted along',
        ),
        'epg-smooth': ModelSpec(
            function='bids_app.models.relaxometry.epg:fit_r2_epg_smooth',
            data=('signal', 'positions'),
            parameters=('echo_times', *NOISE),
            citation='lebel2010',
            methods='R2 was estimated from the multi-echo spin echo by least squares with '
            'extended phase graphs, the refocusing angle being a polynomial in space through '
            'those of the voxels',
        ),
        'epg-slice': ModelSpec(
            function='bids_app.models.relaxometry.epg_slice:fit_r2_epg_slice',
            data=('signal', 'positions'),
            parameters=('echo_times', 'refocusing_thickness', *NOISE),
            citation='lebel2010',
            methods='R2 was estimated from the multi-echo spin echo by least squares with '
            'extended phase graphs across the profile of the slice, the transmit field being a '
            'polynomial in space that is fitted along; what other slice profiles would change is '
            'in its variance',
        ),
    },
    'r2_star': {
        'exponential': ModelSpec(
            function='bids_app.models.relaxometry.decay:fit_r2_star',
            data=('signal', 'attenuation'),
            parameters=(
                'echo_times',
                'attenuation_error',
                'noise_groups',
                'attenuation_floor',
                'noise_floor',
                'coils',
            ),
            citation='hirsch2013',
            methods='R2* was estimated from the multi-echo gradient echo by mono-exponential '
            'least squares in signal space, each echo weighted by the dephasing expected from '
            'the through-slice background gradient',
        ),
    },
    'r2_prime': {
        'difference': ModelSpec(
            function='bids_app.models.relaxometry.r2prime:estimate_r2_prime',
            maps=('r2_star', 'r2'),
            citation='hirsch2014',
            methods="R2' was the difference of R2* and R2",
        ),
        'epp2025': ModelSpec(
            function='bids_app.models.relaxometry.r2prime:estimate_r2_prime_epp2025',
            maps=('r2_star', 'r2'),
            citation='hirsch2014',
            unlimited='difference',
            methods="R2' was the difference of R2* and R2, with the limits of the published "
            'pipeline; how many voxels they changed stands in the sidecar',
        ),
    },
    'cbf': {
        'single-delay': ModelSpec(
            function='bids_app.models.asl.single_delay:estimate_cbf',
            maps=('difference', 'm0'),
            parameters=(
                'label_duration',
                'post_label_delay',
                'labeling_efficiency',
                'background_suppression_factor',
                't1_blood',
                'partition_coefficient',
                'labeling',
            ),
            citation='alsop2015',
            methods='CBF was computed from the label-control difference with the single-delay '
            'model of the white paper on arterial spin labeling',
        ),
        'multi-delay': ModelSpec(
            function='bids_app.models.asl.multi_delay:fit_multi_delay',
            maps=('difference', 'm0'),
            parameters=DELAYS,
            citation='buxton1998',
            methods='CBF and the arrival time of the label were fitted to the label-control '
            'differences of all delays with the general kinetic model, with intervals from the '
            'profile likelihood near its kinks',
            also=('att',),
        ),
        'multi-delay-dispersed': ModelSpec(
            function='bids_app.models.asl.multi_delay:fit_dispersed',
            maps=('difference', 'm0'),
            parameters=(*DELAYS, 'dispersion_sharpness', 'dispersion_peak'),
            citation='chappell2013',
            methods='CBF and the arrival time of the label were fitted to the label-control '
            'differences of all delays with the general kinetic model, whose bolus was dispersed '
            'by a gamma kernel',
            also=('att',),
        ),
        'multi-delay-arterial': ModelSpec(
            function='bids_app.models.asl.multi_delay:fit_with_arteries',
            maps=('difference', 'm0'),
            parameters=DELAYS,
            citation='chappell2010',
            methods='CBF and the arrival time of the label were fitted to the label-control '
            'differences of all delays with the general kinetic model, and in voxels whose '
            'differences ask for it the blood volume of arteries that fill before the tissue',
            also=('att', 'abv'),
        ),
        'scanner': ModelSpec(
            function='bids_app.models.asl.single_delay:take_scanner_cbf',
            maps=('difference',),
            citation='alsop2015',
            methods='CBF was taken as the scanner computed it',
        ),
    },
    'cbv': {
        'dsc': ModelSpec(
            function='bids_app.models.dsc.cbv_scaling:normalise_to_white_matter',
            maps=('relative_cbv',),
            data=('white_matter',),
            parameters=('white_matter_cbv',),
            citation='ostergaard1996',
            methods='CBV was the area under the first pass of the contrast agent, scaled so '
            'that white matter has the reference value',
        ),
        'arterial': ModelSpec(
            function='bids_app.models.dsc.cbv_scaling:cbv_from_arterial_input',
            maps=('relative_cbv',),
            parameters=('arterial_area', 'haematocrit_factor'),
            citation='rempp1994',
            methods='CBV was the area under the curve of the contrast agent over that of the '
            'arterial input, corrected for the haematocrit of small vessels',
        ),
        'grubb': ModelSpec(
            function='bids_app.models.dsc.cbv_scaling:cbv_from_cbf',
            maps=('cbf',),
            parameters=('grubb_factor', 'grubb_exponent'),
            citation='grubb1974',
            methods='CBV was predicted from CBF by a power law',
        ),
        'literature': ModelSpec(
            function='bids_app.models.dsc.cbv_scaling:cbv_from_tissue',
            data=('grey_matter', 'white_matter'),
            parameters=('grey_matter_cbv', 'white_matter_cbv', 'relative_error'),
            citation='leenders1990',
            methods='CBV was a literature value per tissue',
        ),
        'ase': ModelSpec(
            function='bids_app.models.oxygen.ase_qbold:fit_dbv',
            data=('signal',),
            parameters=('displacements', 'noise_groups'),
            citation='stone2017',
            methods='CBV was the deoxygenated blood volume of the asymmetric spin echo',
        ),
    },
    'oef': {
        'mqbold': ModelSpec(
            function='bids_app.models.oxygen.mqbold:estimate_oef',
            maps=('r2_prime', 'cbv'),
            parameters=('static_dephasing_constant',),
            citation='yablonskiy1994',
            methods="OEF was derived from R2' and blood volume in the static dephasing regime",
        ),
        'epp2025': ModelSpec(
            function='bids_app.models.oxygen.mqbold:estimate_oef_epp2025',
            maps=('r2_prime', 'cbv'),
            parameters=('static_dephasing_constant',),
            citation='epp2025',
            unlimited='mqbold',
            methods="OEF was derived from R2' and blood volume in the static dephasing regime, "
            'with the limit of the published analysis; how many voxels it changed stands in the '
            'sidecar',
        ),
        'qbold': ModelSpec(
            function='bids_app.models.oxygen.ase_qbold:fit_oef',
            data=('signal',),
            parameters=ASE_PARAMETERS,
            citation='stone2017',
            methods="OEF and R2' were fitted to the asymmetric spin echo by the model of static "
            'dephasing at all displacements',
            also=('r2_prime',),
        ),
        'qbold-loglinear': ModelSpec(
            function='bids_app.models.oxygen.ase_qbold:fit_oef_loglinear',
            data=('signal',),
            parameters=ASE_PARAMETERS,
            citation='stone2017',
            methods="OEF and R2' came from a line through the logarithms of the asymmetric spin "
            'echo at long displacements and its distance to the spin echo',
            also=('r2_prime',),
        ),
        'dual-calibrated': ModelSpec(
            function='bids_app.models.oxygen.gas_calibration:estimate_oef_dual_calibrated',
            maps=(
                'hypercapnia_bold',
                'hypercapnia_cbf',
                'hyperoxia_bold',
                'hyperoxia_cbf',
                'resting_cbf',
            ),
            parameters=(
                *EXPONENTS,
                *OXYGEN_OF_BLOOD,
                'hypercapnia_po2',
                'hyperoxia_po2',
                'hypercapnia_cmro2',
                *ONE_SERIES,
            ),
            citation='gauthier2012',
            methods='OEF at rest was solved, with the maximum of BOLD, from the changes of BOLD '
            'and CBF in hypercapnia and in hyperoxia',
        ),
    },
    'bold_maximum': {
        'r2-prime': ModelSpec(
            function='bids_app.models.oxygen.gas_calibration:estimate_maximum_from_r2_prime',
            maps=('r2_prime',),
            parameters=('bold_echo_time',),
            citation='blockley2012',
            methods="The maximum of BOLD was the product of its echo time and R2'",
        ),
        'hypercapnia': ModelSpec(
            function='bids_app.models.oxygen.gas_calibration:estimate_maximum_from_hypercapnia',
            maps=('hypercapnia_bold', 'hypercapnia_cbf', 'resting_cbf'),
            parameters=(*EXPONENTS, 'hypercapnia_cmro2', *ONE_SERIES),
            citation='davis1998',
            methods='The maximum of BOLD was calibrated by the changes of BOLD and CBF in '
            'hypercapnia',
        ),
        'generalised': ModelSpec(
            function='bids_app.models.oxygen.gas_calibration:estimate_maximum_from_hyperoxia',
            maps=('hyperoxia_bold', 'hyperoxia_cbf', 'resting_cbf', 'oef'),
            parameters=(*EXPONENTS, *OXYGEN_OF_BLOOD, 'hyperoxia_po2', *ONE_SERIES),
            citation='gauthier2013',
            methods='The maximum of BOLD was calibrated by the changes of BOLD and CBF in '
            'hyperoxia with the generalised calibration model',
        ),
    },
    'cvr': {
        'cbf': ModelSpec(
            function='bids_app.models.oxygen.gas_calibration:estimate_reactivity',
            maps=('hypercapnia_cbf', 'resting_cbf'),
            parameters=('hypercapnia_pco2', 'resting_pco2'),
            citation='liu2019',
            methods='Cerebrovascular reactivity was the rise of CBF in hypercapnia over that of '
            'the end-tidal pressure of carbon dioxide',
        ),
    },
    'cmro2': {
        'fick': ModelSpec(
            function='bids_app.models.oxygen.cmro2:estimate_cmro2',
            maps=('cbf', 'oef'),
            parameters=('cao2',),
            citation='kety1948',
            methods='CMRO2 was the product of CBF, OEF and arterial oxygen content',
        ),
    },
}
"""Quantity -> model name -> row. Choices of the command line, methods text and docs follow."""


def _resolve(function: str) -> Callable[..., Any]:
    """Import ``module:function``."""
    module, _, name = function.partition(':')
    found: Callable[..., Any] = getattr(import_module(module), name)
    return found


def choices(quantity: str) -> tuple[str, ...]:
    """Names of the models of a quantity, the default first."""
    return tuple(MODELS[quantity])
