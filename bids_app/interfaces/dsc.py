"""Bolus of a contrast agent: area, leakage, arterial input and deconvolution of one series."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import ndimage

from bids_app.errors import InputDataError
from bids_app.images import load_data, load_masked, save_image, save_unmasked
from bids_app.interfaces._base import (
    BUNDLE,
    SHARED_NOISE,
    BaseInterfaceInputSpec,
    Bundle,
    File,
    Interface,
    TraitedSpec,
    estimated,
    image,
    isdefined,
    load_estimate,
    load_value,
    read_mask,
    result,
    save_estimate,
    sidecar_of,
    traits,
)
from bids_app.interfaces.oxygen import applied_scale
from bids_app.interfaces.regions import read_atlas, region_levels
from bids_app.models.dsc.arterial_input import arterial_input_from_mask, find_arterial_input
from bids_app.models.dsc.cbv_scaling import (
    cbv_change_that_flips_sign,
    change_cbv_by_flow,
    change_cbv_by_parcel,
)
from bids_app.models.dsc.deconvolution import deconvolve, flow_per_mass
from bids_app.models.dsc.quality import estimate_motion, find_bolus_defects, motion_fields
from bids_app.models.dsc.relative_cbv import bolus_times, estimate_relative_cbv
from bids_app.models.numerics.noise import long_run_ratio, shared_noise
from bids_app.units import PERCENT

if TYPE_CHECKING:
    from bids_app._typing import BoolArray, FloatArray
    from bids_app.images import Grid
    from bids_app.models.dsc.arterial_input import ArterialInput
    from bids_app.models.dsc.leakage import LeakageCourse
    from bids_app.models.dsc.relative_cbv import BolusAreas


@dataclass(frozen=True, slots=True, eq=False)
class _Bolus:
    """A bolus series within the brain, or also in a rim around it, and what is made of it."""

    mask: BoolArray
    inside: BoolArray
    """Which voxels of the mask are brain."""
    grid: Grid
    series: FloatArray
    areas: BolusAreas

    @classmethod
    def of(cls, inputs: Any) -> _Bolus:
        """Read the series that the ports name."""
        brain, grid = read_mask(inputs.mask)
        mask = ndimage.binary_dilation(brain, RIM) if inputs.is_widened else brain
        series = load_masked(inputs.series, mask, grid)
        inside = brain[mask]
        groups = None
        if isdefined(inputs.noise_groups):
            groups = load_masked(inputs.noise_groups, mask, grid).astype(int)
        areas = estimate_relative_cbv(
            series,
            echo_time=inputs.echo_time,
            repetition_time=inputs.repetition_time,
            noise_groups=groups,
            brain=inside,
            area=inputs.area,
            correct_leakage=inputs.correct_leakage,
        )
        return cls(mask, inside, grid, series, areas)

    def shared_noise(self) -> dict[str, float]:
        """Tell how much of the noise before the bolus regions have in common."""
        window = self.areas.window
        baseline = self.series[:, window.baseline_start : window.baseline_end]
        level = baseline.mean(axis=1, keepdims=True)
        usable = self.inside & np.isfinite(baseline).all(axis=1) & (level[:, 0] > 0)
        relative = baseline[usable] / level[usable] - 1
        points = np.argwhere(self.mask)[usable] * self.grid.zooms
        slow = long_run_ratio(relative)
        shares = shared_noise(relative, slow * relative.var(axis=1, ddof=1), points)
        return {size: round(share, 4) for size, share in shares.items()}

    def save(
        self, results: dict[str, Any], quantities: dict[str, Any], facts: dict[str, Any], cwd: str
    ) -> None:
        """Write quantities that have the same facts."""
        for name, quantity in quantities.items():
            results[name] = save_estimate(name, quantity, self.mask, self.grid, cwd, facts)


class EstimateBolus(Interface):
    """Estimate relative blood volume and leakage, unless the series has a defect."""

    class Inputs(BaseInterfaceInputSpec):
        series = image('dynamic susceptibility contrast series', 'a.u.')
        mask = image('brain', '1')
        noise_groups = image('tissue class whose noise is pooled', '', optional=True)
        echo_time = traits.Float(mandatory=True, desc='echo time', unit='s')
        repetition_time = traits.Float(mandatory=True, desc='repetition time', unit='s')
        is_widened = traits.Bool(
            False, usedefault=True, desc='also estimate a rim around the brain', unit=''
        )
        area = traits.Str('first-pass', usedefault=True, desc='part of the curve', unit='')
        correct_leakage = traits.Bool(False, usedefault=True, desc='area without leak', unit='')
        accepted_defects = traits.List(traits.Str, desc='defects that are tolerated', unit='')

    class Outputs(TraitedSpec):
        mask = result('voxels with an estimate', '1')
        relative_cbv = estimated('area of the relaxation rate change under the bolus', '1')
        bolus_time = result('centre of the bolus after that of the brain', 's')
        bolus_curve = File(exists=True, desc='bolus in the brain over time', unit='1/s')
        k1 = estimated('height relative to tissue that does not leak', '1')
        k2 = estimated('leak', '1/s')

    def _run_interface(self, runtime):
        bolus = _Bolus.of(self.inputs)

        facts = self._judge(bolus)

        quantities: dict[str, Any] = {'relative_cbv': bolus.areas.relative_cbv}
        if self.inputs.correct_leakage:
            quantities |= {'k1': bolus.areas.k1, 'k2': bolus.areas.k2}
            facts = facts | {'LeakageCourse': _describe(bolus.areas.course)}
        bolus.save(self._results, quantities, facts, runtime.cwd)
        folder = Path(runtime.cwd)
        self._results['mask'] = save_image(bolus.mask, bolus.grid, folder / 'mask.nii')
        time = bolus_times(bolus.areas, bolus.inside, repetition_time=self.inputs.repetition_time)
        path = folder / 'bolus_time.nii'
        self._results['bolus_time'] = save_unmasked(time, bolus.mask, bolus.grid, path)
        mean = np.nanmean(bolus.areas.rate_change[bolus.inside], axis=0)
        path = folder / 'bolus_curve.tsv'
        self._results['bolus_curve'] = _save_curve(mean, self.inputs.repetition_time, path, facts)
        return runtime

    def _judge(self, bolus: _Bolus) -> dict[str, Any]:
        """Refuse defects that are not accepted; give the entries of the sidecar."""
        areas, mask, inside, series = bolus.areas, bolus.mask, bolus.inside, bolus.series
        window = areas.window
        mean = np.zeros(mask.shape)
        mean[mask] = series[:, window.baseline_start : window.baseline_end].mean(axis=1)
        brain = np.zeros_like(mask)
        brain[mask] = inside
        position = np.argwhere(brain) @ np.asarray(bolus.grid.affine)[0, :3]
        right = np.zeros(len(series), bool)
        right[inside] = position > np.median(position)
        motion = estimate_motion(
            series[inside],
            fields=motion_fields(mean, brain, zooms=bolus.grid.zooms),
            level=mean[brain],
            area=areas.relative_cbv.value[inside],
            window=window,
        )
        defects = find_bolus_defects(series, areas, brain=inside, right=right, motion=motion)
        refused = [d for d in defects if d.name not in (self.inputs.accepted_defects or [])]
        if refused:
            names = ' '.join(defect.name for defect in refused)
            msg = (
                f'{"; ".join(defect.message for defect in refused)}. No blood volume is made from '
                f'{Path(self.inputs.series).name}: choose another --cbv-model, or accept it '
                f'(blood_volume.accepted_defects: {names})'
            )
            raise InputDataError(msg)
        during = float(motion[window.pass_start : window.pass_end].max())
        return {
            'BolusWindow': {
                'Baseline': [window.baseline_start, window.baseline_end],
                'FirstPass': [window.pass_start, window.pass_end],
            },
            'BolusContrastToNoise': round(min(window.contrast_to_noise, 1e6), 1),
            **({} if np.isnan(during) else {'BolusMotion': round(during, 2)}),
            SHARED_NOISE: bolus.shared_noise(),
            **({'AcceptedDefects': [d.message for d in defects]} if defects else {}),
        }


class EstimateArterialInput(Interface):
    """Find the arterial input, and on request deconvolve the bolus with it."""

    class Inputs(EstimateBolus.Inputs):
        deconvolves = traits.Bool(False, usedefault=True, desc='make CBF, MTT and Tmax', unit='')
        arterial_mask = image('voxels of the arterial input', '1', optional=True)
        oscillation_index = traits.Float(desc='largest oscillation of the residue', unit='1')
        haematocrit_factor = traits.Float(
            desc='plasma per blood, large over small vessels', unit='1'
        )

    class Outputs(TraitedSpec):
        boluscbf = estimated('flow by deconvolution', 'mL/100 g/min')
        mtt = estimated('mean transit time', 's')
        tmax = estimated('time of the maximum of the residue function', 's')
        arterial_area = traits.Float(desc='area of the arterial input', unit='1')
        arterial_curve = File(exists=True, desc='arterial input over time', unit='1/s')

    def _run_interface(self, runtime):
        bolus = _Bolus.of(self.inputs)

        artery = self._find_artery(bolus)
        if self.inputs.deconvolves:
            facts = {'OscillationIndex': self.inputs.oscillation_index}
            quantities = self._deconvolve(bolus.areas, artery)
            bolus.save(self._results, quantities, facts, runtime.cwd)

        self._save_artery(artery, bolus, Path(runtime.cwd))
        return runtime

    def _find_artery(self, bolus: _Bolus) -> ArterialInput:
        """Find the arterial input, or take the voxels of the user's mask."""
        areas = bolus.areas
        common: dict[str, Any] = {
            'echo_time': self.inputs.echo_time,
            'rate_variance': areas.rate_variance,
            'pass_start': areas.window.pass_start,
            'pass_end': areas.window.pass_end,
        }
        if isdefined(self.inputs.arterial_mask):
            chosen = load_masked(self.inputs.arterial_mask, bolus.mask, bolus.grid) > 0
            return arterial_input_from_mask(areas.rate_change, chosen, **common)
        return find_arterial_input(areas.rate_change, eligible=bolus.inside, **common)

    def _deconvolve(self, areas: BolusAreas, artery: ArterialInput) -> dict[str, Any]:
        """Give flow, transit time and delay."""
        after = slice(areas.window.pass_start, None)
        residue = deconvolve(
            areas.rate_change[:, after],
            artery.curve[after],
            repetition_time=self.inputs.repetition_time,
            oscillation_index=self.inputs.oscillation_index,
            rate_variance=areas.rate_variance,
            haematocrit_factor=self.inputs.haematocrit_factor,
        )
        cbf = flow_per_mass(residue.flow)
        return {'boluscbf': cbf, 'mtt': residue.transit_time, 'tmax': residue.delay}

    def _save_artery(self, artery: ArterialInput, bolus: _Bolus, folder: Path) -> None:
        """Write the curve, and say where it comes from."""
        window, step = bolus.areas.window, self.inputs.repetition_time
        end = window.pass_end if self.inputs.area == 'first-pass' else None
        self._results['arterial_area'] = float(step * artery.curve[window.pass_start : end].sum())
        facts = {
            'Voxels': np.argwhere(bolus.mask)[artery.voxels].tolist(),
            'FromMask': isdefined(self.inputs.arterial_mask),
            'RelativeHeight': round(artery.relative_height, 2),
            'SaturatedVoxels': int(artery.saturated.sum()),
            'Area': round(self._results['arterial_area'], 3),
        }
        path = folder / 'arterial_curve.tsv'
        self._results['arterial_curve'] = _save_curve(artery.curve, step, path, facts)


