"""The source of the package as syntax trees, for tests that read it."""

import ast
from functools import cache
from pathlib import Path

import bids_app

PACKAGE = Path(bids_app.__file__).parent


@cache
def trees():
    """Path below the package -> syntax tree, of every module."""
    return {
        path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text('utf-8'))
        for path in sorted(PACKAGE.rglob('*.py'))
    }


@cache
def nodes(kind, *, below=''):
    """Every node of a kind with the path of its module."""
    return [
        (path, node)
        for path, tree in trees().items()
        if path.startswith(below)
        for node in ast.walk(tree)
        if isinstance(node, kind)
    ]


def strings(below=''):
    """Every string literal that is not a docstring, with the path of its module."""
    docs = {
        id(body[0].value)
        for _, node in nodes((ast.Module, ast.ClassDef, ast.FunctionDef), below=below)
        if (body := node.body) and isinstance(body[0], ast.Expr)
    }
    return [
        (path, node.value)
        for path, node in nodes(ast.Constant, below=below)
        if isinstance(node.value, str) and id(node) not in docs
    ]
