"""
Settings: frozen values made once by the command line and passed down by argument.

Every setting is declared once, in :mod:`~bids_app.settings.schema`, with default, help, unit,
limits, option of the command line and whether saved maps can follow it; command line, settings
file, replay and documentation are made from the declarations. Two kinds: the branches
(`Settings`), which change numbers and enter the digest of a participant, and `RunSettings`,
which do not.
"""

from bids_app.settings.provenance import (
    preset_reasons,
    setting_origin,
    setting_parameters,
    to_toml,
)
from bids_app.settings.resolve import (
    apply,
    parcel_file,
    parcel_tasks,
    presets,
    read_toml,
    resolve,
)
from bids_app.settings.schema import (
    AnatomySettings,
    BloodVolumeSettings,
    BoldSettings,
    ChangeSettings,
    GroupSettings,
    OxygenSettings,
    PerfusionSettings,
    RelaxometrySettings,
    RunSettings,
    Scale,
    Settings,
    declarations,
    field_of,
    flags,
    flatten,
    limits_of,
)
