from . import callbacks as callbacks
from .augment import Policy as Policy
from .data import Collection as Collection
from .data import ImageDataset as ImageDataset
from .recipe import Phase as Phase
from .workflows.classifier import build_classifier as build_classifier
from .workflows.classifier import evaluate as evaluate
from .workflows.classifier import export_model as export_model
from .workflows.classifier import fit as fit
from .workflows.classifier import read_images as read_images
from .workflows.finished_run import FinishedRun as FinishedRun
from .workflows.finished_run import load_run as load_run
from .workflows.finished_run import run as run

__version__: str
