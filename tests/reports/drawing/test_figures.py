import io
import re
import xml.etree.ElementTree as ET

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image

from bids_app.errors import ModelInputError
from bids_app.reports.drawing import figures

MASK = np.zeros((10, 12, 8), bool)
MASK[2:8, 3:9, 1:7] = True


def pixels(figure):
    return np.asarray(Image.open(io.BytesIO(figures.webp(figure))).convert('RGB'), int)


def share_of(image, colour):
    target = np.rint(255 * np.array(to_rgb(colour)))
    return np.mean(np.abs(image - target).max(axis=-1) < 12)


def slices():
    return figures.choose_slices(MASK, (4.0, 4.0, 6.0))


def scale(**changes):
    return figures.Scale(**{'limits': (0.0, 1.0), 'label': 'x (ms)', **changes})


def test_left_is_left_and_front_is_up():
    volume = np.zeros((10, 12, 8))
    volume[7, 8, 1] = 1.0  # right, front, lowest slice
    chosen = slices()
    picture = chosen.mosaic(volume)
    row, column = np.argwhere(picture == 1.0)[0]
    height, width = picture.shape[0] / chosen.n_rows, picture.shape[1] / chosen.n_columns
    assert column > width / 2
    assert column < width
    assert row < height / 2


def test_the_mosaic_holds_every_voxel_of_its_slices_once():
    volume = np.random.default_rng(0).random(MASK.shape)
    chosen = slices()
    picture = chosen.mosaic(volume)
    box = volume[slice(*chosen.x), slice(*chosen.y)][..., list(chosen.indices)]
    np.testing.assert_array_equal(np.sort(picture[np.isfinite(picture)]), np.sort(box.ravel()))


def test_a_finer_volume_fills_the_same_mosaic():
    coarse = np.random.default_rng(0).random(MASK.shape)
    fine = coarse.repeat(3, axis=0).repeat(3, axis=1)
    chosen = slices()
    expected = chosen.mosaic(coarse).repeat(3, axis=0).repeat(3, axis=1)
    np.testing.assert_array_equal(chosen.mosaic(fine, factor=3), expected)


def test_slices_span_the_mask_and_are_at_most_as_many_as_asked_for():
    chosen = figures.choose_slices(MASK, (4, 4, 6), heights=np.arange(8) * 6.0, n_slices=3)
    assert chosen.indices[0] == 1
    assert chosen.indices[-1] == 6
    assert len(chosen.indices) == 3
    assert chosen.heights == (6.0, *chosen.heights[1:-1], 36.0)
    assert chosen.x[0] <= 2
    assert chosen.x[1] >= 8


def test_an_empty_mask_is_refused():
    with pytest.raises(ModelInputError, match='mask is empty'):
        figures.choose_slices(np.zeros((3, 3, 3), bool), (1, 1, 1))


def test_missing_voxels_are_grey_and_differ_from_zero():
    zero = np.where(MASK, 0.0, np.nan)
    missing = zero.copy()
    missing[4:7, 4:7] = np.nan
    whole = pixels(figures.draw_map(zero, slices(), scale(), mask=MASK))
    holed = pixels(figures.draw_map(missing, slices(), scale(), mask=MASK))
    assert share_of(whole, figures.MISSING) < 0.005
    assert share_of(holed, figures.MISSING) > 0.05


def test_voxels_outside_the_mask_are_black():
    volume = np.ones(MASK.shape)
    picture = pixels(figures.draw_map(volume, slices(), scale(colormap='viridis'), mask=MASK))
    assert share_of(picture, figures.BLACK) > 0.2


@pytest.mark.parametrize(
    ('low', 'high', 'side'),
    [(0.0, 1.0, 'neither'), (-1.0, 1.0, 'min'), (0.0, 2.0, 'max'), (-1.0, 2.0, 'both')],
)
def test_the_colour_bar_points_to_values_beyond_its_ends(low, high, side):
    volume = np.where(MASK, low, np.nan)
    volume[3, 4, 2] = high
    assert figures.excess(volume, (0.0, 1.0)) == side
    figures.draw_map(volume, slices(), scale(), mask=MASK)


def test_the_colours_of_a_map_survive_the_palette():
    volume = np.where(MASK, 1.0, np.nan)
    picture = pixels(figures.draw_map(volume, slices(), scale(colormap='inferno'), mask=MASK))
    assert share_of(picture, '#fcffa4') > 0.15


@pytest.mark.parametrize('name', ['Limbic', 'Salience, ventral attention, calc'])
def test_names_of_curves_stay_within_the_chart(name):
    curves = {f'{name} {number}': (np.arange(3.0), np.zeros(3)) for number in range(8)}
    figure = figures.draw_curves(curves, labels=('time (s)', 'BOLD (%)'))
    figure.canvas.draw()
    (axes,) = figure.axes
    box = axes.get_legend().get_window_extent()
    assert box.x0 >= 0
    assert box.y1 <= figure.bbox.y1


