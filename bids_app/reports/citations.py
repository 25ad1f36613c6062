"""Citations of methods texts: ``[@key]`` resolved against references.bib."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.resources import files
from typing import TYPE_CHECKING

from bids_app.errors import AppError

if TYPE_CHECKING:
    from collections.abc import Iterator

CITATION = re.compile(r'\[(@[\w:.-]+(?:\s*;\s*@[\w:.-]+)*)\]')
"""One or more keys in brackets, such as ``[@alsop2015; @kety1948]``."""


@dataclass(frozen=True, slots=True)
class Reference:
    """One entry of the bibliography."""

    key: str
    kind: str
    fields: dict[str, str]
    source: str
    """The entry as written in the file."""

    @property
    def authors(self) -> str:
        """Authors in short: up to three, then et al."""
        names = self.fields.get('author', '').split(' and ')
        short = [name.replace(',', '').replace('. ', '.') for name in names if name != 'others']
        if len(names) > len(short) or len(short) > 3:
            return f'{short[0]} et al.'
        return ', '.join(short)

    @property
    def text(self) -> str:
        """Authors, title, journal, year in one line, without the DOI."""
        place = ' '.join(
            part
            for part in (
                self.fields.get('journal', ''),
                ':'.join(filter(None, [self.fields.get('volume'), self.fields.get('pages')])),
            )
            if part
        )
        authors = self.authors if self.authors.endswith('.') else f'{self.authors}.'
        return f'{authors} {self.fields["title"]}. {place} ({self.fields["year"]}).'

    @property
    def link(self) -> str:
        """Address of the DOI, else of the page of the journal; empty when there is none."""
        doi = self.fields.get('doi', '')
        return f'https://doi.org/{doi}' if doi else self.fields.get('url', '')


@dataclass(frozen=True, slots=True)
class Segment:
    """A piece of a methods text: words, or the numbers of the references cited there."""

    text: str
    numbers: tuple[int, ...] = ()


def load_references() -> dict[str, Reference]:
    """
    Read the packaged bibliography.

    Examples
    --------
    >>> load_references()['alsop2015'].fields['doi']
    '10.1002/mrm.25197'
    """
    text = (files('bids_app') / 'data' / 'references.bib').read_text('utf-8')
    return {reference.key: reference for reference in parse_bibtex(text)}


def parse_bibtex(text: str) -> Iterator[Reference]:
    """
    Read BibTeX entries whose fields are in braces.

    Raises
    ------
    AppError
        If the braces of an entry are not balanced.
    """
    for start in re.finditer(r'^@(\w+)\{([^,\s]+),', text, re.MULTILINE):
        end = _closing_brace(text, text.index('{', start.start()))
        body = text[start.end() : end]
        fields = {
            match['name'].lower(): re.sub(r'[{}]', '', match['value'])
            for match in re.finditer(
                r'(?P<name>\w+)\s*=\s*\{(?P<value>(?:[^{}]|\{[^{}]*\})*)\}', body
            )
        }
        yield Reference(start[2], start[1].lower(), fields, text[start.start() : end + 1])


def _closing_brace(text: str, opening: int) -> int:
    """Return the position of the brace that closes the one at `opening`."""
    depth = 0
    for match in re.compile(r'[{}]').finditer(text, opening):
        depth += 1 if match[0] == '{' else -1
        if depth == 0:
            return match.start()
    line = text.count('\n', 0, opening) + 1
    msg = f'references.bib: the entry of line {line} has no closing brace'
    raise AppError(msg)


def cited_keys(text: str) -> tuple[str, ...]:
    """
    List the keys a text cites, each once, in order of appearance.

    Examples
    --------
    >>> cited_keys('CBF [@alsop2015; @kety1948]. Again [@alsop2015].')
    ('alsop2015', 'kety1948')
    """
    keys = [key for group in CITATION.findall(text) for key in re.split(r'\s*;\s*', group)]
    return tuple(dict.fromkeys(key.lstrip('@') for key in keys))


def resolve(text: str) -> tuple[Reference, ...]:
    """
    Find the references of a text in order of appearance.

    Raises
    ------
    AppError
        If a key is not in references.bib.
    """
    references = load_references()
    unknown = [key for key in cited_keys(text) if key not in references]
    if unknown:
        msg = f'methods text cites {", ".join(unknown)}, which references.bib does not hold'
        raise AppError(msg)
    return tuple(references[key] for key in cited_keys(text))


def numbered(text: str) -> tuple[tuple[Segment, ...], ...]:
    """
    Split a methods text into paragraphs of words and reference numbers.

    Numbers count from 1 in the order of :func:`cited_keys`.
    """
    order = {key: number for number, key in enumerate(cited_keys(text), start=1)}
    paragraphs = [part.strip() for part in re.split(r'\n\s*\n', text) if part.strip()]
    return tuple(tuple(_segments(part, order)) for part in paragraphs)


def _segments(paragraph: str, order: dict[str, int]) -> Iterator[Segment]:
    """Yield the words between citations and the citations."""
    position = 0
    for match in CITATION.finditer(paragraph):
        yield Segment(paragraph[position : match.start()].rstrip() + ' ')
        yield Segment('', tuple(order[key] for key in cited_keys(match[0])))
        position = match.end()
    yield Segment(paragraph[position:])


def citation_markdown(methods: str) -> str:
    """
    Write the methods text with its numbered references as Markdown (CITATION.md).

    Raises
    ------
    AppError
        If a key is unknown.
    """
    references = resolve(methods)
    paragraphs = [
        ''.join(
            '[' + ', '.join(map(str, part.numbers)) + ']' if part.numbers else part.text
            for part in paragraph
        )
        for paragraph in numbered(methods)
    ]
    listed = [
        f'{number}. {reference.text} {reference.link}'.rstrip()
        for number, reference in enumerate(references, start=1)
    ]
    return '\n\n'.join(['# Methods', *paragraphs, '## References', '\n'.join(listed)]) + '\n'


def citation_bibtex(methods: str) -> str:
    """
    Give the BibTeX entries that a methods text cites (CITATION.bib).

    Raises
    ------
    AppError
        If a key is unknown.
    """
    return '\n\n'.join(reference.source for reference in resolve(methods)) + '\n'