def _save_curve(rate_change: FloatArray, step: float, path: Path, facts: dict[str, Any]) -> str:
    """Write a change of R2* (1/s) over time (s), and what its sidecar says."""
    time = step * np.arange(len(rate_change))
    table = pd.DataFrame({'time': time, 'rate_change': rate_change})
    table.to_csv(path, sep='\t', index=False, float_format='%.6g')
    return Bundle(value=str(path), sidecar=facts).write(path.with_suffix(BUNDLE))


def _describe(course: LeakageCourse | None) -> dict[str, Any]:
    """Give the entries of the sidecar: how leaks go on in time; null is no saturation."""
    if course is None:
        return {}
    saturation = None if np.isinf(course.saturation) else course.saturation
    return {
        'ReturnRate': course.return_rate,
        'Lead': course.lead,
        'Saturation': saturation,
    }


RIM = np.ones((3, 3, 3))
"""A voxel in every direction."""


class CarryCBV(Interface):
    """Carry a blood volume that was measured once to a task, by the rule that was chosen."""

    class Inputs(BaseInterfaceInputSpec):
        mask = image('voxels to estimate', '1')
        cbv = estimated('blood volume, measured once', 'mL/mL')
        rule = traits.Enum('grubb', 'parcels', mandatory=True, desc='how it changes', unit='')
        task_cbf = estimated('flow of the task', 'mL/100 g/min', optional=True)
        baseline_cbf = estimated('flow of the baseline', 'mL/100 g/min', optional=True)
        grubb_exponent = traits.Float(desc='exponent of the power law', unit='1')
        atlas = image('parcel of every voxel', '', optional=True)
        table = File(exists=True, desc='percent change per parcel', unit='%')
        task = traits.Str(mandatory=True, desc='condition', unit='')

    class Outputs(TraitedSpec):
        cbv = estimated('blood volume of the task', 'mL/mL')

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.mask)
        cbv = load_estimate(self.inputs.cbv, mask, grid)
        if self.inputs.rule == 'grubb':
            carried = change_cbv_by_flow(
                cbv,
                load_estimate(self.inputs.task_cbf, mask, grid),
                load_estimate(self.inputs.baseline_cbf, mask, grid),
                grubb_exponent=self.inputs.grubb_exponent,
            )
        else:
            parcels = load_masked(self.inputs.atlas, mask, grid).astype(int)
            factors = read_parcel_factors(Path(self.inputs.table), self.inputs.task)
            carried = change_cbv_by_parcel(cbv, factors_of(parcels, factors))

        facts = sidecar_of(self.inputs.cbv) | {'ChangeWithTask': self.inputs.rule}
        self._results['cbv'] = save_estimate('cbv', carried, mask, grid, runtime.cwd, facts)
        return runtime


