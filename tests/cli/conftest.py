"""The run folder and the exports of the tests of `kerastl.export`, for the commands that read them."""

from tests.export.conftest import (
    encoded,
    exported_run,
    finished_run,
    images,
    model,
    run_folder,
    run_with_export,
)

__all__ = ["encoded", "exported_run", "finished_run", "model", "images", "run_folder", "run_with_export"]
