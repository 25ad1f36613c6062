"""Wire the branches of one participant: whatever inputs there are give whatever can be made."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bids_app.workflows._engine import Workflow
from bids_app.workflows.anatomy import is_normalised
from bids_app.workflows.graph import Graph, find_scans
from bids_app.workflows.wiring.anatomy import add_alignment, add_anatomy
from bids_app.workflows.wiring.blood_volume import add_blood_volume
from bids_app.workflows.wiring.bold import add_bold
from bids_app.workflows.wiring.change import add_changes
from bids_app.workflows.wiring.distortion import add_distortion
from bids_app.workflows.wiring.gas import add_gases
from bids_app.workflows.wiring.labels import add_labels
from bids_app.workflows.wiring.oxygen import add_oxygen
from bids_app.workflows.wiring.perfusion import add_perfusion
from bids_app.workflows.wiring.relaxometry import add_relaxometry
from bids_app.workflows.wiring.replay import add_saved
from bids_app.workflows.wiring.surfaces import add_surface_maps
from bids_app.workflows.wiring.template import add_template_maps

if TYPE_CHECKING:
    from bids_app.bids.scans import ParticipantInputs
    from bids_app.settings import RunSettings, Settings


def init_participant_wf(
    *, inputs: ParticipantInputs, settings: Settings, run: RunSettings
) -> tuple[Workflow, list[tuple[str, dict[str, str | None]]]]:
    """
    Build the graph of one unit of work.

    Branches whose inputs are absent are not built. Beside the graph stand the files it will make:
    rows of data/outputs.yml, with their entities.

    Raises
    ------
    InputDataError
        If there is nothing to build from.
    """
    anatomy = settings.anatomy
    corrects_motion = anatomy.registration == 'rigid' and anatomy.motion == 'rigid'
    scans = find_scans(inputs, corrects_motion=corrects_motion)
    found, saved = inputs.anatomy, inputs.saved
    graph = Graph(
        inputs=inputs,
        settings=settings,
        run=run,
        workflow=Workflow(inputs.label.replace('-', '_')),
        scans=scans,
        has_anatomy=bool(found or inputs.t1w or (saved and saved.has_anatomy)),
        has_template=is_normalised(inputs.t1w, found, anatomy)[0]
        or bool(saved and saved.to_template),
    )
    if inputs.saved is not None:
        add_saved(graph)
    elif graph.has_anatomy:
        add_anatomy(graph)
    if scans and inputs.saved is None:
        add_alignment(graph)
        add_relaxometry(graph)
        add_distortion(graph)
        add_perfusion(graph)
        add_bold(graph)
    if scans:
        add_blood_volume(graph)
        add_gases(graph)
        add_oxygen(graph)
        add_changes(graph)
        add_labels(graph)
        add_template_maps(graph)
        add_surface_maps(graph)
    return graph.workflow, graph.expected