def factors_of(parcels: np.ndarray, factors: pd.Series) -> FloatArray:
    """Relative change of every voxel: that of its parcel, 0 outside all of the table."""
    return np.nan_to_num(factors.reindex(parcels).to_numpy(float))


def read_parcel_factors(path: Path, task: str) -> pd.Series:
    """
    Read the table of the change of blood volume per parcel.

    Relative change (not percent) by index of the parcel.

    Raises
    ------
    InputDataError
        If the file cannot be read, lacks a column or holds something else than numbers.
    """
    try:
        table = pd.read_csv(path, sep='\t', na_values=['n/a'])
    except (OSError, ValueError) as error:
        msg = f'blood_volume.parcel_table {path} cannot be read as TSV: {error}'
        raise InputDataError(msg) from error
    lacking = [name for name in ('index', task) if name not in table.columns]
    numbers = [] if lacking else [pd.api.types.is_numeric_dtype(table[n]) for n in ('index', task)]
    if lacking or not all(numbers) or table['index'].duplicated().any():
        msg = (
            f'blood_volume.parcel_table {path} needs the numeric columns index (of the atlas, '
            f'each once) and {task} (percent change of CBV); found {", ".join(table.columns)}'
        )
        raise InputDataError(msg)
    return PERCENT * table.set_index('index')[task]


