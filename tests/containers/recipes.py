"""The two recipes of the image, read into the same terms."""

import re
from dataclasses import dataclass

from tests.paths import ROOT


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One stage of an image."""

    base: str
    commands: list[str]
    """Shell commands in order, without changes of the environment."""
    environment: dict[str, str]
    files: dict[str, str]
    """From the repository: source -> target."""
    from_builder: dict[str, str]
    arguments: dict[str, str]
    labels: dict[str, str]
    entry: str


def dockerfile() -> tuple[Stage, Stage]:
    """Read the Dockerfile."""
    text = (ROOT / 'Dockerfile').read_text('utf-8')
    text = re.sub(r'^#.*\n', '', text, flags=re.M)
    text = re.sub(r'\s*\\\n\s*', ' ', text)
    head, *stages = re.split(r'^(?=FROM )', text, flags=re.M)
    builder, image = (_docker_stage(stage, _pairs('ARG', head)) for stage in stages)
    return builder, image


def _docker_stage(text: str, outer: dict[str, str]) -> Stage:
    base = re.match(r'FROM (\S+)', text)[1]
    copied = re.findall(r'^COPY (.*) (\S+)$', text, re.M)
    stay = {path: path for names, path in copied if names.startswith('--from=builder ')}
    own = [names.split() for names, _ in copied if not names.startswith('--from')]
    files = {name: f'/src/{name}' for name in _context()} if ['.'] in own else {}
    runs = re.findall(r'^RUN (.*)$', text, re.M)
    entry = re.search(r'^ENTRYPOINT \["(.*)"\]$', text, re.M)
    return Stage(
        base=base.replace('${BASE}', outer['BASE']),
        commands=[command for run in runs for command in run.split(' && ')],
        environment=_pairs('ENV', text),
        files=files,
        from_builder=stay,
        arguments=_pairs('ARG', text),
        labels=_pairs('LABEL', text),
        entry=entry[1] if entry else '',
    )


def _pairs(word: str, text: str) -> dict[str, str]:
    lines = re.findall(rf'^{word} (.*)$', text, re.M)
    pairs = [pair for line in lines for pair in re.findall(r'([\w.]+)=("[^"]*"|\S+)', line)]
    return {name: value.strip('"') for name, value in pairs}


def _context() -> list[str]:
    """What .dockerignore lets into the build."""
    lines = (ROOT / '.dockerignore').read_text('utf-8').splitlines()
    return [line[1:] for line in lines if line.startswith('!')]


def definition() -> tuple[Stage, Stage]:
    """Read the Apptainer definition."""
    text = (ROOT / 'oxybold.def').read_text('utf-8')
    _, *stages = re.split(r'^(?=Bootstrap: )', text, flags=re.M)
    builder, image = (_apptainer_stage(stage) for stage in stages)
    return builder, image


def _apptainer_stage(text: str) -> Stage:
    head, *parts = re.split(r'^%', text, flags=re.M)
    sections = {}
    for part in parts:
        name, _, body = part.partition('\n')
        sections[name.strip()] = [line.strip() for line in body.splitlines() if line.strip()]
    arguments = dict(line.split('=', 1) for line in sections.get('arguments', []))
    exported = (line.removeprefix('export ') for line in sections.get('environment', []))
    ignored = ('cd ', 'export ')
    return Stage(
        base=re.search(r'^From: (.*)$', head, re.M)[1].replace('{{ BASE }}', arguments['BASE']),
        commands=[line for line in sections['post'] if not line.startswith(ignored)],
        environment=dict(line.split('=', 1) for line in exported),
        files=dict(line.split() for line in sections.get('files', [])),
        from_builder=dict(line.split() for line in sections.get('files from builder', [])),
        arguments={name: value for name, value in arguments.items() if name != 'BASE'},
        labels=dict(line.split(' ', 1) for line in sections.get('labels', [])),
        entry=' '.join(sections.get('runscript', [])),
    )
