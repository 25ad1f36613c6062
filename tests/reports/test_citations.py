import pytest

from bids_app.errors import AppError
from bids_app.models.registry import MODELS
from bids_app.reports.citations import (
    citation_bibtex,
    citation_markdown,
    load_references,
    numbered,
    parse_bibtex,
    resolve,
)


def test_every_citation_of_the_registry_is_in_the_bibliography():
    cited = {spec.citation for models in MODELS.values() for spec in models.values()}
    assert cited <= load_references().keys()


@pytest.mark.parametrize('key', load_references())
def test_every_entry_can_be_found_in_a_library(key):
    fields = load_references()[key].fields
    assert {'author', 'title', 'journal', 'year'} <= fields.keys()
    assert 'doi' in fields or {'volume', 'pages'} <= fields.keys()


def test_entries_are_read_with_nested_braces_and_kept_verbatim():
    article = '@article{a1,\n  title = {The {MRI} of x},\n  year = {1999}\n}'
    text = article + '\n\n@book{b2,\n year={2}\n}'
    first, second = parse_bibtex(text)
    assert first.fields == {'title': 'The MRI of x', 'year': '1999'}
    assert first.source == article
    assert (second.key, second.kind) == ('b2', 'book')


def test_an_entry_without_its_last_brace_is_refused():
    with pytest.raises(AppError, match='line 1 has no closing brace'):
        list(parse_bibtex('@article{a1, title = {x}'))


def test_references_are_numbered_in_order_of_first_citation():
    text = 'Second [@kety1948]. First [@alsop2015; @kety1948].\n\nNext.'
    assert [reference.key for reference in resolve(text)] == ['kety1948', 'alsop2015']
    first, second = numbered(text)
    assert [part.numbers for part in first if part.numbers] == [(1,), (2, 1)]
    assert ''.join(part.text for part in second) == 'Next.'


def test_an_unknown_key_is_an_error_that_names_it():
    with pytest.raises(AppError, match='nobody1900'):
        resolve('Text [@nobody1900].')


def test_citation_files_hold_the_cited_references_only():
    methods = 'CBF [@alsop2015].'
    markdown, bibtex = citation_markdown(methods), citation_bibtex(methods)
    assert 'CBF [1].' in markdown
    assert 'https://doi.org/10.1002/mrm.25197' in markdown
    assert [entry.key for entry in parse_bibtex(bibtex)] == ['alsop2015']


def test_a_text_without_citations_has_no_references():
    assert resolve('Nothing cited, not even a@b.org [1].') == ()