def test_a_bright_flat_brain_keeps_its_contrast():
    brain = np.where(MASK, 0.9, 0.05)
    brain[4:6, 4:8] = 1.0
    picture = pixels(figures.draw_labels(np.zeros(MASK.shape, int), {}, slices(),
                                         backdrop=figures.Backdrop(brain)))  # fmt: skip
    inside = picture[picture.max(axis=-1) > 100][:, 0]
    assert np.ptp(inside) > 60, 'a tenth of the signal is more than a quarter of the greys'


def test_labels_without_a_colour_show_the_anatomy():
    labels = np.where(MASK, 7, 0)
    labels[4:6, 4:8] = 1
    backdrop = figures.Backdrop(np.ones(MASK.shape))
    picture = pixels(figures.draw_labels(labels, {1: '#D55E00'}, slices(), backdrop=backdrop))
    assert 0.02 < share_of(picture, '#D55E00') + share_of(picture, '#d66c18') < 0.4


def test_an_outline_is_drawn_where_the_border_is():
    backdrop = figures.Backdrop(np.zeros(MASK.shape))
    probability = MASK.astype(float)
    drawn = pixels(figures.draw_outlines(backdrop, {'#ff9d2e': probability}, slices()))
    blank = pixels(figures.draw_outlines(backdrop, {'#ff9d2e': probability * 0}, slices()))
    orange = [np.mean(picture[..., 0] - picture[..., 2] > 60) for picture in (drawn, blank)]
    assert orange[0] > 0.003
    assert orange[1] == 0


def test_pictures_are_the_same_bytes_each_time():
    volume = np.where(MASK, 0.4, np.nan)
    first, second = (figures.webp(figures.draw_map(volume, slices(), scale())) for _ in range(2))
    assert first == second


def histogram(name='x', **groups):
    content = figures.Histogram(
        groups=groups, limits=(0.0, 1.0), label='T2 <ms>', usual={'grey matter': (0.2, 0.4)}
    )
    return figures.svg(figures.draw_histogram(content), name=name)


def test_a_chart_is_an_svg_element_in_the_colour_of_the_page():
    element = histogram(**{'grey matter': np.linspace(0, 1, 50)})
    ET.fromstring(element.replace('xlink:', ''))
    assert element.startswith('<svg viewBox=')
    assert 'currentColor' in element
    assert figures.PAGE_TEXT not in element
    assert 'T2 &lt;ms&gt;' in element


def test_identifiers_of_different_charts_differ():
    one, two = (histogram(name, a=np.full(9, 0.2)) for name in 'ab')
    ids = [set(re.findall(r'\bid="([^"]+)"', element)) for element in (one, two)]
    assert not ids[0] & ids[1]
    assert set(re.findall(r'href="#([^"]+)"', one)) <= ids[0]


def test_a_histogram_of_nothing_can_be_drawn():
    assert '<svg' in histogram(a=np.full(5, np.nan))


def test_the_glass_brain_shows_the_strongest_value_on_every_line_of_sight():
    volume = np.full(MASK.shape, np.nan)
    volume[3, 4, 2], volume[6, 4, 2] = 2.0, -4.0
    glass = scale(limits=(-5.0, 5.0), colormap='RdBu_r')
    both = pixels(figures.draw_glass(volume, MASK, (4.0, 4.0, 6.0), glass))
    volume[3, 4, 2] = np.nan
    strong = pixels(figures.draw_glass(volume, MASK, (4.0, 4.0, 6.0), glass))
    third = both.shape[1] // 4
    np.testing.assert_array_equal(both[:, :third], strong[:, :third])  # from the side it is hidden
    assert (both != strong).any()


def test_slices_to_scroll_have_the_values_where_they_are_strong_and_the_anatomy_elsewhere():
    volume = np.zeros(MASK.shape)
    volume[7, 8, 1] = 5.0  # right, front, lowest slice of the brain
    anatomy = MASK * 100.0
    content, (width, height), indices = figures.stack_slices(
        volume, MASK, anatomy, scale(limits=(-5.0, 5.0), colormap='RdBu_r'), threshold=2.0
    )
    picture = np.asarray(Image.open(io.BytesIO(content)).convert('RGB'), int)
    assert picture.shape == (height * len(indices), width, 3)
    coloured = np.argwhere(np.ptp(picture, axis=-1) > 40)
    assert len(coloured) == 1
    row, column = coloured[0]
    assert row // height == indices.index(1)
    assert row % height < height / 2  # front is up
    assert column > width / 2  # right is right
