"""Every folder says what may go in, and no two modules need each other."""

import ast

import grimp
import networkx as nx
import pytest

from tests.architecture.source import PACKAGE

FOLDERS = sorted(path.parent for path in PACKAGE.rglob('__init__.py'))


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_folder_says_in_one_line_what_may_go_in(folder):
    text = ast.get_docstring(ast.parse((folder / '__init__.py').read_text('utf-8')))
    line = text.splitlines()[0]
    assert line.endswith('.')
    assert 3 <= len(line.split()) <= 20


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_folder_of_modules_is_a_package(folder):
    bare = [
        path
        for path in folder.iterdir()
        if path.is_dir() and list(path.glob('*.py')) and not (path / '__init__.py').is_file()
    ]
    assert not bare


def test_no_module_imports_itself_by_way_of_others():
    graph = grimp.build_graph('bids_app', cache_dir=None)
    imports = nx.DiGraph()
    for module in graph.modules:
        for other in graph.find_modules_directly_imported_by(module):
            imports.add_edge(module, other)
    assert imports.number_of_edges() > 500
    assert not [found for found in nx.strongly_connected_components(imports) if len(found) > 1]
