"""Memory of a step follows the headers of its images, when it is about to be submitted."""

import nibabel as nb
import numpy as np
import pytest

from bids_app.interfaces.motion import EstimateMotion
from bids_app.interfaces.spatial import AverageVolumes, RegisterRigid
from bids_app.workflows._engine import Workflow, pe
from bids_app.workflows.memory import ISOLATED, NEEDS, USUAL, count_voxels, state_memory


def image(path, *shape):
    nb.Nifti1Image(np.zeros(shape, np.uint8), np.eye(4)).to_filename(path)
    return str(path)


def stated(interface):
    workflow = Workflow('sub_01')
    workflow.add_nodes([pe.Node(interface, name='step')])
    state_memory(workflow)
    return workflow.get_node('step').mem_gb_runtime


def test_every_voxel_and_volume_of_every_image_counts(tmp_path):
    files = [image(tmp_path / 'a.nii.gz', 10, 10, 10), image(tmp_path / 'b.nii', 10, 10, 5, 4)]
    expected = USUAL.base + USUAL.per_voxel * 3000 / 1e9
    assert stated(AverageVolumes(files=files)) == pytest.approx(expected)


def test_a_step_in_its_own_process_needs_more(tmp_path):
    path = image(tmp_path / 'a.nii', 4, 4, 4)
    need = stated(RegisterRigid(fixed=path, moving=path))
    assert need == pytest.approx(ISOLATED.base + ISOLATED.per_voxel * 128 / 1e9)


def test_published_size_of_a_task_run_states_what_was_measured(tmp_path):
    path = tmp_path / 'bold.nii'
    header = nb.Nifti1Header()
    header.set_data_shape((112, 112, 13, 400))
    path.write_bytes(header.binaryblock + bytes(4))
    assert stated(EstimateMotion(series=str(path))) == pytest.approx(2.06, rel=0.01)  # 1.4 taken


def test_image_that_cannot_be_read_counts_nothing(tmp_path):
    path = tmp_path / 'a.nii.gz'
    path.write_bytes(b'no image')
    assert count_voxels(str(path)) == 0


def test_every_kind_with_a_need_of_its_own_is_an_interface():
    from bids_app.interfaces import derivatives, relaxometry, spatial

    assert all(
        any(hasattr(module, kind) for module in (derivatives, relaxometry, spatial))
        for kind in NEEDS
    )