class SummariseCBVRules(Interface):
    """Tell, per region, what each rule for the change of blood volume makes of that of CMRO2."""

    class Inputs(BaseInterfaceInputSpec):
        mask = image('brain', '1')
        grey_matter = image('grey-matter fraction', '1')
        minimum_grey_matter = traits.Float(mandatory=True, desc='voxels above this', unit='1')
        atlas = image('parcel of every voxel', '')
        atlas_table = File(exists=True, mandatory=True, desc='index and name per region', unit='')
        task_cbf = estimated('flow of the task', 'mL/100 g/min')
        baseline_cbf = estimated('flow of the baseline', 'mL/100 g/min')
        task_r2_prime = estimated("R2' of the task", '1/s')
        baseline_r2_prime = estimated("R2' of the baseline", '1/s')
        cbv = estimated('blood volume of the baseline', 'mL/mL')
        scale = traits.Float(mandatory=True, desc="CMRO2 per CBF R2'/CBV", unit='umol s/mL')
        venous_blood = File(
            exists=True, desc='comparison that scales OEF, where one does', unit=''
        )
        grubb_exponent = traits.Float(mandatory=True, desc='of the power law', unit='1')
        table = File(exists=True, desc='percent change per parcel', unit='%')
        task = traits.Str(mandatory=True, desc='condition', unit='')

    class Outputs(TraitedSpec):
        table = File(exists=True, desc='change of CMRO2 by rule and region', unit='')

    def _run_interface(self, runtime):
        mask, grid = read_mask(self.inputs.mask)
        mask = mask & (load_data(self.inputs.grey_matter) > self.inputs.minimum_grey_matter)
        atlas = load_masked(self.inputs.atlas, mask, grid).astype(int)
        names = ('task_cbf', 'baseline_cbf', 'task_r2_prime', 'baseline_r2_prime', 'cbv')
        maps = {name: load_value(getattr(self.inputs, name), mask, grid) for name in names}
        complete = np.isfinite(list(maps.values())).all(axis=0)
        factor = None
        if isdefined(self.inputs.table):
            factors = read_parcel_factors(Path(self.inputs.table), self.inputs.task)
            factor = factors_of(atlas, factors)
        parts = [
            self._rows(regions, np.where(complete, labels, 0), maps, factor)
            for regions, labels in region_levels(atlas, read_atlas(self.inputs.atlas_table))
        ]
        rows = pd.concat(parts, ignore_index=True)
        rows['index'] = rows['index'].where(rows['level'] == 'parcel').astype('Int64')
        path = Path(runtime.cwd) / 'cbv_rules.tsv'
        rows.to_csv(path, sep='\t', index=False, na_rep='n/a', float_format='%.7g')
        self._results['table'] = str(path)
        return runtime

    def _rows(
        self,
        regions: pd.DataFrame,
        labels: np.ndarray,
        maps: dict[str, FloatArray],
        factor: FloatArray | None,
    ) -> pd.DataFrame:
        """Rows of one level: means over the region, then the change of CMRO2 by each rule."""
        rows = regions[['level', 'index', 'name', 'network']].copy()
        rows['n_voxels'] = [int((labels == index).sum()) for index in regions['index']]
        means = {
            name: _means(values, labels, regions['index'].to_numpy())
            for name, values in maps.items()
        }
        flow, flow_0 = means['task_cbf'], means['baseline_cbf']
        rate, rate_0 = means['task_r2_prime'], means['baseline_r2_prime']
        tipping = cbv_change_that_flips_sign(
            task_cbf=flow, baseline_cbf=flow_0, task_r2_prime=rate, baseline_r2_prime=rate_0
        )
        ratio = np.where((flow > 0) & (flow_0 > 0), flow / flow_0, np.nan)
        changes = {'none': np.zeros(len(rows)), 'grubb': ratio**self.inputs.grubb_exponent - 1}
        known = np.full(len(labels), np.nan) if factor is None else factor
        changes['parcels'] = _means(known, labels, regions['index'].to_numpy())
        scale, path = self.inputs.scale, self.inputs.venous_blood
        if isdefined(path):
            scale *= applied_scale(json.loads(Path(path).read_text('utf-8')))
        for rule, change in changes.items():
            task = scale * flow * rate / (means['cbv'] * (1 + change))
            rows[f'cbv_change_{rule}'] = change / PERCENT
            rows[f'cmro2_change_{rule}'] = task - scale * flow_0 * rate_0 / means['cbv']
        rows['cbv_change_tipping'] = tipping / PERCENT
        signs = np.sign([rows[f'cmro2_change_{rule}'] for rule in changes])
        rows['sign_depends_on_rule'] = (signs * signs[0] < 0).any(axis=0)
        return rows


def _means(values: FloatArray, labels: np.ndarray, indices: np.ndarray) -> FloatArray:
    """Mean of each region; NaN without voxels."""
    size = int(max(indices.max(), labels.max(initial=0))) + 1
    count = np.bincount(labels, minlength=size)[indices].astype(float)
    count[count == 0] = np.nan
    total = np.bincount(labels, np.where(labels > 0, values, 0.0), minlength=size)[indices]
    return np.asarray(total / count, float)
