"""Errors a user can act on, and the exit codes of the BIDS execution specification."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """Process exit codes (BIDS execution specification; docs/reference/exit-codes.md)."""

    OK = 0
    PARTICIPANT_FAILED = 1
    INVALID_DATASET = 16
    UNKNOWN_LEVEL = 17
    NOTHING_SELECTED = 18
    USAGE = 64
    BAD_INPUT = 65
    MISSING_INPUT = 66
    SOFTWARE = 70
    CANNOT_CREATE_OUTPUT = 73
    IO_ERROR = 74
    INTERRUPTED = 75


class AppError(Exception):
    """
    Anything that is the fault of the input, the settings or the machine, not of the code.

    The text says what was expected, what was found, in which file or argument, and what to do.
    """

    exit_code: ExitCode = ExitCode.SOFTWARE


class SettingsError(AppError, ValueError):
    """Command line, configuration file, preset or output location is not usable."""

    exit_code = ExitCode.USAGE


class SelectionError(AppError, ValueError):
    """Labels or filters select nothing, or name a label that is not in the dataset."""

    exit_code = ExitCode.NOTHING_SELECTED


class DatasetError(AppError, ValueError):
    """The dataset as a whole is not BIDS (dataset_description.json)."""

    exit_code = ExitCode.INVALID_DATASET


class InputDataError(AppError, ValueError):
    """A file was opened and is defective or contradicts another."""

    exit_code = ExitCode.BAD_INPUT


class MissingInputError(AppError, OSError):
    """A file cannot be opened: absent, empty, truncated or not fetched."""

    exit_code = ExitCode.MISSING_INPUT


class GridMismatchError(InputDataError):
    """Two images that must share a voxel grid do not."""


class OutputError(AppError, OSError):
    """The output folder cannot be created or written."""

    exit_code = ExitCode.CANNOT_CREATE_OUTPUT


class ModelInputError(AppError, ValueError):
    """An argument of a model lies outside its range or has the wrong shape."""

    exit_code = ExitCode.BAD_INPUT


class StepKilledError(AppError):
    """The process of a step was killed; by the kernel, where memory runs out."""
